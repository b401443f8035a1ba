"""Keras network -> ONNX -> int8 -> verified bundle."""
