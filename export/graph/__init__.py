"""Make and type the ONNX graph: model source, tracing, half precision, convolutions."""
