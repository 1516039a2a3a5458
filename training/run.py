"""From a configuration to a trained checkpoint: opens the data the configuration names and trains on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.annotations.activitynet import class_names, load_annotations
from runtime.errors import AnnotationError, ConfigError
from training.clip_cutting import cut, warn_without_clips
from training.config.settings import Config
from training.data.dataset import ClipDataset, frame_annotations
from training.loop import LAST, Trainer
from training.stores.flow_store import build_flow_store, flow_method_of
from training.stores.frame_store import FrameStore, Sampling
from training.stores.store_building import RGB_STORE, build_frame_store
from training.training_set import open_feature_windows


def train(
    config: Config, out_dir: Path, resume: Path | None = None, prepare: Callable[[Any], None] | None = None
) -> Path:
    """Train as configured and return the path of the last checkpoint (`out_dir`/last.ckpt).

    A network on features is trained on the feature set that `data.features` describes. For another the
    frame store is built from `<root>/videos` first where it is missing or incomplete. See `Trainer` for `prepare`.

    Raises:
        AnnotationError, InputError, VideoError: the data is missing or does not fit.
        ConfigError: `out_dir` holds a run and `resume` is None; or see `Trainer`.
        CheckpointError: see `Trainer`.
    """
    if resume is None and (out_dir / LAST).exists():
        raise ConfigError(
            f"{out_dir}: holds a run already; go on with it (--resume {out_dir / LAST}), or choose another --out"
        )
    if config.stream == "features":
        windows = open_feature_windows(config)
        return Trainer(windows.config, windows.dataset, windows.classes, out_dir, resume, prepare).run()
    dataset, classes = open_clips(config)
    config = config.of_data(len(classes) + 1)  # where it says 0; the checkpoint holds the number
    return Trainer(config, dataset, classes, out_dir, resume, prepare).run()


def open_clips(config: Config) -> tuple[ClipDataset, tuple[str, ...]]:
    """The training clips a configuration names, and the class names in index order."""
    data, model = config.data, config.model
    videos = load_annotations(Path(data.root) / data.annotations, data.train_subset)
    classes = data.classes or class_names(videos)
    if model.num_classes not in (0, len(classes) + 1):
        raise ConfigError(
            f"model.num_classes is {model.num_classes}, the annotations have {len(classes)} classes: "
            f"expected {len(classes) + 1}, the background included, or 0 for as many as they have"
        )
    if not classes:
        raise AnnotationError(f"{Path(data.root) / data.annotations}: no action in subset {data.train_subset!r}")
    store = _open_store(config, [video.name for video in videos])
    _check_store(store, config)
    annotated = frame_annotations(videos, store, classes, class_agnostic=data.class_agnostic)
    clips = cut(annotated, data, model.clip_length)
    warn_without_clips(annotated, clips, model.clip_length)
    dataset = ClipDataset(
        clips,
        store,
        clip_length=model.clip_length,
        crop_size=model.crop_size,
        flip=data.flip,
        contrastive=data.contrastive_share if config.loss.consistency in ("triplet", "both") else 0.0,
        padding=data.padding,
        background=data.background,
        flow_flip=data.flow_flip,
        seed=config.run.seed,
    )
    return dataset, classes


def _open_store(config: Config, names: list[str]) -> FrameStore:
    """The frame store, built or completed from the videos beside it when there are any."""
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
    if store.sampling != expected:
        raise ConfigError(
            f"{store.folder}: holds arrays of {store.sampling}; the configuration asks for {expected}. "
            "Set data.frames to the folder that has them, change the setting, or prepare again"
        )
