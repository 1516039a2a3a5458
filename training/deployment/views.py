"""The deployment view of a trained network: uint8 frames or features in, raw outputs out, and that view as an engine.

Export traces the same module that validation and benchmarks run, so there is one definition of what a model does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from runtime.decoding.a2net import A2NET_OUTPUTS
from runtime.decoding.afsd import AFSD_OUTPUTS
from runtime.decoding.two_stage import TWO_STAGE_OUTPUTS
from runtime.errors import ConfigError, EngineError
from runtime.spec.anchors import A2NetLayout
from runtime.spec.model import ModelSpec, TensorSpec
from runtime.spec.time_axis import FeatureSampling
from training.afsd.network import AFSD
from training.afsd.pyramid import AfsdOutput
from training.build_network import Network, build_network
from training.checkpoints.files import Checkpoint, build_model, load_checkpoint
from training.config.files import load_config
from training.config.settings import Config
from training.deployment.backbone import I3DFeatures
from training.networks.multiply_adds import count_multiply_adds
from training.networks.normalisation import mask_features, normalise
from training.two_stage.network import TwoStage


class Deployed(nn.Module):
    """Frames as a video gives them → raw outputs; cast, normalisation, padding mask and layout are in the graph."""

    def __init__(self, model: AFSD) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, lengths: Tensor) -> AfsdOutput:
        """Raw outputs of a batch of windows.

        Args:
            frames: uint8 [B,T,H,W,C], RGB or flow (x, y).
            lengths: int32 [B], valid frames of each window; the others count as 0 *after* normalisation, as in the
                published test code.
        """
        valid = torch.arange(frames.shape[1], device=frames.device, dtype=torch.int32) < lengths[:, None]
        pixels = frames.float()  # before anything else: TensorRT takes uint8 only where it is cast at once
        output: AfsdOutput = self.model(normalise(pixels.permute(0, 4, 1, 2, 3), valid))
        return output


class DeployedFeatures(nn.Module):
    """Features of a window → the raw outputs there are, in the order of the ModelSpec; the padding mask is in the
    graph."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Raw outputs of a batch of windows.

        Args:
            features: float32 [B,C,T].
            lengths: int32 [B], valid steps of each window; the others count as 0, as in training.
        """
        valid = torch.arange(features.shape[2], device=features.device, dtype=torch.int32) < lengths[:, None]
        masked = mask_features(features, valid)
        output = self.model(masked, lengths) if isinstance(self.model, TwoStage) else self.model(masked)
        return tuple(value for value in output if value is not None)


def deployed(network: Network | I3DFeatures) -> nn.Module:
    """The deployment view of a network, in eval mode; a backbone is its own."""
    if isinstance(network, I3DFeatures):
        return network.eval()
    if isinstance(network, AFSD) and network.config.stream != "features":
        return Deployed(network).eval()
    return DeployedFeatures(network).eval()


def multiply_adds(config: Config) -> int:
    """Multiply-adds of one window; see `count_multiply_adds`."""
    if config.stream == "features":
        return count_multiply_adds(lambda: build_network(config), (1, config.in_features, config.window_length))
    model = replace(config.model, stem="random")  # initial values are none on shapes alone
    return count_multiply_adds(
        lambda: AFSD(model), (1, model.in_channels, model.clip_length, model.crop_size, model.crop_size)
    )


def model_spec(
    config: Config, classes: tuple[str, ...], *, checkpoint_sha256: str = "", made_with: dict[str, str] | None = None
) -> ModelSpec:
    """What the deployed network takes and gives.

    Raises:
        ConfigError: a configuration on features that was not completed by data (`Config.of_data`).
    """
    model, data, features = config.model, config.data, config.stream == "features"
    if features and not (config.num_classes and config.in_features):
        raise ConfigError(
            f"{config.name}: the number of classes or the width of the features is 0; give both, or a checkpoint"
        )
    size, frame_size = (0, 0) if features else (model.crop_size, data.frame_size)
    a2net, two_stage = None if config.a2net is None else config.a2net.layout, config.two_stage
    return ModelSpec(
        family=config.family,
        stream=config.stream,
        classes=classes,
        sample_fps=data.sample_fps,
        window_length=config.window_length,
        window_stride=data.test_stride,
        frame_size=(frame_size, frame_size),
        crop_size=(size, size),
        level_lengths=a2net.level_lengths if a2net else model.level_lengths,
        inputs=(_input(config), TensorSpec("lengths", ("batch",), "int32")),
        outputs=_outputs(config, a2net),
        sampling=data.sampling,
        decoding=replace(config.decoding, quality=config.decoding.quality and model.quality != "none"),
        features=(data.feature_sampling or FeatureSampling()) if features else None,
        feature_streams=data.streams if features else (),
        feature_uneven=data.feature_uneven,
        feature_resize=data.feature_resize,
        a2net=None if two_stage else a2net,
        a2net_decoding=config.a2net_decoding if a2net and not two_stage else None,
        two_stage=two_stage.decoding if two_stage else None,
        multiply_adds=multiply_adds(config),
        checkpoint_sha256=checkpoint_sha256,
        made_with=made_with or {},
    )


def _input(config: Config) -> TensorSpec:
    """Frames [B,T,H,W,C], or features [B,C,T]."""
    if config.stream == "features":
        return TensorSpec("features", ("batch", config.in_features, config.window_length), "float32")
    size = config.model.crop_size
    return TensorSpec("frames", ("batch", config.window_length, size, size, config.model.in_channels), "uint8")


def _outputs(config: Config, a2net: A2NetLayout | None) -> tuple[TensorSpec, ...]:
    """The raw outputs there are: an A2Net of one module has its own alone."""
    if config.two_stage is not None:
        count, widths = config.two_stage.proposals, (2, 1, config.num_classes, 2)
        named = zip(TWO_STAGE_OUTPUTS, widths, strict=True)
        return tuple(TensorSpec(name, ("batch", count, width), "float32") for name, width in named)
    if a2net is None:
        locations, classes = sum(config.model.level_lengths), config.model.num_classes
        named = zip(AFSD_OUTPUTS, (2, classes, 2, classes, 1), strict=True)
        return tuple(TensorSpec(name, ("batch", locations, width), "float32") for name, width in named)
    points, anchors = a2net.num_points, a2net.num_anchors
    sizes = ((points, a2net.num_classes), (points, 2), (anchors, a2net.anchor_width))
    shapes = zip(A2NET_OUTPUTS, sizes, strict=True)
    return tuple(TensorSpec(name, ("batch", *size), "float32") for name, size in shapes if size[0])


class TorchEngine:
    """A network run by PyTorch behind the runtime's engine protocol: the yardstick of every exported engine."""

    def __init__(self, model: Network | I3DFeatures, spec: ModelSpec, device: str = "cpu") -> None:
        self._module: nn.Module | None = deployed(model).to(device)
        self.spec = spec
        self.device = device
        self.library = f"PyTorch {torch.__version__} eager"
        self.precision = "fp32"

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """One batch; see `runtime.engines.base.Engine`."""
        if self._module is None:
            raise EngineError("this engine was closed; open it again")
        with torch.inference_mode():
            output = self._module(*(torch.from_numpy(inputs[t.name]).to(self.device) for t in self.spec.inputs))
        return {t.name: value.cpu().numpy() for t, value in zip(self.spec.outputs, output, strict=True)}

    def close(self) -> None:
        """Let go of the network."""
        self._module = None


def open_torch_engine(path: str | Path, config: str = "", device: str = "cpu") -> TorchEngine:
    """A checkpoint as an engine; `config` names the network of a bare state dict."""
    if device != "cpu" and not torch.cuda.is_available():
        raise EngineError(f"{path}: device {device} was asked for, PyTorch sees no GPU here; use --device cpu")
    checkpoint = load_checkpoint(path, load_config(config) if config else None)
    return torch_engine(checkpoint, str(path), device)


def torch_engine(checkpoint: Checkpoint, source: str, device: str = "cpu") -> TorchEngine:
    """A loaded checkpoint as an engine; `source` names it in errors."""
    spec = model_spec(checkpoint.config, checkpoint.classes, checkpoint_sha256=checkpoint.sha256)
    return TorchEngine(build_model(checkpoint, source), spec, device)
