"""Run TensorRT engines: loading, CUDA memory, batches in flight."""
