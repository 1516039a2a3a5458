"""Compare an exported model with PyTorch: raw outputs (parity) and detections (drift)."""
