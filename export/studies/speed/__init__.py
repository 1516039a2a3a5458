"""Measure the speed of every engine beside its bound, and what it depends on: `make benchmark` writes docs/speed.md."""
