"""Look at the videos and annotations of a training without decoding or storing them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation, class_names, load_annotations
from runtime.annotations.ground_truth import load_ground_truth
from runtime.common.text import one_line
from runtime.errors import AfsdError, InputError
from runtime.features.description import read_description
from runtime.features.scan import scan_features
from runtime.video.names import find_video
from runtime.video.sampling import open_frames
from training.config.settings import Config
from training.data.annotations import FrameAnnotation, to_sampled_frames
from training.data.clips import Clip
from training.data.dataset import WindowDataset
from training.networks.i3d import STREAM_BORDER
from training.stores.frame_store import INDEX, StoredVideo, read_index
from training.stores.store_building import is_complete
from training.training_set import (
    annotations_path,
    choose_fold,
    complete_config,
    config_folds,
    cut_training_clips,
    open_clips,
    open_feature_windows,
    rearranged_share,
)
from training.validation.validator import HELD_OUT, require_apart

RGB_CHANNELS, FLOW_CHANNELS = 3, 2


@dataclass(frozen=True)
class Survey:
    """Holds what was seen of the data of a training."""

    config: Config
    """Configuration with the data's numbers."""
    classes: tuple[str, ...]
    training: Sequence[VideoAnnotation]
    """Annotations of the training videos."""
    validation: Sequence[VideoAnnotation]
    """Annotations of the videos of `data.val_subset`; none if it is empty."""
    annotated: Sequence[FrameAnnotation]
    """The training videos in sampled frames or steps, without those that cannot be read."""
    clips: Sequence[Clip]
    dataset: WindowDataset | None
    """Clips to train on; None where there is none."""
    is_stored: bool
    """Whether the dataset has the real frames or features; else random ones, as the store is still to be built."""
    lengths: Mapping[str, int] = field(default_factory=dict)
    """Sampled frames or steps of the training and validation videos."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Videos that are missing or cannot be read, with the reason."""
    bytes_to_store: int = 0
    """Bytes of the arrays that are still to be made."""


def survey(config: Config) -> Survey:
    """Look at the data of a configuration.

    Raises:
        ConfigError, AnnotationError, InputError: settings or annotations of which nothing can be said.
    """
    return _survey_features(config) if config.stream == "features" else _survey_frames(config)


def _survey_frames(config: Config) -> Survey:
    data = config.data
    annotations = Path(data.root) / data.annotations
    training = load_ground_truth(annotations, data.train_subset)
    validation = load_ground_truth(annotations, data.val_subset) if data.val_subset else ()
    require_apart(data.val_subset, (video.name for video in validation), (video.name for video in training))
    classes = data.classes or class_names(training)
    config = complete_config(config, classes, 0, f"{annotations}, subset {data.train_subset!r}")
    everything = [*training, *validation]
    stored = _find_stored(config, everything)
    lengths = {name: video.frames for name, video in stored.items()}
    unreadable: dict[str, str] = {}
    to_store = 0
    for video in everything:
        if video.name in stored:
            continue
        try:
            lengths[video.name] = _probe(Path(data.root) / "videos", video.name, config)
            to_store += lengths[video.name] * _bytes_per_frame(config)
        except (AfsdError, OSError) as error:
            unreadable[video.name] = one_line(error)
    annotated = [
        to_sampled_frames(
            video,
            frames=lengths[video.name],
            sample_fps=_rate(config, stored.get(video.name), lengths[video.name], video),
            classes=classes,
            class_agnostic=data.class_agnostic,
        )
        for video in training
        if video.name in lengths
    ]
    clips = cut_training_clips(annotated, data, config.model.clip_length)
    is_stored = all(video.name in stored for video in training)
    dataset: WindowDataset | None = None
    if clips and is_stored:
        with redirect_stderr(io.StringIO()):  # what it warns of is said in the table
            dataset = open_clips(config).dataset
    elif clips:
        dataset = BlankDataset(clips, config)
    return Survey(
        config, classes, training, validation, annotated, clips, dataset, is_stored, lengths, unreadable, to_store
    )


def _survey_features(config: Config) -> Survey:
    data = config.data
    description, annotations = read_description(data.features_path), annotations_path(config.data)
    videos = {video.name: video for video in load_annotations(annotations)}
    fold = choose_fold(config_folds(config), data)
    training = [videos[name] for name in fold.train]
    names = fold.test if data.val_subset == HELD_OUT else ()
    validation = [video for video in videos.values() if video.name in names or video.subset == data.val_subset != ""]
    require_apart(data.val_subset, (video.name for video in validation), fold.train)
    everything = [*training, *validation]
    used = description.take_streams(*data.streams) if data.streams else description
    scan = scan_features(used, data.features_path.parent, everything, fold=fold.feature_fold)
    unreadable = {name: one_line(error) for name, error in (scan.missing | scan.faults).items()}
    lengths = {name: reader.steps for name, reader in scan.videos.items()}
    if any(video.name in unreadable for video in training):
        classes = data.classes or class_names(videos.values())
        return Survey(config, classes, training, validation, [], [], None, True, lengths, unreadable)
    with redirect_stderr(io.StringIO()):  # what it warns of is said in the table
        found = open_feature_windows(config)
    return Survey(
        found.config, found.classes, training, validation, found.annotated, found.clips, found.dataset, True, lengths,
        unreadable,
    )  # fmt: skip


def _find_stored(config: Config, videos: Sequence[VideoAnnotation]) -> dict[str, StoredVideo]:
    """Return the videos whose arrays are in the frame store."""
    folder = Path(config.data.root) / config.data.frames
    if not (folder / INDEX).exists():
        return {}
    index = read_index(folder / INDEX)
    known = {video.name: index.videos.get(video.name) for video in videos}
    return {name: stored for name, stored in known.items() if stored and is_complete(folder, name, stored)}


def _probe(folder: Path, name: str, config: Config) -> int:
    """Return the number of frames that will be sampled of a video file, after reading its first frame."""
    if not folder.is_dir():
        raise InputError(f"{name}: neither in the frame store {config.data.frames!r} nor in {folder}")
    path = find_video(folder, name)
    with open_frames(path, config.data.sample_fps, read_ahead=1) as frames:
        next(frames)
        if frames.duration is None:
            raise InputError(f"{path}: declares no length, so its frames cannot be counted beforehand")
        count = frames.duration * (frames.fps if config.data.sampling == "whole_video" else config.data.sample_fps)
    most = config.model.clip_length if config.data.sampling == "whole_video" else count
    return max(round(min(count, most)), 1)


def _rate(config: Config, stored: StoredVideo | None, frames: int, video: VideoAnnotation) -> float:
    """Return the sampled frames per second of a video."""
    if config.data.sampling == "fixed":
        return config.data.sample_fps
    if stored is not None and stored.sample_fps:
        return stored.sample_fps
    return frames / video.duration_s if video.duration_s else config.data.sample_fps


def _bytes_per_frame(config: Config) -> int:
    """Return the bytes of a stored frame; flow is made from RGB, which stays."""
    channels = RGB_CHANNELS + (FLOW_CHANNELS if config.model.stream == "flow" else 0)
    return config.data.frame_size**2 * channels


class BlankDataset(WindowDataset):
    """Gives the clips of a training with random frames, for a store that is still to be built."""

    def __init__(self, clips: Sequence[Clip], config: Config) -> None:
        data, model = config.data, config.model
        super().__init__(
            clips,
            clip_length=model.clip_length,
            contrastive=rearranged_share(config),
            background=data.background,
            seed=config.run.seed,
        )
        self._border = STREAM_BORDER if data.window_borders == "stream" else 0
        self._shape = (model.clip_length + 2 * self._border, model.crop_size, model.crop_size, model.in_channels)

    def _valid(self, clip: Clip) -> NDArray[np.bool_]:
        return np.ones(self._shape[0], np.bool_)

    def _load(self, clip: Clip, rng: Random) -> NDArray[Any]:
        generator = np.random.default_rng(rng.getrandbits(32))
        return generator.integers(0, 256, self._shape, np.uint8)
