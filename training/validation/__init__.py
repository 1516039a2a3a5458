"""Measure mAP while a network is trained, and keep the weights with the highest."""
