"""Measure what quantisation costs: detections, single layers, a budget of mAP, its plot."""
