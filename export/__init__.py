"""Checkpoint to artifact: ONNX, OpenVINO, and the comparison that stands before each."""
