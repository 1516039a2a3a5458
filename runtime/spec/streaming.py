"""Describe a streaming artifact: the backbone as a step over chunks of frames, with explicit state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from runtime.common.ranges import Channels, Range, check_ranges
from runtime.errors import InputError

STEADY, EDGE, HEAD = "steady", "edge", "head"
"""Names of the parts of a streaming artifact, before those of their tensors as in "head/loc": the step inside a video,
the step that touches an end of the video, and the head on a window of features."""

EDGES = ("start", "valid", "end")
"""Inputs of the step that touches an end of the video, int64 [1]: the frame at which the chunk begins, the number of
frames of the video, and the frame, a multiple of the coarsest rate, up to which the network runs, over frames of
zeros."""

STREAMING_CHUNK = 128
"""Frames of a step: longer ones are no faster."""
LIVE_CHUNK = 16
"""Frames of a step in a live source, whose detections a longer one would delay."""

Positions = Annotated[int, Range(1, 4096, what="positions")]
"""Size of a state along an axis."""


@dataclass(frozen=True)
class StreamState:
    """Describes what a layer keeps of its input from one chunk for the next."""

    shape: tuple[Positions, ...]
    """Shape [1,C,n,H,W]: the last n positions."""
    dtype: Literal["float32", "float16", "uint8", "int8"]
    zero: Annotated[int, Range(-128, 255)] = 0
    """Number that stands for 0, which all positions before the first frame hold."""


@dataclass(frozen=True)
class StreamFeature:
    """Describes one output of the step: float32 [1,channels,t], the head's input [B,channels,t]."""

    name: str
    channels: Channels
    rate: Annotated[int, Range(1, 4096, what="frames")]
    """Frames per position."""
    delay: Annotated[int, Range(0, 4096, what="positions")]
    """Number of positions by which the output is late: the output of a chunk that begins at frame f begins at position
    f / rate − delay of the video."""


@dataclass(frozen=True)
class Streaming:
    """Describes the step and its place in time."""

    overlap: Annotated[int, Range(0, 4096, what="frames")]
    """Number of frames before a chunk that the step takes too."""
    states: tuple[StreamState, ...]
    features: tuple[StreamFeature, ...]
    multiply_adds_per_frame: Annotated[int, Range(0, 10**15)] = 0
    """Multiply-adds of the backbone for one frame; `ModelSpec.multiply_adds` is then the head's, for one window."""

    def __post_init__(self) -> None:
        for part in (self, *self.states, *self.features):
            check_ranges(part)
        if not self.features or len({feature.name for feature in self.features}) < len(self.features):
            raise InputError("streaming: expected at least one feature, each with a name of its own")
        if any(self.multiple % feature.rate for feature in self.features):
            rates = ", ".join(str(feature.rate) for feature in self.features)
            raise InputError(f"streaming: rates of {rates} frames, expected divisors of the largest")
        if LIVE_CHUNK % self.multiple:
            raise InputError(f"streaming: a rate of {self.multiple} frames, expected a divisor of {LIVE_CHUNK}")

    @property
    def multiple(self) -> int:
        """Number of frames of which chunks, strides and windows are multiples: the coarsest rate."""
        return max(feature.rate for feature in self.features)

    @property
    def delay(self) -> int:
        """Number of frames by which the latest feature is late."""
        return max(feature.rate * feature.delay for feature in self.features)
