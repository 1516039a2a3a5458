"""Name the limits of what is read, which are looked at before memory is taken; set one to change it.

from runtime.common import limits
limits.IMAGE_PIXELS = 500_000_000
"""

from __future__ import annotations

TEXT_BYTES = 1 << 30
"""Largest text file (JSON, tables, lists), unpacked, in bytes; all of ActivityNet's detections are some 0.1 GB."""
CONFIG_BYTES = 1 << 20
"""Largest YAML configuration in bytes."""
FEATURE_BYTES = 16 << 30
"""Largest array of features, unpacked, in bytes: a day of video at 8 steps a second and 4096 channels is 11 GB."""
IMAGE_PIXELS = 1 << 28
"""Most pixels of an image or of a frame of a video: 16,384 × 16,384."""
THRESHOLDS = 1000
"""Most tIoU thresholds, and most edges of durations, of one evaluation."""
MESSAGE_LETTERS = 1000
"""Longest message in letters; the middle of a longer one is left out."""
