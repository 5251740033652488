"""Learned functions of an image: encoders, their trunks, weights files, ONNX."""
