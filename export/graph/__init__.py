"""Make the ONNX graph and give it its types: reading the input, tracing, half precision, convolutions."""
