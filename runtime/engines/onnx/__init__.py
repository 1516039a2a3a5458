"""Run ONNX files with ONNX Runtime, and read what they carry without it."""
