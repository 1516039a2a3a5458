"""The typed, strict training configuration; `config_files` reads it from YAML.

The defaults are the published THUMOS14 RGB recipe (AFSD section 4.1 and the released code's command line), with the
released code's faults mended; `docs/differences.md` lists them and the options that bring each back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from runtime.spec.constants import A2NetDecoding, Decoding
from runtime.spec.time_axis import FeatureSampling, Uneven
from training.a2net.config import A2NetConfig, A2NetLossConfig
from training.afsd.config import LossConfig, ModelConfig
from training.data.feature_mixing import FeatureMixing
from training.data.folds import FoldRule
from training.two_stage.config import TwoStageConfig, TwoStageLossConfig

Family = Literal["afsd", "a2net", "two_stage"]
Stream = Literal["rgb", "flow", "features"]


class Names(NamedTuple):
    """Where `Config` has the settings that every network has."""

    section: str
    """With `num_classes`; a configuration is of the first family of `NETWORKS` whose section is there."""
    window_section: str
    """What sees the window; its `stream`, or else "features"."""
    window_length: str
    """T there."""
    in_features: str
    """Width of the features there."""


NETWORKS: Mapping[Family, Names] = {
    "two_stage": Names("two_stage", "a2net", "window_steps", "in_channels"),
    "a2net": Names("a2net", "a2net", "window_steps", "in_channels"),
    "afsd": Names("model", "model", "clip_length", "in_features"),
}
"""`training.families` has all else that differs between families."""


@dataclass(frozen=True)
class DataConfig:
    """Where the data is and how clips are cut from it."""

    root: str = "data"
    """Folder of the data set; relative paths count from the working directory."""
    annotations: str = "annotations.json"
    """ActivityNet JSON, relative to `root`."""
    frames: str = "frames"
    """Frame store, relative to `root`."""
    train_subset: str = "training"
    features: str = "features.json"
    """Description of the feature set, relative to `root`; of models on features, in place of the three above."""
    streams: tuple[int, ...] = ()
    """Which streams of the feature set, counted from 0, in the order their channels follow one another (A2Net, Table
    VII); empty: all. Kept in the checkpoint and in every engine."""
    split: FoldRule = field(default_factory=lambda: FoldRule(by="splits"))
    """How the videos of a feature set are divided into those that are trained on and those that are not."""
    fold: str | int = ""
    """Name of the fold of `split`; empty: the only one."""
    inner_group: str = ""
    """Regular expression of groups among a fold's training videos, to choose settings by them alone: `fold` 1/S2 trains
    on what fold 1 trains on, without the group S2 (see `FoldRule.group`)."""
    inner_features: Literal["fold", "unseen"] = "fold"
    """Features of an inner fold: those of its outer fold, or those of the fold that tests its group. Where the network
    that made them was trained on the training videos of their fold, only the latter are like those of a test."""
    feature_sampling: FeatureSampling | None = None
    """How the features were made; taken from their description, and kept in the checkpoint, as the next two."""
    feature_uneven: Uneven = "cut"
    """What is done where the streams of a video differ in length."""
    feature_resize: int | None = None
    """Steps to which the features of every video are resized; None: they are not."""
    classes: tuple[str, ...] = ()
    """Action names in index order; empty: sorted names of the annotations."""
    class_agnostic: bool = False
    """Every label counts as the one action that `classes` names (ActivityNet: proposals, labelled afterwards)."""
    sampling: Literal["fixed", "whole_video"] = "fixed"
    """`sample_fps` for all videos, cut into clips; or each video at a rate of its own, so that it is one clip."""
    sample_fps: float = 10.0
    """Of frames. Of features, steps per second of the training videos: taken from the data."""
    frame_size: int = 112
    """Pixels of the square stored frame."""
    clip_stride: int = 30
    """Frames between training clips of a video."""
    keep_share: float = 0.5
    """Share of an action that must lie within a clip for it to be a target there; clipped to the clip."""
    store_share: float = 1.0
    """Share of one action at least that must lie within a clip for it to be trained on."""
    clip_window: Literal["correct", "reference"] = "correct"
    """An action lies in a clip from its first frame on; the released code counts from its second frame."""
    rearrangement: Literal["thumos14", "activitynet"] = "thumos14"
    """Length th of the background piece that is moved into an action: the video's shortest action as its clips show
    it, or a quarter of it (released ActivityNet code)."""
    background: Literal["correct", "reference"] = "correct"
    """Where that piece may come from: frames without any action; or any gap between two boundaries, which can lie in a
    longer action or in padding (released code)."""
    test_stride: int = 128
    """Frames between test windows."""
    flip: bool = True
    """Horizontal flip with probability ½; off where left and right mean different classes."""
    flow_flip: Literal["correct", "reference"] = "correct"
    """Flow that is flipped changes the sign of its x component; it does not in the released code."""
    padding: Literal["before", "after"] = "before"
    """Pad short clips before normalisation (−1, as published) or after it (0, as at test)."""
    contrastive_share: float = 1.0
    """Share of the clips that also give a rearranged one for the triplet loss; each costs a second forward pass."""
    repeat_share: float = 0.0
    """Windows of features with classes that fewer windows than this share show are repeated (`clips.repeat_rare`)."""
    mixing: FeatureMixing = field(default_factory=FeatureMixing)
    """Augmentation of features."""
    workers: int = 4

    @property
    def features_path(self) -> Path:
        """Path of the feature set's description."""
        return Path(self.root) / self.features


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam; AFSD's published recipe has no schedule, warm-up, clipping or averaging."""

    learning_rate: float = 1e-5
    backbone_rate: float = 1.0
    """Factor of the learning rate for the backbone: 1 on THUMOS14, 0.1 on ActivityNet."""
    weight_decay: float = 1e-3
    batch_size: int = 1
    epochs: int = 16
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Of the learning rate; "step": a tenth after `step_epoch` epochs (A2Net)."""
    step_epoch: int = 0
    warmup_steps: int = 0
    decoupled_decay: bool = False
    """AdamW instead of L2 inside Adam."""
    clip_norm: float = 0.0
    """Largest gradient norm; 0 is off."""
    ema: float = 0.0
    """Decay of the exponential moving average of the weights; 0 is off."""

    def __post_init__(self) -> None:
        if (self.schedule == "step") != (self.step_epoch > 0):
            raise ValueError(
                f"schedule is {self.schedule!r}, step_epoch {self.step_epoch}: expected an epoch of 1 or more with "
                "'step', and 0 with any other"
            )


@dataclass(frozen=True)
class RunConfig:
    """How a run is carried out."""

    seed: int = 2020
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    devices: int = 1
    accelerator: str = "auto"
    max_minutes: float = 0.0
    """Stop (and save) after this long; 0 is off. The cosine schedule ends at the last epoch either way."""
    keep_epochs: bool = True
    """Write the weights after every epoch (`epoch_NN.ckpt`), to choose among them: the released models are those of
    epochs 15 and 16 (THUMOS14 RGB, flow), 10 and 6 (ActivityNet)."""
    log_every: int = 10
    max_steps: int = 0
    """Stop (and save) after this many optimiser steps, where the cosine schedule then ends; 0 is off."""
    init: str = ""
    """Kinetics I3D weights (`rgb_imagenet.pt`) or another checkpoint to start from."""
    init_part: Literal["all", "backbone"] = "all"
    """What to take from a checkpoint in `init`; the backbone alone fits a head of any other shape."""

    def __post_init__(self) -> None:
        for name in ("max_steps", "max_minutes"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a positive number, or 0 for no limit")


@dataclass(frozen=True)
class Config:
    """Everything a run needs; stored in its checkpoint."""

    name: str = "thumos14"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RunConfig = field(default_factory=RunConfig)
    decoding: Decoding = field(default_factory=Decoding)
    a2net: A2NetConfig | None = None
    """A2Net in place of AFSD; `model`, `loss` and `decoding` are AFSD's, the two below A2Net's."""
    a2net_loss: A2NetLossConfig = field(default_factory=A2NetLossConfig)
    a2net_decoding: A2NetDecoding = field(default_factory=A2NetDecoding)
    two_stage: TwoStageConfig | None = None
    """A second stage behind a class-agnostic A2Net, whose detections are its proposals; `decoding` is then that of the
    second stage, and of `a2net_decoding` only `balance` and `overlap` count."""
    two_stage_loss: TwoStageLossConfig = field(default_factory=TwoStageLossConfig)

    def __post_init__(self) -> None:
        if self.network_section != "model" and self.model != ModelConfig():
            raise ValueError("model is AFSD's section, a2net A2Net's: expected one of them alone")
        if self.data.inner_features == "unseen" and not self.data.inner_group:
            raise ValueError("data.inner_features is 'unseen', expected data.inner_group, whose folds it is for")
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
        if self.stream != "features" and self.data.frame_size < self.model.crop_size:
            raise ValueError(f"data.frame_size {self.data.frame_size} is below model.crop_size {self.model.crop_size}")

    @property
    def family(self) -> Family:
        """Which network it is."""
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
        """What the network sees."""
        stream: Stream = getattr(self._window, "stream", "features")
        return stream

    @property
    def window_length(self) -> int:
        """T, frames or feature steps of a window."""
        return int(getattr(self._window, NETWORKS[self.family].window_length))

    @property
    def num_classes(self) -> int:
        """K, the background included; 0: not known before the data is opened."""
        return int(getattr(self, self.network_section).num_classes)

    @property
    def in_features(self) -> int:
        """Width of the features; 0: not known before the data is opened, or frames."""
        return int(getattr(self._window, NETWORKS[self.family].in_features))

    def of_data(self, num_classes: int, in_features: int = 0) -> Config:
        """Return a copy with the number of classes and the width of the features that the data has."""
        names = NETWORKS[self.family]
        wide = replace(self, **{names.window_section: replace(self._window, **{names.in_features: in_features})})
        return replace(wide, **{names.section: replace(getattr(wide, names.section), num_classes=num_classes)})
