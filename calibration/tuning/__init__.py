"""Fine-tune a network with its quantisation emulated in training."""
