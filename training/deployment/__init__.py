"""Wrap a trained network as an engine runs it, and its I3D as a feature backbone."""
