"""The small streaming network of the tests, and how its features are taken from frames."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.engines import open_engine
from runtime.engines.streaming import StreamingEngine
from runtime.streaming.backbone import StreamingBackbone
from tests.training.small import CLASSES, small_config
from training.afsd.network import AFSD
from training.checkpoints.files import Checkpoint, save_checkpoint

WINDOW = 32
"""Frames of a window of the small network; its delay, 48, is longer."""


class Networks(NamedTuple):
    checkpoint: Path
    onnx: Path
    streams: dict[str, Path]


def save_sensitive(path: Path, *overrides: str) -> Path:
    """A network whose features depend on its frames: He-normal weights, and statistics as after training."""
    config = small_config(*overrides)
    torch.manual_seed(0)
    model = AFSD(config.model)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv3d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    save_checkpoint(Checkpoint(dict(model.state_dict()), config, CLASSES), path)
    return path


def noise(frames: int, size: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    """Frames whose every pixel differs, so that a frame lost or seen twice changes every feature near it."""
    return np.random.default_rng(seed).integers(0, 256, (frames, size, size, 3), np.uint8)


def stream_features(engine: StreamingEngine, frames: NDArray[np.uint8], chunk: int) -> dict[str, NDArray[np.float32]]:
    backbone = StreamingBackbone(engine, chunk)
    parts = [found for frame in frames if (found := backbone.push(frame)) is not None]
    parts.append(backbone.finish())
    assert backbone.taken == len(frames)
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[-1]}


def fresh(path: Path) -> StreamingEngine:
    """An engine of its own."""
    engine = open_engine(path)
    assert isinstance(engine, StreamingEngine)
    return engine


opened = cache(fresh)
"""The engine of a file, opened once: it keeps nothing of a video, and to compile it takes seconds."""


def require_equal(found: dict[str, NDArray[np.float32]], expected: dict[str, NDArray[np.float32]]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert np.abs(found[name] - value).max() <= 1e-5 * np.abs(value).max()


def padded(video: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames of the size that is cropped to the given ones."""
    return np.pad(video, ((0, 0), (2, 2), (2, 2), (0, 0)))


def require_apart(engine: StreamingEngine) -> None:
    """Two videos, frame by frame in turn on one engine, have the features that each has alone."""
    videos = [noise(90, seed=seed) for seed in (1, 2)]
    apart = [stream_features(engine, video, 16) for video in videos]
    backbones = [StreamingBackbone(engine, 16) for _ in videos]
    parts: list[list[dict[str, NDArray[np.float32]]]] = [[], []]
    for pair in zip(*videos, strict=True):
        for k, frame in enumerate(pair):
            if (found := backbones[k].push(frame)) is not None:
                parts[k].append(found)
    for k, expected in enumerate(apart):
        parts[k].append(backbones[k].finish())
        for name, value in expected.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts[k]], axis=1), value)
