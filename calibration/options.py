"""What a calibration is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from calibration.judging.sensitivity import Way
from calibration.ranges.choose import PERCENTILE, Method, Numbers
from calibration.tuning.fine_tune import Tuning
from runtime.annotations.activitynet import VideoAnnotation
from runtime.errors import InputError
from runtime.features.video_features import Video

Target = Literal["openvino", "tensorrt"]

NUMBERS: dict[Target, Numbers] = {"openvino": "uint8", "tensorrt": "int8"}
"""What each target's activations are stored in: processors multiply uint8 by int8; TensorRT takes no zero points."""

COMPARED = 4
"""Clips on which layers are compared for their cost."""

SEARCHED = 8
"""Clips on which ranges are searched, and channels measured for equalisation."""


@dataclass(frozen=True)
class CalibrationOptions:
    """How to calibrate."""

    target: Target = "openvino"
    numbers: Numbers | None = None
    """Type of the activations; None: the target's. "fp8" is for TensorRT alone."""
    method: Method = "minmax"
    percentile: float = PERCENTILE
    clips: int = 64
    seed: int = 0
    """Of the draw of clips."""
    equalise: bool = False
    correct_bias: bool = False
    keep: tuple[str, ...] = ()
    """Layers that stay in floating point from the beginning, by name or by the beginning of their name."""
    max_drop: float | None = None
    """Points of mAP that may be lost; None: no layer is restored."""
    way: Way = "alone"
    """How the cost of layers is measured."""
    trade_off: bool = False
    """Walk the whole path of restored layers, beyond the budget."""
    force: bool = False
    """Calibrate on test videos all the same."""
    tune: Tuning | None = None
    """Fine-tune the checkpoint with its layers rounded before they are written; None: not."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed: got {self.seed}, expected 0 or more")
        if not 50 < self.percentile <= 100:
            raise InputError(f"percentile: got {self.percentile:g}, expected more than 50, up to 100")
        if self.max_drop is not None and not 0 <= self.max_drop < math.inf:
            raise InputError(f"max_drop: got {self.max_drop:g}, expected points of mAP, 0 or more")
        if self.target == "openvino" and self.numbers not in (None, "uint8"):
            raise InputError(f"numbers: got {self.numbers}, OpenVINO computes in uint8; leave it out")
        if self.target == "tensorrt" and self.numbers == "uint8":
            raise InputError("numbers: got uint8, TensorRT takes int8 or fp8 alone (it refuses zero points)")

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
    """Videos that judge, and what is known of them."""

    __test__ = False  # not a class of tests
    videos: tuple[Video, ...]
    truth: tuple[VideoAnnotation, ...] | None = None
    """Annotations in the same order; None: the float network's own detections are the measure."""
