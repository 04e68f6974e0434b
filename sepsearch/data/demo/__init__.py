"""The demo ensemble: 18 public-domain pieces as ABC notation, arranged, performed and rendered to audio.

Front door: `rendering.demo_folder`.
"""
