"""Comparison of runs: tables on the terminal, and compare.html, one HTML file without external parts.

Front door: `page`. `facts` has all that is compared, `terminal` and `tables` show it.
"""
