"""Boundary pooling for engines: the ONNX function."""
