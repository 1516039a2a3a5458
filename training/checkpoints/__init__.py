"""Read, recognise and slim checkpoints."""
