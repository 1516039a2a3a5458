"""Choose the range of every quantised tensor: draw clips, count values, choose ranges, store them in a table."""
