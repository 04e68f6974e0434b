"""Network families, and trained networks as files: folder with card, ONNX.

Front door: `families.make_network`; `saved_model.load_model` reads a trained network.
"""
