"""Serve models by NVIDIA's Triton Inference Server: write a model repository, and run what its Python models run."""
