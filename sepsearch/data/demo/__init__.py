"""The demo ensemble: 31 pieces of 17 public-domain titles, from ABC notation, performed and rendered to audio.

Front door: `rendering.demo_folder`.
"""
