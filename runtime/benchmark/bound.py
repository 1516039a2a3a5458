"""Compute the bound of a network's speed from ceilings and decoding cost measured in the same session.

Nothing but the network's arithmetic at the machine's ceiling and the decoding of the video is counted, all of it spread
perfectly over the cores. What is missing to the bound is what an engine loses: memory traffic, layers that are no
convolution, post-processing, waiting.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

from runtime.inputs import open_input
from runtime.spec.model import ModelSpec

OPERATIONS = 2
"""Operations per multiply-add, as ceilings count them."""


def clip_bound(multiply_adds: int, frames: int, ceiling_gflops: float) -> float:
    """Return the largest clip fps of a network.

    Args:
        multiply_adds: multiply-adds of a window.
        frames: frames of a window.
        ceiling_gflops: ceiling of the whole machine at the network's number type, GFLOP/s.
    """
    return frames * ceiling_gflops * 1e9 / (OPERATIONS * multiply_adds)


def video_bound(multiply_adds: int, frames: int, ceiling_gflops: float, decoding_core_s: float, cores: int) -> float:
    """Return the largest video fps: 1 / (multiply-adds per frame / ceiling + decoding per frame / cores).

    Args:
        multiply_adds: multiply-adds that the network computed for the whole video.
        frames: sampled frames of the video, each counted once.
        ceiling_gflops: as in `clip_bound`.
        decoding_core_s: seconds of one core for decoding, sampling and resizing, per sampled frame.
        cores: cores over which decoding can be spread.
    """
    network_s = OPERATIONS * multiply_adds / (frames * ceiling_gflops * 1e9)
    return 1 / (network_s + decoding_core_s / cores)


def measure_decoding(video: Any, spec: ModelSpec) -> float:
    """Return the core-seconds per sampled frame of decoding, sampling, resizing and cutting windows, all threads.

    The video is read as a detector reads it, without a network.

    Raises:
        VideoError, InputError: see `open_input`.
    """
    start = time.process_time()
    with closing(open_input(video, spec, allow_truncated=True)) as frames:
        for _ in frames.windows():
            pass
        return (time.process_time() - start) / max(frames.timing.frames, 1)


def is_streaming(spec: ModelSpec) -> bool:
    """Return whether an artifact computes each frame once; it has no speed of windows."""
    return spec.streaming is not None


def multiply_adds_of_run(spec: ModelSpec, frames: int, windows: int) -> int:
    """Return the multiply-adds of a whole run of `windows` windows and `frames` sampled frames, each counted once."""
    backbone = 0 if spec.streaming is None else spec.streaming.multiply_adds_per_frame
    return frames * backbone + windows * spec.multiply_adds
