"""Hold the options and the test set of a calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from calibration.judging.sensitivity import Way
from calibration.ranges.choose import PERCENTILE, Method, Numbers
from calibration.tuning.fine_tune import Tuning
from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.ranges import Count, Range, Seed, check_ranges
from runtime.errors import InputError
from runtime.features.video_features import Video

Target = Literal["openvino", "tensorrt"]

NUMBERS: dict[Target, Numbers] = {"openvino": "uint8", "tensorrt": "int8"}
"""Target → type of its activations: processors multiply uint8 by int8; TensorRT takes no zero points."""

COST_CLIPS = 4
"""Number of clips on which the cost of layers is measured."""

SEARCH_CLIPS = 8
"""Number of clips for searching ranges, correcting biases and equalising channels."""


@dataclass(frozen=True)
class CalibrationOptions:
    """Holds the options of a calibration."""

    target: Target = "openvino"
    """Library that will run the network."""
    numbers: Numbers | None = None
    """Type of the activations; None: the target's. "fp8" is for TensorRT only."""
    method: Method = "minmax"
    """Method of choosing ranges."""
    percentile: Annotated[float, Range(50, 100, above=True, what="percent")] = PERCENTILE
    """Share of the values inside the range in percent, for method "percentile"."""
    clips: Count = 64
    """Number of clips to draw."""
    seed: Seed = 0
    """Seed of the draw of clips."""
    equalise: bool = False
    """Whether to equalise channels, see `quantise.remedies`."""
    correct_bias: bool = False
    """Whether to correct biases, see `quantise.remedies`."""
    keep: tuple[str, ...] = ()
    """Layers that stay in floating point from the beginning: names, or names of modules that contain layers."""
    max_drop: Annotated[float, Range(0, 100, what="points of mAP")] | None = None
    """Largest accepted drop in points of mAP; None: no layer is restored."""
    way: Way = "alone"
    """How the cost of layers is measured."""
    trade_off: bool = False
    """Whether to continue beyond the budget until all layers are restored."""
    force: bool = False
    """Whether to accept test videos among the videos to calibrate on."""
    tune: Tuning | None = None
    """Options of fine-tuning with rounded layers; None: no fine-tuning."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.target == "openvino" and self.numbers not in (None, "uint8"):
            raise InputError(f"numbers: got {self.numbers}, OpenVINO computes in uint8; leave it out")
        if self.target == "tensorrt" and self.numbers == "uint8":
            raise InputError("numbers: got uint8, TensorRT takes only int8 or fp8 (it refuses zero points)")

        if self.tune and (self.equalise or self.stored == "fp8"):
            raise InputError(
                "fine-tuning takes neither equalised channels nor fp8; leave out --equalise or --numbers fp8"
            )

    @property
    def stored(self) -> Numbers:
        """Type of the activations."""
        return self.numbers or NUMBERS[self.target]


@dataclass(frozen=True)
class TestSet:
    """Holds the test videos and their annotations."""

    __test__ = False  # not a class of tests
    videos: tuple[Video, ...]
    truth: tuple[VideoAnnotation, ...] | None = None
    """Annotations in the order of `videos`; None: the float network's own detections serve as labels."""
