"""Measure the speed of engines beside the paper's Table 3 and the machine's ceiling."""
