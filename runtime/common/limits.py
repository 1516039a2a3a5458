"""Name the limits of what is read, which are looked at before memory is taken; set one to change it.

from runtime.common import limits
limits.IMAGE_PIXELS = 500_000_000
"""

from __future__ import annotations

TEXT_BYTES = 1 << 30
"""Largest text file (JSON, tables, lists), unpacked, in bytes; all of ActivityNet's detections are some 0.1 GB."""
CONFIG_BYTES = 1 << 20
"""Largest YAML configuration in bytes."""
FEATURE_BYTES = 4 << 30
"""Largest array of features in an .npz, unpacked, in bytes: 36 hours of video at 8 steps a second and 1024 channels;
an .npy is never in memory as a whole and has no limit."""
FEATURE_RATIO = 200
"""Largest ratio of an array's bytes to those that it is packed in, above `PACKED_BYTES`; of features it is below 20."""
PACKED_BYTES = 1 << 26
"""Bytes that a packed array may have whatever its ratio."""
IMAGE_BYTES = 1 << 30
"""Largest file of an image in bytes."""
CHECKPOINT_VALUES = 1_000_000
"""Most tensors, numbers and texts in a checkpoint; one for resuming has some thousands."""
IMAGE_PIXELS = 1 << 28
"""Most pixels of an image or of a frame of a video: 16,384 × 16,384."""
THRESHOLDS = 1000
"""Most tIoU thresholds, and most edges of durations, of one evaluation."""
MESSAGE_LETTERS = 1000
"""Longest message in letters; the middle of a longer one is left out."""
