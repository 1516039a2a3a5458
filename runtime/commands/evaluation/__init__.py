"""Carry out `afsd evaluate`: the engine's run, training videos, the threshold, the report."""
