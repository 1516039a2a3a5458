"""Open the training clips or windows that a configuration names, of frames or of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from runtime.annotations.activitynet import class_names, load_annotations
from runtime.annotations.ground_truth import load_ground_truth
from runtime.common.log import LOGGER
from runtime.errors import AnnotationError, ConfigError
from runtime.features.description import read_description
from runtime.features.feature_set import FeatureSet, open_features
from runtime.features.video_features import identify_video
from runtime.spec.training_videos import TrainingVideos, remember_videos
from training.config.settings import Config, DataConfig
from training.data.annotations import FrameAnnotation, step_annotations
from training.data.clips import Clip, cut_clips, cut_whole_videos, find_unseen_instances, repeat_rare
from training.data.dataset import ClipDataset, WindowDataset, frame_annotations
from training.data.feature_dataset import FeatureDataset
from training.data.folds import Fold, make_folds, make_inner_folds
from training.families import family_of
from training.networks.i3d import STREAM_BORDER
from training.stores.flow_store import build_flow_store, flow_method_of
from training.stores.frame_store import FrameStore, Sampling
from training.stores.store_building import RGB_STORE, build_frame_store


@dataclass(frozen=True)
class TrainingSet:
    """Holds the data a network is trained on, and the configuration completed from the data."""

    config: Config
    """The configuration with the data's number of classes and, for features, their width, steps per second and
    sampling."""
    dataset: WindowDataset
    classes: tuple[str, ...]
    """Action names in index order."""
    source: FrameStore | FeatureSet
    """Frames or features of the videos."""
    videos: TrainingVideos
    """Names and contents of the videos."""
    annotated: Sequence[FrameAnnotation]
    """Annotations of the videos in sampled frames or steps."""
    clips: Sequence[Clip]
    """Clips that were cut of them, each once."""


def open_training_set(config: Config) -> TrainingSet:
    """Open the training videos that the configuration names, as frames or as features.

    Raises:
        ConfigError: an unknown fold, or classes, a width or a frame store that differ from the configuration's.
        InputError, AnnotationError, VideoError: data that is missing or cannot be used.
    """
    return open_feature_windows(config) if config.stream == "features" else open_clips(config)


def open_feature_windows(config: Config) -> TrainingSet:
    """Open the windows of features of the fold that the configuration names (errors: `open_training_set`)."""
    data = config.data
    description, annotations = read_description(data.features_path), annotations_path(data)
    classes = data.classes or class_names(load_annotations(annotations))
    fold = choose_fold(config_folds(config), data)
    features, videos = open_features(data.features_path, names=fold.train, fold=fold.feature_fold, streams=data.streams)
    if config.in_features:
        features.require_width(config.in_features)
    config = complete_config(config, classes, features.width, str(annotations))
    annotated = step_annotations(videos, features, classes, class_agnostic=data.class_agnostic)
    clips = cut_training_clips(annotated, data, config.window_length)
    warn_without_clips(annotated, clips, config.window_length, "steps of features")
    _warn_unseen(annotated, config)
    rate = 1 / median(features.time_axis(video.name).step_s for video in videos)
    dataset = FeatureDataset(
        repeat_rare(clips, data.repeat_share, config.run.seed),
        features,
        clip_length=config.window_length,
        contrastive=rearranged_share(config),
        background=data.background,
        mixing=data.mixing,
        seed=config.run.seed,
    )
    made = replace(
        data,
        sample_fps=rate,
        feature_sampling=description.sampling,
        feature_uneven=description.uneven,
        feature_resize=description.resize,
    )
    contents = content_of(features, fold.train)
    named = fold.name if data.fold != "" else ""
    record = remember_videos(contents, fold=named, feature_fold=fold.feature_fold if description.per_fold else "")
    return TrainingSet(replace(config, data=made), dataset, classes, features, record, annotated, clips)


def content_of(source: FrameStore | FeatureSet, names: Sequence[str]) -> dict[str, str]:
    """Return the digests of videos by name, empty where a store does not know what its arrays were made from."""
    if isinstance(source, FrameStore):
        return {name: source.videos[name].source_digest for name in names}
    return {name: identify_video(source.features(name)) for name in names}


def annotations_path(data: DataConfig) -> Path:
    """Path of the annotations that the feature set's description names (InputError: it cannot be read)."""
    return data.features_path.parent / read_description(data.features_path).annotations


def config_folds(config: Config) -> tuple[Fold, ...]:
    """Make the folds of `data.split`, or with `data.inner_group` the inner folds of all folds or of `data.fold`.

    Raises:
        AnnotationError, InputError: see `make_folds` and `make_inner_folds`.
    """
    data = config.data
    folds = make_folds(annotations_path(data), data.split)
    if not data.inner_group:
        return folds
    outer = [fold for fold in folds if fold.name == str(data.fold)] or folds
    unseen_in = folds if data.inner_features == "unseen" else None
    return tuple(inner for fold in outer for inner in make_inner_folds(fold, data.inner_group, unseen_in))


def choose_fold(folds: Sequence[Fold], data: DataConfig) -> Fold:
    """Return the fold that `data.fold` names, or the only fold (ConfigError: neither exists)."""
    chosen = [fold for fold in folds if fold.name == str(data.fold)]
    if data.fold == "" and len(folds) == 1:
        chosen = list(folds)
    if not chosen:
        names = ", ".join(fold.name for fold in folds)
        raise ConfigError(f"{data.features_path}: data.fold is {data.fold!r}, expected one of {names}")
    return chosen[0]


def complete_config(config: Config, classes: tuple[str, ...], width: int, origin: str) -> Config:
    """Return the configuration with the data's classes and width; `origin` names the annotations in errors."""
    if not classes:
        raise AnnotationError(f"{origin}: no action in any video, expected at least one")
    if config.num_classes not in (0, len(classes) + 1):
        raise ConfigError(
            f"{config.network_section}.num_classes is {config.num_classes}, the annotations have {len(classes)} "
            f"classes: expected {len(classes) + 1}, including background, or 0 to take their number"
        )
    return config.with_data(len(classes) + 1, width)


def _warn_unseen(annotated: Sequence[FrameAnnotation], config: Config) -> None:
    """Warn about actions of which no window shows the share `data.keep_share`, so that no training clip has them."""
    data, length = config.data, config.window_length
    if data.sampling == "whole_video":
        return
    stride, keep = data.clip_stride, data.keep_share
    unseen = [len(find_unseen_instances(v, clip_length=length, stride=stride, keep=keep)) for v in annotated]
    if sum(unseen):
        total = sum(len(video.instances) for video in annotated)
        LOGGER.warning(
            f"{sum(unseen)} of {total} actions are a target in no window of {length} steps every {stride}; "
            "make the windows longer or data.clip_stride shorter"
        )


def open_clips(config: Config) -> TrainingSet:
    """Open the clips of frames that the configuration names (errors: `open_training_set`)."""
    data, model = config.data, config.model
    annotations = Path(data.root) / data.annotations
    videos = load_ground_truth(annotations, data.train_subset)
    classes = data.classes or class_names(videos)
    config = complete_config(config, classes, 0, f"{annotations}, subset {data.train_subset!r}")
    store = open_store(config, [video.name for video in videos])
    annotated = frame_annotations(videos, store, classes, class_agnostic=data.class_agnostic)
    clips = cut_training_clips(annotated, data, model.clip_length)
    warn_without_clips(annotated, clips, model.clip_length)
    dataset = ClipDataset(
        clips,
        store,
        clip_length=model.clip_length,
        crop_size=model.crop_size,
        flip=data.flip,
        contrastive=rearranged_share(config),
        padding=data.padding,
        border=STREAM_BORDER if data.window_borders == "stream" else 0,
        background=data.background,
        flow_flip=data.flow_flip,
        seed=config.run.seed,
    )
    contents = content_of(store, [video.name for video in videos])
    return TrainingSet(config, dataset, classes, store, remember_videos(contents), annotated, clips)


def rearranged_share(config: Config) -> float:
    """Return the share of the clips that also give a rearranged clip."""
    return config.data.contrastive_share if family_of(config).needs_rearranged(config) else 0.0


def open_store(config: Config, names: list[str]) -> FrameStore:
    """Open the frame store, after building or completing it from `<root>/videos` if that folder exists.

    Raises:
        ConfigError: it holds arrays of another size or sampling.
        InputError, VideoError: it is missing, or a video cannot be read.
    """
    store = _build_store(config, names)
    _check_store(store, config)
    return store


def _build_store(config: Config, names: list[str]) -> FrameStore:
    data = config.data
    root = Path(data.root)
    if not (root / "videos").is_dir():
        return FrameStore(root / data.frames)
    rgb = build_frame_store(
        root / "videos",
        names,
        root / (RGB_STORE if config.model.stream == "flow" else data.frames),
        frame_size=data.frame_size,
        sample_fps=None if data.sampling == "whole_video" else data.sample_fps,
        whole_frames=config.model.clip_length if data.sampling == "whole_video" else None,
    )
    if config.model.stream == "rgb":
        return rgb
    method, jpeg = flow_method_of(root / data.frames)
    return build_flow_store(rgb, names, root / data.frames, method=method, jpeg=jpeg)


def _check_store(store: FrameStore, config: Config) -> None:
    data = config.data
    whole = config.model.clip_length if data.sampling == "whole_video" else None
    fps = None if whole else data.sample_fps
    expected = Sampling(fps, data.frame_size, config.model.in_channels, whole)
    if replace(store.sampling, timing=expected.timing) != expected:
        raise ConfigError(
            f"{store.folder}: holds arrays of {store.sampling}; the configuration asks for {expected}. "
            "Set data.frames to the folder that has them, change the setting, or prepare again"
        )


def cut_training_clips(videos: Sequence[FrameAnnotation], data: DataConfig, clip_length: int) -> list[Clip]:
    """Cut the training clips of annotated videos as `data` sets."""
    if data.sampling == "whole_video":
        return cut_whole_videos(videos, clip_length=clip_length, rearrangement=data.rearrangement)
    return cut_clips(
        videos,
        clip_length=clip_length,
        stride=data.clip_stride,
        window=data.clip_window,
        rearrangement=data.rearrangement,
        keep=data.keep_share,
        store=data.store_share,
    )


def warn_without_clips(
    annotated: Sequence[FrameAnnotation], clips: Sequence[Clip], clip_length: int, unit: str = "frames of the video"
) -> None:
    """Warn about videos with actions that give no clip."""
    without = sorted({video.name for video in annotated if video.instances} - {clip.video for clip in clips})
    if without:
        LOGGER.warning(
            f"{len(without)} of {len(annotated)} videos give no clip to train on, the first is {without[0]!r}: none of "
            f"their actions lies completely within {clip_length} {unit}"
        )
