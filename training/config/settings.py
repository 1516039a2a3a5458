"""Define the typed, strict training configuration; `training.config.files` reads it from YAML.

The defaults are the published THUMOS14 RGB recipe (AFSD section 4.1 and the released code's command line), with the
released code's faults corrected; `docs/differences.md` lists them and the options that restore each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from runtime.common.ranges import (
    Count,
    Frames,
    FramesPerSecond,
    Number,
    Pixels,
    Processes,
    Range,
    Seed,
    Share,
    Weight,
    check_ranges,
)
from runtime.spec.decoding_constants import A2NetDecoding, Decoding
from runtime.spec.model_card import ModelCard
from runtime.spec.time_axis import FeatureSampling, Uneven
from training.a2net.config import A2NetConfig, A2NetLossConfig
from training.afsd.config import LossConfig, ModelConfig
from training.data.feature_mixing import FeatureMixing
from training.data.folds import FoldRule, require_regular_expression
from training.two_stage.config import TwoStageConfig, TwoStageLossConfig

Family = Literal["afsd", "a2net", "two_stage"]
Stream = Literal["rgb", "flow", "features"]


class SettingNames(NamedTuple):
    """Names the sections and fields of `Config` that hold the settings every network has."""

    section: str
    """Section with `num_classes`; a configuration belongs to the first family of `NETWORKS` whose section is set."""
    window_section: str
    """Section of the network that sees the window; the stream is its `stream`, or "features" if it has none."""
    window_length: str
    """Field of `window_section` with the window length T."""
    in_features: str
    """Field of `window_section` with the width of the features."""


NETWORKS: Mapping[Family, SettingNames] = {
    "two_stage": SettingNames("two_stage", "a2net", "window_steps", "in_channels"),
    "a2net": SettingNames("a2net", "a2net", "window_steps", "in_channels"),
    "afsd": SettingNames("model", "model", "clip_length", "in_features"),
}
"""Names of each family's settings; `training.families` has everything else that differs between families."""


@dataclass(frozen=True)
class DataConfig:
    """Describes where the data is and how clips are cut from it."""

    root: str = "data"
    """Folder of the data set; relative paths count from the working directory. Also the URL of one in an object store
    (s3://…, extra `remote`), of which `afsd train` and `afsd cross-validate` keep a mirror (docs/training.md)."""
    annotations: str = "annotations.json"
    """Annotations, relative to `root`: ActivityNet JSON, or files of an annotation tool (docs/formats.md)."""
    frames: str = "frames"
    """Frame store, relative to `root`."""
    train_subset: str = "training"
    val_subset: str = ""
    """Subset whose videos say while training which epoch is the best (`run.validate_every`): never the test videos. Of
    a model on features also "held_out": the videos that the fold holds out, meant for inner folds (`inner_group`).
    Empty: none."""
    features: str = "features.json"
    """Description of the feature set, relative to `root`; for models on features, in place of `annotations`, `frames`
    and `train_subset`."""
    streams: tuple[Annotated[int, Range(0, 1000)], ...] = ()
    """Streams of the feature set to use, counted from 0, in the order of their channels (A2Net, Table VII); empty: all.
    Kept in the checkpoint and in every engine."""
    split: FoldRule = field(default_factory=lambda: FoldRule(by="splits"))
    """Rule that divides the videos of a feature set into training and test videos."""
    fold: str | int = ""
    """Name of the fold of `split`; empty: the only one."""
    inner_group: str = ""
    """Regular expression of groups among a fold's training videos, for inner folds that choose settings without test
    videos: `fold` 1/S2 trains on the training videos of fold 1 without the group S2 (see `FoldRule.group`)."""
    inner_features: Literal["fold", "unseen"] = "fold"
    """Features of an inner fold: those of its outer fold ("fold"), or of the fold that tests its group ("unseen").
    If the extractor was trained on each fold's training videos, only "unseen" features resemble those of a test."""
    feature_sampling: FeatureSampling | None = None
    """Sampling with which the features were made; read from their description and kept in the checkpoint."""
    feature_uneven: Uneven = "cut"
    """What is done where the streams of a video differ in length; read from the description, kept in the checkpoint."""
    feature_resize: Frames | None = None
    """Steps to which the features of every video are resized, None: not resized; read from the description, kept in the
    checkpoint."""
    classes: tuple[str, ...] = ()
    """Action names in index order; empty: sorted names of the annotations."""
    class_agnostic: bool = False
    """Count every label as the one action that `classes` names (ActivityNet: proposals, labelled afterwards)."""
    sampling: Literal["fixed", "whole_video"] = "fixed"
    """Sample all videos at `sample_fps` and cut them into clips; or sample each video at its own rate, as one clip."""
    sample_fps: FramesPerSecond = 10.0
    """Sampled frames per second; for features, steps per second of the training videos, read from the data."""
    frame_size: Pixels = 112
    """Side of the square stored frame, pixels."""
    clip_stride: Frames = 30
    """Frames between training clips of a video."""
    keep_share: Share = 0.5
    """Smallest share of an action inside a clip with which the action is a target there, cut at the clip's borders."""
    store_share: Share = 1.0
    """Smallest share inside a clip that at least one action needs for the clip to be trained on."""
    clip_window: Literal["correct", "reference"] = "correct"
    """First frame that counts as inside a clip: the clip's first, or its second ("reference", released code)."""
    rearrangement: Literal["thumos14", "activitynet"] = "thumos14"
    """Length th of the background piece that is moved into an action: the video's shortest action as its clips show
    it ("thumos14"), or a quarter of that (released ActivityNet code)."""
    background: Literal["correct", "reference"] = "correct"
    """Origin of the background piece: frames without any action; or any gap between two boundaries, which can lie in a
    longer action or in padding ("reference", released code)."""
    test_stride: Frames = 128
    """Frames between test windows."""
    flip: bool = True
    """Horizontal flip with probability ½; off where left and right mean different classes."""
    flow_flip: Literal["correct", "reference"] = "correct"
    """Whether flipped flow changes the sign of its x component ("correct") or not ("reference", released code)."""
    padding: Literal["before", "after"] = "before"
    """Pad short clips before normalisation (−1, as published) or after it (0, as at test)."""
    window_borders: Literal["zeros", "stream"] = "zeros"
    """What the backbone sees beyond a clip's ends: zeros, as at test on windows; or the video's own frames, as in a
    streaming network, for 1.4 times the work. Beyond the video's ends it sees frames of 0."""
    contrastive_share: Share = 1.0
    """Share of the clips that also give a rearranged clip for the triplet loss; each costs a second forward pass."""
    repeat_share: Share = 0.0
    """Repeat feature windows of classes that less than this share of the windows show (`clips.repeat_rare`); 0: off."""
    mixing: FeatureMixing = field(default_factory=FeatureMixing)
    """Augmentation that mixes other moments into the features."""
    workers: Annotated[int, Range(0, 1000)] = 4

    def __post_init__(self) -> None:
        check_ranges(self)
        require_regular_expression("inner_group", self.inner_group)
        if self.window_borders == "stream" and self.sampling == "whole_video":
            raise ValueError("data.window_borders is stream: a clip of a whole video has no frames beyond its ends")

    @property
    def features_path(self) -> Path:
        """Path of the feature set's description."""
        return Path(self.root) / self.features


LARGEST_RATE = 1e30
"""Largest learning rate; with larger ones Adam's step does not fit float32."""


@dataclass(frozen=True)
class OptimiserConfig:
    """Holds the settings of Adam; AFSD's published recipe has no schedule, warm-up, clipping or averaging."""

    learning_rate: Annotated[float, Range(0, LARGEST_RATE)] = 1e-5
    backbone_rate: Weight = 1.0
    """Factor on the backbone's learning rate: 1 on THUMOS14, 0.1 on ActivityNet."""
    weight_decay: Weight = 1e-3
    batch_size: Count = 1
    epochs: Count = 16
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Schedule of the learning rate; "step": a tenth after `step_epoch` epochs (A2Net)."""
    step_epoch: Number = 0
    warmup_steps: Number = 0
    decoupled_decay: bool = False
    """Use AdamW instead of L2 inside Adam."""
    clip_norm: Weight = 0.0
    """Largest gradient norm; 0 is off."""
    ema: Share = 0.0
    """Decay of the exponential moving average of the weights; 0 is off."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if (self.schedule == "step") != (self.step_epoch > 0):
            raise ValueError(
                f"schedule is {self.schedule!r}, step_epoch {self.step_epoch}: expected an epoch of 1 or more with "
                "'step', and 0 with any other"
            )


@dataclass(frozen=True)
class RunConfig:
    """Holds seed, device, limits, logging and initial weights of a run."""

    seed: Seed = 2020
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    devices: Processes = 1
    accelerator: str = "auto"
    max_minutes: Weight = 0.0
    """Stop (and save) after this many minutes; 0 is off. The cosine schedule ends at the last epoch either way."""
    save_minutes: Annotated[float, Range(0, 1e6, what="minutes")] = 10.0
    """Write `last.ckpt` also after this many minutes without one, so that a crash loses no more; 0: after each epoch
    only. A signal that ends the run (Ctrl-C, SIGTERM, SIGHUP) writes it too."""
    keep_epochs: bool = True
    """Write the weights after every epoch (`epoch_NN.ckpt`), to choose among them: the released models are those of
    epochs 15 and 16 (THUMOS14 RGB, flow), 10 and 6 (ActivityNet)."""
    epoch_format: Literal["ckpt", "safetensors"] = "ckpt"
    """Format of these files and of the best weights (`best.ckpt`); `.safetensors` are read without unpickling.
    `last.ckpt` holds the training state, which is a pickle in either case."""
    validate_every: Count = 1
    """Measure mAP on `data.val_subset` after every n-th epoch and at the end of the run; the weights with the highest
    are kept as `best.ckpt`."""
    val_tiou: str = "0.3:0.1:0.7"
    """Thresholds of the tIoU over which that mAP is averaged, in the form of `afsd evaluate --tiou`."""
    early_stopping: Number = 0
    """End the run after this many measurements in a row without a higher mAP; 0 is off."""
    logger: tuple[Literal["csv", "tensorboard", "wandb", "mlflow"], ...] = ("csv", "tensorboard")
    """Receivers of the losses and of mAP. `metrics.csv` is always written: `curves.png` and `--resume` read it."""
    log_every: Count = 10
    max_steps: Number = 0
    """Stop (and save) after this many optimiser steps, where the cosine schedule then ends; 0 is off."""
    init: str = ""
    """Kinetics I3D weights (`rgb_imagenet.pt`) or another checkpoint to start from."""
    init_part: Literal["all", "backbone"] = "all"
    """Part of the checkpoint `init` to load; the backbone alone fits a head of any other shape."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Config:
    """Holds everything a run needs; stored in its checkpoint."""

    name: str = "thumos14"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RunConfig = field(default_factory=RunConfig)
    decoding: Decoding = field(default_factory=Decoding)
    a2net: A2NetConfig | None = None
    """Train A2Net in place of AFSD, with `a2net_loss` and `a2net_decoding`; `model`, `loss` and `decoding` are
    AFSD's."""
    a2net_loss: A2NetLossConfig = field(default_factory=A2NetLossConfig)
    a2net_decoding: A2NetDecoding = field(default_factory=A2NetDecoding)
    two_stage: TwoStageConfig | None = None
    """Add a second stage whose proposals are the detections of a class-agnostic A2Net; `decoding` then belongs to the
    second stage, and only `balance` and `overlap` of `a2net_decoding` are used."""
    two_stage_loss: TwoStageLossConfig = field(default_factory=TwoStageLossConfig)
    card: ModelCard = field(default_factory=ModelCard)
    """What the model will say of itself to people: data set, licence of the weights, a note."""

    def __post_init__(self) -> None:
        if self.network_section != "model" and self.model != ModelConfig():
            raise ValueError("model is AFSD's section, a2net A2Net's: expected one of them alone")
        if self.run.early_stopping and not self.data.val_subset:
            raise ValueError("run.early_stopping needs data.val_subset, the videos on which mAP is measured")
        if self.data.val_subset:
            self._check_validation()
        if self.data.inner_features == "unseen" and not self.data.inner_group:
            raise ValueError("data.inner_features is 'unseen', expected data.inner_group, its groups")
        if self.two_stage is not None:
            self.two_stage.check_first_stage(self.a2net)
        self.loss.check_network(self.model)
        if self.data.classes and self.num_classes not in (0, len(self.data.classes) + 1):
            raise ValueError(
                f"{self.network_section}.num_classes is {self.num_classes}, but data.classes names "
                f"{len(self.data.classes)} actions: expected {len(self.data.classes) + 1}"
            )
        if self.data.class_agnostic and (self.num_classes != 2 or len(self.data.classes) != 1):
            raise ValueError(
                f"data.class_agnostic needs {self.network_section}.num_classes 2 and one name in data.classes, got "
                f"{self.num_classes} and {len(self.data.classes)} names"
            )
        if self.stream == "features" and not 0 < self.data.test_stride <= self.window_length:
            raise ValueError(
                f"data.test_stride is {self.data.test_stride}, expected 1 to the window's length, {self.window_length}"
            )
        if self.stream == "features" and self.data.window_borders == "stream":
            raise ValueError("data.window_borders is 'stream', expected 'zeros': features come from no backbone here")
        if self.stream != "features" and self.data.frame_size < self.model.crop_size:
            raise ValueError(f"data.frame_size {self.data.frame_size} is below model.crop_size {self.model.crop_size}")

    def _check_validation(self) -> None:
        """Raise a ValueError if mAP cannot be measured while training."""
        subset = self.data.val_subset
        if self.stream != "features" and subset == self.data.train_subset:
            raise ValueError(f"data.val_subset is {subset!r}, which is trained on; expected another subset")
        if self.data.class_agnostic:
            raise ValueError(
                "data.val_subset: the network finds actions without a class (data.class_agnostic), so mAP needs the "
                "labels of a video classifier: leave it out, and judge epochs with afsd evaluate --video-scores"
            )

    @property
    def family(self) -> Family:
        """Family of the network."""
        return next(family for family, names in NETWORKS.items() if getattr(self, names.section) is not None)

    @property
    def network_section(self) -> str:
        """Name of the section that holds the number of classes."""
        return NETWORKS[self.family].section

    @property
    def _window(self) -> Any:
        return getattr(self, NETWORKS[self.family].window_section)

    @property
    def stream(self) -> Stream:
        """Input of the network: RGB frames, flow or features."""
        stream: Stream = getattr(self._window, "stream", "features")
        return stream

    @property
    def window_length(self) -> int:
        """Window length T in frames or feature steps."""
        return int(getattr(self._window, NETWORKS[self.family].window_length))

    @property
    def num_classes(self) -> int:
        """Number of classes K, including background; 0: unknown until the data is opened."""
        return int(getattr(self, self.network_section).num_classes)

    @property
    def in_features(self) -> int:
        """Width of the features; 0: unknown until the data is opened, or a network on frames."""
        return int(getattr(self._window, NETWORKS[self.family].in_features))

    def with_data(self, num_classes: int, in_features: int = 0) -> Config:
        """Return a copy with the number of classes and the width of the features that the data has."""
        names = NETWORKS[self.family]
        wide = replace(self, **{names.window_section: replace(self._window, **{names.in_features: in_features})})
        return replace(wide, **{names.section: replace(getattr(wide, names.section), num_classes=num_classes)})
