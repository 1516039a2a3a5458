"""ModelSpec: what a model takes, what it gives and how its outputs are decoded. It is stored in the artifact itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Literal

from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.errors import InputError, SpecError
from runtime.spec.anchors import A2NetLayout
from runtime.spec.constants import A2NetDecoding, Decoding, TwoStageDecoding
from runtime.spec.time_axis import FeatureSampling, Uneven

SCHEMA = 3
"""Version of the ModelSpec layout; a file with a higher number needs a newer release of this project."""

METADATA_KEY = "model_spec"
"""Key under which an ONNX file carries its ModelSpec as JSON (`metadata_props`)."""

FEATURES_OUTPUT = "features"
"""A backbone's output, float32 [B,C]: one step of features per snippet."""

FAMILY_PARTS = {"a2net": "a2net", "a2net_decoding": "a2net", "two_stage": "two_stage"}
"""Fields of a ModelSpec that one family has and the others leave out."""

Dimension = int | str
"""A fixed size, or the name of a dynamic axis (only "batch" is dynamic)."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an engine."""

    name: str
    shape: tuple[Dimension, ...]
    """Sizes; "batch" marks the dynamic axis."""
    dtype: Literal["uint8", "int32", "float32"]


@dataclass(frozen=True)
class Quantization:
    """How a network of 8-bit layers got its ranges (the package `calibration`)."""

    target: Literal["openvino", "tensorrt"]
    """Engine it is made for: activations are uint8 with zero points, or int8 without."""
    method: str
    """How ranges were chosen: minmax, percentile, entropy, mse or output."""
    remedies: tuple[str, ...] = ()
    """What was done besides: "equalised", "bias corrected", "fine-tuned"."""
    clips: int = 0
    """Windows on which ranges were measured."""
    videos: dict[str, str] = field(default_factory=dict)
    """Videos they are from → the first 16 digits of the file's SHA-256."""
    clips_sha256: str = ""
    """Over the pixels of all clips."""
    table_sha256: str = ""
    """Of the table of ranges, which lies beside the ONNX file."""
    kept: tuple[str, ...] = ()
    """Layers that stay in floating point to keep the accuracy; the network's output layers always do."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything the runtime must know about an engine file."""

    family: Literal["afsd", "a2net", "two_stage", "i3d"]
    """"two_stage" classifies and refines the proposals of an A2Net (section III-G). "i3d" is a backbone: it makes one
    step of features of each snippet of frames, and detects nothing by itself."""
    stream: Literal["rgb", "flow", "rgb+flow", "features"]
    """What the network sees; "rgb+flow" is a two-stream network in one engine, with the inputs `frames` and `flow`."""
    classes: tuple[str, ...]
    """Names of the action classes; class index 0 of the network is the background and has no name here. A backbone has
    neither classes nor levels."""
    sample_fps: float
    """Frames, or steps of features, per second the network sees; of features each video has a rate of its own, near
    this one."""
    window_length: int
    """T: frames, or steps of features, of one window; frames of a backbone's snippet."""
    window_stride: int
    """Frames or steps between the starts of neighbouring windows."""
    frame_size: tuple[int, int]
    """(height, width) in pixels to which a video frame is resized, aspect ratio not kept."""
    crop_size: tuple[int, int]
    """(height, width) in pixels of the centre crop the network sees. On features both sizes are (0, 0)."""
    level_lengths: tuple[int, ...]
    """Number of locations (A2Net: cells) of each pyramid level, fine to coarse; their sum is N."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    decoding: Decoding = field(default_factory=Decoding)
    sampling: Literal["fixed", "whole_video", "every_frame"] = "fixed"
    """"fixed": windows of frames at `sample_fps`. "whole_video": one window per video, sampled at
    fps·min(T / frames, 1), as AFSD does on ActivityNet. "every_frame": a backbone sees each frame of a video. In both
    `sample_fps` serves sources without a rate."""
    features: FeatureSampling | None = None
    """How the features are made that the network was trained on; None on frames."""
    feature_streams: tuple[int, ...] = ()
    """Streams of the feature set that the network was trained on, counted from 0; empty: all."""
    feature_uneven: Uneven = "cut"
    """What was done in training where the streams of a video differ in length."""
    feature_resize: int | None = None
    """Steps to which the features of every video were resized in training; None: `window_length` of a network that
    sees whole videos, else not resized."""
    a2net: A2NetLayout | None = None
    """Where A2Net's outputs lie; None of AFSD, as the next."""
    a2net_decoding: A2NetDecoding | None = None
    """In place of `decoding`."""
    two_stage: TwoStageDecoding | None = None
    """Beside `decoding`; None of the others."""
    precision: str = "fp32"
    """Type of the heavy arithmetic: fp32, fp16, bf16, int8 or fp8."""
    quantization: Quantization | None = None
    """Of an int8 or fp8 network."""
    multiply_adds: int = 0
    """Multiply-adds of one window, counted over convolutions and matrix products; 0 = not counted."""
    checkpoint_sha256: str = ""
    """SHA-256 of the checkpoint file the weights came from."""
    made_with: dict[str, str] = field(default_factory=dict)
    """Versions of the libraries that made the artifact."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.sample_fps <= 0:
            raise ValueError(f"sample_fps is {self.sample_fps}, expected a positive number")
        if self.window_length <= 0 or not 0 < self.window_stride <= self.window_length:
            raise ValueError(
                f"window_length {self.window_length} and window_stride {self.window_stride}: "
                "expected 0 < stride ≤ length"
            )
        if (self.stream == "features") != (self.features is not None):
            raise ValueError(f"stream is {self.stream}: expected `features` on features, and only there")
        if len(set(self.feature_streams)) < len(self.feature_streams) or min(self.feature_streams, default=0) < 0:
            raise ValueError(f"feature_streams is {self.feature_streams}, expected numbers from 0, each once")
        for part, family in FAMILY_PARTS.items():
            if (self.family == family) != (getattr(self, part) is not None):
                raise ValueError(f"family is {self.family}: expected `{part}` of {family}, and only there")
        sizes = zip(self.crop_size, self.frame_size, strict=True)
        if self.stream != "features" and any(c <= 0 or c > f for c, f in sizes):
            raise ValueError(f"crop_size {self.crop_size} does not fit frame_size {self.frame_size}")
        if self.is_backbone:
            if self.classes or self.level_lengths or self.stream == "features":
                raise ValueError("a backbone sees frames, and has neither classes nor level_lengths")
        elif not self.classes or not self.level_lengths or min(self.level_lengths) <= 0:
            raise ValueError("classes and level_lengths must not be empty")

    @property
    def is_backbone(self) -> bool:
        """Whether the network makes features, to be seen by another one, in place of detections."""
        return self.family == "i3d"

    @property
    def channels(self) -> int:
        """Channels of one frame: 3 for RGB, 2 for flow (x, y); or the width of the features."""
        if self.stream == "features":
            return next(int(tensor.shape[1]) for tensor in self.inputs if tensor.name == "features")
        return 2 if self.stream == "flow" else 3

    @property
    def num_locations(self) -> int:
        """N, the number of locations over all pyramid levels."""
        return sum(self.level_lengths)

    def to_json(self) -> str:
        """The spec as compact JSON, the form stored in an artifact."""
        return json.dumps(to_mapping(self), separators=(",", ":"), sort_keys=True)


def spec_from_json(text: str, source: str) -> ModelSpec:
    """Read a ModelSpec from JSON text; `source` names the artifact in error messages.

    Raises:
        SpecError: not JSON, a newer schema, an unknown or missing key, a value out of range.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise SpecError(f"{source}: its ModelSpec is not JSON ({error}); export the model again") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise SpecError(
            f"{source}: its ModelSpec has schema {schema}, this release reads up to {SCHEMA}; "
            "install a newer release or export the model again with this one"
        )
    try:
        return from_mapping(ModelSpec, data)
    except StructureError as error:
        raise SpecError(f"{source}: its ModelSpec does not fit: {error}; export the model again") from None


AGREEING = (
    "family", "classes", "sample_fps", "sampling", "window_length", "window_stride", "frame_size", "crop_size",
    "level_lengths", "decoding",
)  # fmt: skip
"""Fields of ModelSpec that two streams must have in common."""


def fuse_specs(rgb: ModelSpec, flow: ModelSpec) -> ModelSpec:
    """The spec of two streams together: inputs `frames`, `flow` and `lengths`, thresholds of the fused scores.

    Raises:
        InputError: not an RGB and a flow model, or they differ in what they must have in common.
    """
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
        multiply_adds=rgb.multiply_adds + flow.multiply_adds,
        checkpoint_sha256="+".join(filter(None, (rgb.checkpoint_sha256, flow.checkpoint_sha256))),
        precision=rgb.precision if rgb.precision == flow.precision else f"{rgb.precision}+{flow.precision}",
    )


def _first(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
