"""Deterministic weights and frames of the golden arrays in tests/golden (recipes of the published reference runs)."""

from __future__ import annotations

import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.afsd.network import AFSD
from training.config.files import load_config

GOLDEN = Path(__file__).parent / "golden"


NETWORKS = {
    "thumos14_rgb": "thumos14",
    "thumos14_flow": "thumos14_flow",
    "anet_rgb": "activitynet",
    "anet_flow": "activitynet_flow",
}
"""Golden files of the published networks → the configuration each belongs to."""


def state_dict_entries(network: str) -> list[tuple[str, tuple[int, ...], str]]:
    """(name, shape, dtype) of every entry of the published checkpoint, in its order."""
    entries = json.loads((GOLDEN / f"{network}_state_dict.json").read_text())
    return [(name, tuple(shape), dtype) for name, shape, dtype in entries]


def crc_weights(network: str) -> dict[str, Tensor]:
    """Weights seeded by the CRC-32 of each entry's name."""
    return {name: torch.from_numpy(_crc_weight(name, shape)) for name, shape, _ in state_dict_entries(network)}


def golden_model(network: str) -> AFSD:
    """The published network with the CRC weights, in eval mode."""
    model = AFSD(load_config(NETWORKS[network]).model)
    model.load_state_dict(crc_weights(network))
    return model.eval()


@cache
def golden_frames(frames: int, channels: int, size: int = 96) -> NDArray[np.uint8]:
    """uint8 [T,H,W,C] by integer arithmetic alone."""
    t, h, w, c = np.ogrid[:frames, :size, :size, :channels]
    values = 3 * t + 5 * h * (c + 1) + 7 * w + (h * w) // (16 + c) + (t * h) // 11 + (t * t * (c + 1)) // 37
    made = (values % 256).astype(np.uint8)
    made.flags.writeable = False
    return made


def formula_weights(model: nn.Module, loc_bias: float = 0.0) -> dict[str, Tensor]:
    """Weights from sines of the entry's rank and the flat index (the second golden set).

    AFSD's distances get `loc_bias`; 0 leaves the weights as they are.
    """
    names = sorted(name for name in model.state_dict() if not name.endswith("num_batches_tracked"))
    weights = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    for rank, name in enumerate(names):
        weights[name] = torch.from_numpy(_formula_weight(name, rank, tuple(model.state_dict()[name].shape)))
    if loc_bias:
        weights["coarse_pyramid_detection.loc_head.conv1d.bias"] += loc_bias
    return weights


def formula_input(shape: tuple[int, ...]) -> Tensor:
    """2u(9999, i) − 1 in C order, float32."""
    return torch.from_numpy((2 * _sine_noise(9999, int(np.prod(shape))) - 1).astype(np.float32).reshape(shape))


def _crc_weight(name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith(".scale"):
        value = np.full(shape, 2.0)
    elif name.endswith("running_mean"):
        value = 0.1 * rng.standard_normal(shape)
    elif name.endswith("running_var") or (len(shape) == 1 and name.endswith(".weight")):
        value = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 1:
        value = 0.1 * rng.standard_normal(shape)
    else:
        value = np.sqrt(2 / np.prod(shape[1:])) * rng.standard_normal(shape)
    return value.astype(np.float32)


def _formula_weight(name: str, rank: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    u = _sine_noise(rank, int(np.prod(shape))).reshape(shape)
    if len(shape) >= 2:
        value = (2 * u - 1) * np.sqrt(6 / np.prod(shape[1:]))
    elif name.endswith("running_var"):
        value = 1 + 0.5 * u
    elif name.endswith((".scale", ".weight")):
        value = 1 + 0.1 * (2 * u - 1)
    else:
        value = 0.1 * (2 * u - 1)
    return value.astype(np.float32)


def _sine_noise(rank: int, count: int) -> NDArray[np.float64]:
    value = np.sin(12.9898 * np.arange(count, dtype=np.float64) + 78.233 * rank) * 43758.5453
    return value - np.floor(value)
