"""Map steps of features to seconds of their video: frames per second, stride and window of the snippets.

A video of F frames gives T snippets; step i is the feature of the frames i·stride … i·stride + window. Positions along
the steps are continuous and count edges, as everywhere in this project: step i covers [i, i + 1], its centre is i + ½
and stands for the middle of its snippet:

    seconds = ((x − ½)·stride + offset) / fps          offset = window / 2, frames
    x       = (seconds·fps − offset) / stride + ½

How others write the same:

- ActionFormer (`feat_stride`, `num_frames`, `default_fps`) counts centres, g = x − ½, so
  seconds = (g·feat_stride + 0.5·num_frames) / fps. `default_fps`, where given, is used for every video, else the
  `fps` of the JSON. `downsample_rate` r takes every r-th step: `every`. `feat_stride` ≤ 0 (ActivityNet) spreads a
  fixed number of steps over the video: `whole_video`.
- OpenTAD (`feature_stride`, `sample_stride`, `offset_frames`) counts centres too:
  seconds = (g·feature_stride·sample_stride + offset_frames) / fps, with `offset_frames` for `offset` (8 for snippets of
  16 frames) and fps = `frame` / `duration` of the JSON. Its resized data sets are `whole_video`.
- A2Net (THUMOS14, the code) has no offset: step i begins at frame i·4, whatever its snippet sees. That is
  `offset` = stride / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Literal

from runtime.common.ranges import Count, FramesPerSecond, Range, check_ranges
from runtime.errors import InputError

Uneven = Literal["cut", "stretch"]
"""Treatment of streams of different length: cut to the shortest, if they differ by a step or two (flow has one frame
less than RGB); or stretched to the longest by linear interpolation, however much they differ (OpenTAD)."""


Frames = Annotated[float, Range(0, 1e6, above=True, what="frames")]
"""A stride or window of snippets."""
FrameOffset = Annotated[float, Range(0, 1e6, what="frames")]
"""A position in frames from the start of a video."""


@dataclass(frozen=True)
class TimeAxis:
    """Maps the steps of one video to seconds and back."""

    fps: float
    """Frames per second of the video."""
    stride: float
    """Number of frames from one step to the next."""
    offset: float
    """Frame in the middle of step 0."""

    @property
    def step_s(self) -> float:
        """Seconds from one step to the next."""
        return self.stride / self.fps

    def seconds(self, position: float) -> float:
        """Return the seconds from the start of the video of a position x in steps (edges; see the module docstring)."""
        return ((position - 0.5) * self.stride + self.offset) / self.fps

    def position(self, seconds: float) -> float:
        """Return the position x in steps of a time in seconds, the inverse of `seconds`."""
        return (seconds * self.fps - self.offset) / self.stride + 0.5

    def extent_s(self, steps: int) -> float:
        """Return the seconds of video that `steps` ≥ 1 snippets cover: ((T − 1)·stride + 2·offset) / fps."""
        return ((steps - 1) * self.stride + 2 * self.offset) / self.fps


@dataclass(frozen=True)
class FeatureSampling:
    """Describes how the features of a data set were sampled; the module docstring has the names in other projects."""

    stride: Frames = 1.0
    """Number of frames from one feature to the next."""
    window: Frames = 1.0
    """Number of frames of a snippet; with the default stride, features of single frames."""
    fps: FramesPerSecond | None = None
    """Frames per second of every video, whatever the annotations say; None: each video's own, from the annotations."""
    offset: FrameOffset | None = None
    """Frame in the middle of step 0; None: window / 2."""
    every: Count = 1
    """Use every n-th feature."""
    whole_video: bool = False
    """Whether a fixed number of steps is spread evenly over each video; stride, window, fps and offset are not used."""

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def middle(self) -> float:
        """Frame in the middle of step 0."""
        return self.window / 2 if self.offset is None else self.offset

    def time_axis(
        self, video: str, steps: int, *, fps: float | None = None, duration_s: float | None = None
    ) -> TimeAxis:
        """Return the time axis of one video.

        Args:
            video: name of the video in errors.
            steps: number of steps T ≥ 1 that are used (after `every`).
            fps: rate of the video in the annotations.
            duration_s: length of the video in seconds in the annotations.

        Raises:
            InputError: the rate, or for `whole_video` the duration, is known neither from the sampling nor from the
                annotations, or is not a positive number.
        """
        for name, value in (("fps", fps), ("duration_s", duration_s)):
            if value is not None and not (isinstance(value, Real) and 0 < float(value) < float("inf")):
                raise InputError(f"{video}: {name} is {value!r}, expected a positive number, or None where unknown")
        if self.whole_video:
            if duration_s is None:
                raise InputError(
                    f"{video}: no duration; features spread over the whole video need it: add it to the annotations"
                )
            return TimeAxis(fps=steps / duration_s, stride=1.0, offset=0.5)
        rate = self.fps or fps
        if rate is None:
            raise InputError(
                f"{video}: no frames per second: give one for all videos (fps, --fps), or add fps to its annotations"
            )
        return TimeAxis(fps=rate, stride=self.stride * self.every, offset=self.middle)
