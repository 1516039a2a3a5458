"""Describe a model: ModelSpec, decoding constants, anchors, the time axis of features."""
