"""Sound files and transforms: reading, spectrograms, STFT, separation by masks, distortion metrics.

Front door: `spectrogram` (the front end); `separation.Separator` applies a network to sound.
"""
