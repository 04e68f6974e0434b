"""Runs beside each other: whether they can be compared, and whether their final models differ.

Front door: `significance`; `comparability` names what keeps two runs from being compared.
"""
