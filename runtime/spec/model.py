"""Define ModelSpec, which every artifact carries: the model's inputs, outputs and decoding."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.common.ranges import Count, FramesPerSecond, Range, check_ranges
from runtime.errors import InputError, SpecError
from runtime.spec.anchors import A2NetLayout, Cells
from runtime.spec.decoding_constants import A2NetDecoding, Decoding, TwoStageDecoding
from runtime.spec.model_card import ModelCard, OperatingPoint
from runtime.spec.streaming import Streaming
from runtime.spec.tensors import TensorSpec, require_fitting_tensors
from runtime.spec.time_axis import FeatureSampling, Uneven
from runtime.spec.training_videos import TrainingVideos, join_training_videos

SCHEMA = 6
"""Version of the ModelSpec layout; a file with a higher number needs a newer release of this project. From 4
on every artifact carries a digest."""

METADATA_KEY = "model_spec"
"""Key under which an ONNX file carries its ModelSpec as JSON (`metadata_props`)."""

FEATURES_OUTPUT = "features"
"""Name of a backbone's output, float32 [B,C]: one step of features per snippet."""

FAMILY_PARTS = {"a2net": "a2net", "a2net_decoding": "a2net", "two_stage": "two_stage"}
"""Family to which each family-specific field of a ModelSpec belongs."""

Steps = Annotated[int, Range(1, 100_000, what="frames or steps")]
"""Length of a window; 100,000 frames are an hour at 28 frames per second."""
Pixels = Annotated[int, Range(0, 16_384, what="pixels")]
"""Side of a frame; 0 on features."""


@dataclass(frozen=True)
class Quantization:
    """Records how the ranges of an 8-bit network were obtained (the package `calibration`)."""

    target: Literal["openvino", "tensorrt"]
    """Engine of the quantised network: uint8 activations with zero points (OpenVINO), or int8 without (TensorRT)."""
    method: str
    """Method that chose the ranges: minmax, percentile, entropy, mse or output."""
    remedies: tuple[str, ...] = ()
    """Further measures against the loss of accuracy: "equalised", "bias corrected", "fine-tuned"."""
    clips: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Number of windows on which ranges were measured."""
    videos: dict[str, str] = field(default_factory=dict)
    """Videos of the clips → the first 16 digits of the file's SHA-256."""
    clips_sha256: str = ""
    """SHA-256 of the pixels of all clips."""
    table_sha256: str = ""
    """SHA-256 of the table of ranges, which lies beside the ONNX file."""
    kept: tuple[str, ...] = ()
    """Layers kept in floating point for accuracy, beside the network's output layers, which always are."""


@dataclass(frozen=True)
class ModelSpec:
    """Holds everything that the runtime must know about an engine file."""

    family: Literal["afsd", "a2net", "two_stage", "i3d", "part"]
    """Family of the network. "two_stage" classifies and refines the proposals of an A2Net (section III-G). "i3d" is a
    backbone: it makes one step of features of each snippet of frames, and detects nothing itself. "part" is a piece of
    a network that is built alone to be compared and timed, with any tensors."""
    stream: Literal["rgb", "flow", "rgb+flow", "features"]
    """Input of the network; "rgb+flow" is a two-stream network in one engine, with the inputs `frames` and `flow`."""
    classes: tuple[str, ...]
    """Names of the action classes, without the background (class index 0 of the network); empty for a backbone."""
    sample_fps: FramesPerSecond
    """Frames, or steps of features, per second of the input; the rate of features may differ a little by video."""
    window_length: Steps
    """Length T of a window in frames or steps of features; for a backbone, frames of a snippet."""
    window_stride: Steps
    """Number of frames or steps between the starts of consecutive windows."""
    frame_size: tuple[Pixels, Pixels]
    """Size (height, width) in pixels to which a video frame is resized, aspect ratio not kept; (0, 0) on features."""
    crop_size: tuple[Pixels, Pixels]
    """Size (height, width) in pixels of the centre crop that the network sees; (0, 0) on features."""
    level_lengths: tuple[Cells, ...]
    """Number of locations (A2Net: cells) of each pyramid level, fine to coarse, summing to N; empty for a backbone."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    decoding: Decoding = field(default_factory=Decoding)
    sampling: Literal["fixed", "whole_video", "every_frame"] = "fixed"
    """Sampling of frames. "fixed": windows at `sample_fps`. "whole_video": one window per video, sampled at
    fps·min(T / frames, 1), as AFSD does on ActivityNet. "every_frame": each frame of a video, for a backbone. With the
    last two, `sample_fps` is the rate of sources that declare none."""
    features: FeatureSampling | None = None
    """Sampling of the features that the network was trained on; None on frames."""
    feature_streams: tuple[Annotated[int, Range(0, 1000)], ...] = ()
    """Numbers, from 0, of the feature set's streams that the network was trained on; empty: all."""
    feature_uneven: Uneven = "cut"
    """Treatment in training of videos whose streams differ in length."""
    feature_resize: Steps | None = None
    """Number of steps to which the features of every video were resized in training; None: `window_length` for a
    network that sees whole videos, else not resized."""
    a2net: A2NetLayout | None = None
    """Anchors and points of an A2Net; None for other families."""
    a2net_decoding: A2NetDecoding | None = None
    """Decoding constants of an A2Net, in place of `decoding`; None for other families."""
    two_stage: TwoStageDecoding | None = None
    """Constants between the stages of a two-stage detector, beside `decoding`; None for other families."""
    streaming: Streaming | None = None
    """Step and features of a streaming network; its `inputs` and `outputs` are those of one window all the same. None:
    a network on windows."""
    precision: str = "fp32"
    """Number type of the heavy layers: fp32, fp16, bf16, int8 or fp8."""
    quantization: Quantization | None = None
    """Quantisation of an int8 or fp8 network; None for other precisions."""
    multiply_adds: Annotated[int, Range(0, 10**18)] = 0
    """Multiply-adds of one window, counted over convolutions and matrix products; 0: not counted."""
    training_videos: TrainingVideos | None = None
    """Videos that the network was trained and chosen on; None: not known, as of published weights."""
    checkpoint_sha256: str = ""
    """SHA-256 of the checkpoint file that the weights are from."""
    made_with: dict[str, str] = field(default_factory=dict)
    """Versions of the libraries that made the artifact."""
    card: ModelCard = field(default_factory=ModelCard)
    """What the model says of itself to people."""
    operating_point: OperatingPoint | None = None
    """Score from which on detections are shown; None: nobody has measured one (`afsd evaluate --write-threshold`)."""
    schema: Count = SCHEMA

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.window_stride > self.window_length:
            raise InputError(
                f"window_length {self.window_length} and window_stride {self.window_stride}: expected stride ≤ length"
            )
        if (self.stream == "features") != (self.features is not None):
            raise InputError(f"stream is {self.stream}: expected `features` on features, and only there")
        if len(set(self.feature_streams)) < len(self.feature_streams):
            raise InputError(f"feature_streams is {self.feature_streams}, expected numbers from 0, each once")
        for part, family in FAMILY_PARTS.items():
            if (self.family == family) != (getattr(self, part) is not None):
                raise InputError(f"family is {self.family}: expected `{part}` of {family}, and only there")
        sizes = zip(self.crop_size, self.frame_size, strict=True)
        if self.stream != "features" and any(c <= 0 or c > f for c, f in sizes):
            raise InputError(f"crop_size {self.crop_size} does not fit frame_size {self.frame_size}")
        if self.is_backbone:
            if self.classes or self.level_lengths or self.stream == "features":
                raise InputError("a backbone sees frames, and has neither classes nor level_lengths")
        elif not self.classes or not self.level_lengths:
            raise InputError("classes and level_lengths must not be empty")
        if self.streaming is not None:
            self._require_streaming(self.streaming)
        require_fitting_tensors(self)

    def _require_streaming(self, streaming: Streaming) -> None:
        if self.family != "afsd" or self.stream == "features" or self.sampling != "fixed":
            raise InputError("streaming: expected an afsd on windows of frames, and only there")
        for name in ("window_length", "window_stride"):
            if getattr(self, name) % streaming.multiple:
                raise InputError(f"{name}: got {getattr(self, name)}, expected a multiple of {streaming.multiple}")

    @property
    def is_backbone(self) -> bool:
        """Whether the network makes features for another network instead of detections."""
        return self.family == "i3d"

    @property
    def channels(self) -> int:
        """Number of channels of one frame: 3 for RGB, 2 for flow (x, y); or the width of the features."""
        if self.stream == "features":
            return next(int(tensor.shape[1]) for tensor in self.inputs if tensor.name == "features")
        return 2 if self.stream == "flow" else 3

    @property
    def num_locations(self) -> int:
        """Number of locations N over all pyramid levels."""
        return sum(self.level_lengths)

    def to_json(self) -> str:
        """Return the spec as compact JSON, the form stored in an artifact."""
        return json.dumps(to_mapping(self), separators=(",", ":"), sort_keys=True)


def spec_from_json(text: str, origin: str) -> ModelSpec:
    """Read a ModelSpec from JSON text; `origin` names the artifact in error messages.

    Raises:
        SpecError: not JSON, a newer schema, an unknown or missing key, a value out of range.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{origin}: its ModelSpec is not JSON ({error}); export the model again") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise SpecError(
            f"{origin}: its ModelSpec has schema {schema}, this release reads up to {SCHEMA}; "
            "install a newer release or export the model again with this one"
        )
    try:
        return from_mapping(ModelSpec, data)
    except StructureError as error:
        raise SpecError(f"{origin}: its ModelSpec does not fit: {error}; export the model again") from None


AGREEING = (
    "family", "classes", "sample_fps", "sampling", "window_length", "window_stride", "frame_size", "crop_size",
    "level_lengths", "decoding",
)  # fmt: skip
"""Fields of ModelSpec that must be equal in two streams."""


def fuse_specs(rgb: ModelSpec, flow: ModelSpec) -> ModelSpec:
    """Return the spec of two fused streams: inputs `frames`, `flow` and `lengths`, thresholds of the fused scores.

    Raises:
        InputError: the models are not one on RGB and one on flow, or they differ in a field that must be equal.
    """
    if rgb.streaming is not None or flow.streaming is not None:
        raise InputError("two streams: streaming models are joined in one file: afsd export RGB --flow FLOW --stream")
    if (rgb.stream, flow.stream) != ("rgb", "flow"):
        raise InputError(
            f"two streams: got models on {rgb.stream} and on {flow.stream}, expected one on rgb, then one on flow"
        )
    differing = [name for name in AGREEING if getattr(rgb, name) != getattr(flow, name)]
    if differing:
        listed = "; ".join(f"{name} {getattr(rgb, name)!r} and {getattr(flow, name)!r}" for name in differing)
        raise InputError(f"two streams: the rgb and the flow model differ in {listed}; expected the same")
    frames, lengths = (next(t for t in rgb.inputs if t.name == name) for name in ("frames", "lengths"))
    flow_frames = next(t for t in flow.inputs if t.name == "frames")
    decoding = rgb.decoding
    return replace(
        rgb,
        stream="rgb+flow",
        inputs=(frames, replace(flow_frames, name="flow"), lengths),
        decoding=replace(
            decoding,
            score_threshold=_first(decoding.fused_threshold, decoding.score_threshold),
            nms_floor=_first(decoding.fused_floor, decoding.nms_floor),
        ),
        operating_point=None,  # measured on one stream
        multiply_adds=rgb.multiply_adds + flow.multiply_adds,
        training_videos=join_training_videos(rgb.training_videos, flow.training_videos),
        checkpoint_sha256="+".join(filter(None, (rgb.checkpoint_sha256, flow.checkpoint_sha256))),
        precision=rgb.precision if rgb.precision == flow.precision else f"{rgb.precision}+{flow.precision}",
    )


def _first(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
