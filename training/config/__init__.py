"""Hold the training configuration and its YAML presets."""
