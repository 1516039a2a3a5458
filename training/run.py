"""From a configuration to a trained checkpoint: opens the data the configuration names and trains on it."""

from __future__ import annotations

from pathlib import Path

from runtime.annotations import class_names, load_annotations
from runtime.errors import ConfigError
from training.config import Config
from training.data.clips import cut_clips
from training.data.dataset import ClipDataset, frame_annotations
from training.data.frame_store import FrameStore, build_frame_store
from training.loop import Trainer


def train(config: Config, out_dir: Path, resume: Path | None = None) -> Path:
    """Train as configured and return the path of the last checkpoint (`out_dir`/last.ckpt).

    The frame store is built from `<root>/videos` first where it is missing or incomplete.

    Raises:
        AnnotationError, InputError, VideoError: the data is missing or does not fit.
        ConfigError, CheckpointError: see `Trainer`.
    """
    dataset, classes = open_clips(config)
    return Trainer(config, dataset, classes, out_dir, resume).run()


def open_clips(config: Config) -> tuple[ClipDataset, tuple[str, ...]]:
    """The training clips a configuration names, and the class names in index order."""
    data, model = config.data, config.model
    root = Path(data.root)
    videos = load_annotations(root / data.annotations, data.train_subset)
    classes = data.classes or class_names(videos)
    if len(classes) + 1 != model.num_classes:
        raise ConfigError(
            f"model.num_classes is {model.num_classes}, the annotations have {len(classes)} classes: "
            f"expected {len(classes) + 1}, the background included"
        )
    store = _open_store(config, [video.name for video in videos])
    if (store.sampling.fps, store.sampling.frame_size) != (data.sample_fps, data.frame_size):
        raise ConfigError(
            f"{store.folder}: frames of {store.sampling.frame_size} pixels at {store.sampling.fps:g} fps, the "
            f"configuration asks for {data.frame_size} at {data.sample_fps:g}: build another store"
        )
    clips = cut_clips(frame_annotations(videos, store, classes), clip_length=model.clip_length, stride=data.clip_stride)
    dataset = ClipDataset(
        clips,
        store,
        clip_length=model.clip_length,
        crop_size=model.crop_size,
        flip=data.flip,
        contrastive=data.contrastive_share if config.loss.consistency in ("triplet", "both") else 0.0,
        padding=data.padding,
        seed=config.run.seed,
    )
    return dataset, classes


def _open_store(config: Config, names: list[str]) -> FrameStore:
    """The frame store, built or completed from the videos beside it when there are any."""
    data = config.data
    videos, frames = Path(data.root) / "videos", Path(data.root) / data.frames
    if not videos.is_dir() or config.model.stream != "rgb":
        return FrameStore(frames)
    return build_frame_store(videos, names, frames, sample_fps=data.sample_fps, frame_size=data.frame_size)
