"""Training of networks on spectrogram rows: loop, checkpoints, metrics.

Front door: `loop.fit`.
"""
