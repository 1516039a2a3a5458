"""Wrap I3D as a feature backbone: a snippet of 16 frames in, one feature step out (A2Net, section IV-A).

The features are the input of the Kinetics classifier: the mean of Mixed_5c over time and space.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from runtime.common.files import file_sha256
from runtime.errors import CheckpointError, InputError
from runtime.spec.model import FEATURES_OUTPUT, ModelSpec
from runtime.spec.tensors import TensorSpec
from training.checkpoints.files import load_checkpoint, read_weights
from training.checkpoints.weights import load_i3d
from training.networks.i3d import FIRST_LAYER, I3D, mixed_output
from training.networks.multiply_adds import count_multiply_adds
from training.networks.normalisation import normalise

Stream = Literal["rgb", "flow"]
CHANNELS: dict[Stream, int] = {"rgb": 3, "flow": 2}

SNIPPET, SNIPPET_STRIDE = 16, 4
"""Frames of a snippet, and frames between the starts of neighbouring snippets (A2Net's features of THUMOS14)."""
SIZE = 224
"""Side of the square frame, pixels, as published."""
SOURCE_FPS = 30.0
"""Frames per second assumed for sources without a rate, that of nearly all videos of THUMOS14."""
I3D_PREFIX = "backbone._model."
"""Prefix of the I3D's entries in a state dict of AFSD."""


class I3DFeatures(nn.Module):
    """Maps snippets to features, the deployment view of an I3D; cast, normalisation and layout are in the graph."""

    def __init__(self, network: I3D) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> tuple[Tensor]:
        """Return features float32 [B,1024·m] of snippets uint8 [B,16,S,S,C], RGB or flow (x, y)."""
        pixels = frames.float()  # first operation, as in `training.deployment.views.Deployed`
        return (self.network(normalise(pixels.permute(0, 4, 1, 2, 3))).mixed_5c.mean(dim=(2, 3, 4)),)


@dataclass(frozen=True)
class BackboneWeights:
    """Holds an I3D with its weights, and the origin of the weights."""

    network: I3DFeatures
    """I3D in eval mode."""
    stream: Stream
    multiplier: float
    """Factor on the I3D's channels; 1 is the published network."""
    sha256: str
    """SHA-256 of the file, of a checkpoint's content, or of the values of random weights."""


def read_backbone(path: Path) -> BackboneWeights:
    """Read the I3D of a file: Kinetics weights, or the backbone of an AFSD checkpoint, ours or a published one.

    Raises:
        CheckpointError: the file cannot be read, has no I3D, or has entries that do not fit an I3D.
    """
    weights, multiplier, sha256 = _read_i3d_weights(path)
    first = weights.get(FIRST_LAYER)
    if first is None or first.ndim != 5 or first.shape[1] not in CHANNELS.values():
        raise CheckpointError(
            f"{path}: no {FIRST_LAYER} of 3 (RGB) or 2 (flow) channels; expected the weights of an I3D"
        )
    stream: Stream = "flow" if first.shape[1] == CHANNELS["flow"] else "rgb"
    network = I3D(CHANNELS[stream], multiplier)
    load_i3d(network, weights, str(path))
    return BackboneWeights(I3DFeatures(network).eval(), stream, multiplier, sha256)


def random_backbone(stream: Stream, seed: int, multiplier: float = 1.0) -> BackboneWeights:
    """Build an I3D with random weights, to test the path from video to features without Kinetics weights.

    Convolutions are He-normal: with PyTorch's own initial values the features of all snippets are nearly 0.
    """
    generator = torch.Generator().manual_seed(seed)
    network = I3D(CHANNELS[stream], multiplier)
    digest = hashlib.sha256()
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            digest.update(module.weight.detach().numpy().tobytes())
    return BackboneWeights(I3DFeatures(network).eval(), stream, multiplier, digest.hexdigest())


def backbone_spec(weights: BackboneWeights, size: int = SIZE, made_with: dict[str, str] | None = None) -> ModelSpec:
    """Describe inputs and outputs of the backbone.

    Args:
        weights: the backbone with its weights.
        size: side of the square frames it sees, pixels.
        made_with: versions of libraries.

    Raises:
        InputError: a size below 1.
    """
    if size < 1:
        raise InputError(f"size: got {size}, expected the pixels of a square frame, {SIZE} as published")
    channels, multiplier = CHANNELS[weights.stream], weights.multiplier
    shape = (1, SNIPPET, size, size, channels)
    return ModelSpec(
        family="i3d",
        stream=weights.stream,
        classes=(),
        sample_fps=SOURCE_FPS,
        window_length=SNIPPET,
        window_stride=SNIPPET_STRIDE,
        frame_size=(size, size),
        crop_size=(size, size),
        level_lengths=(),
        inputs=(TensorSpec("frames", ("batch", *shape[1:]), "uint8"),),
        outputs=(TensorSpec(FEATURES_OUTPUT, ("batch", mixed_output("Mixed_5c", multiplier)), "float32"),),
        sampling="every_frame",
        multiply_adds=count_multiply_adds(lambda: I3DFeatures(I3D(channels, multiplier)), shape),
        checkpoint_sha256=weights.sha256,
        made_with=made_with or {},
    )


def _read_i3d_weights(path: Path) -> tuple[dict[str, Tensor], float, str]:
    """Read weights under their Kinetics names, the multiplier of the channels, and the SHA-256 of their origin."""
    try:
        weights = read_weights(path)
    except CheckpointError:  # no bare state dict; `load_checkpoint` below reports what is wrong
        weights = {}
    if FIRST_LAYER in weights:
        return weights, 1.0, file_sha256(path)
    checkpoint = load_checkpoint(path)
    if checkpoint.config.stream == "features":
        raise CheckpointError(f"{path}: a network on features, which has no I3D; give Kinetics weights, or AFSD's")
    entries = checkpoint.weights.items()
    inside = {name.removeprefix(I3D_PREFIX): v for name, v in entries if name.startswith(I3D_PREFIX)}
    return inside, checkpoint.config.model.backbone_multiplier, checkpoint.sha256
