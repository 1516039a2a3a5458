"""Train in PyTorch: networks, losses, data and the training loop."""
