"""Build TensorRT engines: choose the library, build the plan, read the precision of its layers."""
