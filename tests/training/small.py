"""A network and data small enough to train in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from runtime.annotations.activitynet import Instance, VideoAnnotation
from training.afsd.network import AFSD
from training.checkpoints.files import Checkpoint, save_checkpoint
from training.config.files import load_config
from training.config.settings import Config
from training.data.clips import cut_clips
from training.data.dataset import ClipDataset, frame_annotations
from training.stores.frame_store import index_arrays

CLASSES = ("a", "b")


def small_config(*overrides: str) -> Config:
    """Three levels on 32 frames of 32 pixels, two classes, trained from scratch."""
    settings = [
        "model.num_classes=3", "model.clip_length=32", "model.crop_size=32", "model.backbone_multiplier=0.125",
        "model.head_channels=64", "model.num_levels=3", "model.level_units=[4, 8, 16]", "data.frame_size=36",
        "data.clip_stride=8", "data.test_stride=16", "data.workers=0", "data.classes=[a, b]", "optimiser.batch_size=2",
        "optimiser.epochs=2", "optimiser.warmup_steps=2", "run.log_every=1", "run.accelerator=cpu",
    ]  # fmt: skip
    return load_config("synthetic", [*settings, *overrides])


def save_small(path: Path, *overrides: str) -> Path:
    """Save a small network of random weights whose statistics are as after training: folding them changes numbers."""
    config = small_config(*overrides)
    model = AFSD(config.model)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    save_checkpoint(Checkpoint(dict(model.state_dict()), config, CLASSES), path)
    return path


def small_dataset(folder: Path, config: Config, videos: int = 2) -> ClipDataset:
    """Clips of noise with a brighter square while an action lasts."""
    rng = np.random.default_rng(0)
    annotations = []
    for k in range(videos):
        frames = rng.integers(0, 120, (64, 36, 36, 3), np.uint8)
        frames[20 + k : 32 + k, 8:24, 8:24] += 100
        np.save(folder / f"video_{k}.npy", frames)
        action = Instance(2.0 + k / 10, 3.2 + k / 10, CLASSES[k % 2])
        annotations.append(VideoAnnotation(f"video_{k}", "training", 6.4, None, (action,)))
    store = index_arrays(folder, sample_fps=10.0, frame_size=36)
    clips = cut_clips(frame_annotations(annotations, store, CLASSES), clip_length=32, stride=8)
    return ClipDataset(clips, store, clip_length=32, crop_size=32, flip=False, seed=config.run.seed)
