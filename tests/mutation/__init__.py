"""Plant small faults in the arithmetic, one at a time, and see whether a test notices (`make mutation`)."""
