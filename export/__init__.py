"""Export checkpoints as ONNX, OpenVINO and TensorRT files, each compared with its original before it is written."""
