"""TensorRT engines: which library, how a plan is built, what its layers compute in."""
