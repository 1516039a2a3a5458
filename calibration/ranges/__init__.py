"""Choose the range of every quantised number: clips, histograms, the choice, the table that keeps it."""
