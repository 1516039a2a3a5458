"""Suppress overlapping candidates: soft and hard NMS, on a whole video or on a stream."""
