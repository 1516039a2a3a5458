"""Train a network: the loop, its order of clips and optimiser, its state on disk, what it logs and draws."""
