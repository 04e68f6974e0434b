"""The command `sepsearch separate`: recordings in, an audio file for every voice out.

Front door: `files.separate_all`. `inputs` finds recordings and models, `outputs` places files, `pipes` has the streams.
"""
