"""Provide boundary pooling for engines: the ONNX function, and the TensorRT plugin with its CUDA kernel."""
