"""Store frames and optical flow for training."""
