"""Quantise networks to INT8 and FP8 and measure what that does to detections.

`calibrate` does these in order: `ranges.clips` draws windows of real videos, `quantise.placement` finds where numbers
are quantised, `ranges.collect` counts values in histograms, `ranges.choose` chooses what the integers span,
`quantise.remedies` reduces the error, `quantise.qdq` writes the graph, `judging.judge` and `judging.sensitivity`
measure the cost, and `judging.budget` restores layers until the drop of mAP is inside a budget.
"""
