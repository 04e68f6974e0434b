"""Final models: chosen, scored on test titles (SI-SDR, ratio), with audio samples.

Front door: `final_models`; `test_scores` separates the test titles, `audio_samples` keeps clips.
"""
