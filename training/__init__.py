"""PyTorch: the networks, their losses, data and training loop."""
