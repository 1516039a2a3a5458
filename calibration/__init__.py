"""INT8 and FP8: which clips, which ranges, where Q/DQ goes, what each layer costs, what it does to detections.

In the order a network goes through: `clips` draws windows of real videos, `layout` says where numbers are quantised,
`collect` fills `histogram`s on the clips, `ranges` chooses what the integers span, `remedies` mends what can be mended
for free, `qdq` writes the graph, `judge` and `sensitivity` say what it cost, `budget` gives layers back until the cost
is inside it, and `calibrate` does all of it.
"""
