"""Wrap a trained network in its deployment view, from uint8 frames or features to raw outputs, and as an engine.

Export traces the module that validation and benchmarks run, so that a model has one definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from runtime.common.mappings import StructureError, from_mapping
from runtime.common.processors import limited_cores
from runtime.errors import CheckpointError, ConfigError, EngineError
from runtime.spec.model import ModelSpec
from runtime.spec.model_card import OperatingPoint
from runtime.spec.tensors import TensorSpec
from runtime.spec.time_axis import FeatureSampling
from training.checkpoints.files import OPERATING_POINT, TRAINED, Checkpoint, build_model, load_checkpoint
from training.config.files import load_config
from training.config.settings import Config
from training.deployment.compiled import CompiledModule, Forward
from training.families import FAMILIES, build_network, family_of
from training.networks.multiply_adds import count_multiply_adds
from training.networks.normalisation import mask_features, normalise


class Deployed(nn.Module):
    """Maps decoded frames to raw outputs; cast, normalisation, padding mask and layout are in the graph."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Return the raw outputs of a batch of windows.

        Args:
            frames: uint8 [B,T,H,W,C], RGB or flow (x, y).
            lengths: int32 [B], valid frames of each window; the others are 0 *after* normalisation, as in the published
                test code.
        """
        valid = torch.arange(frames.shape[1], device=frames.device, dtype=torch.int32) < lengths[:, None]
        pixels = frames.float()  # first operation: TensorRT takes uint8 only if it is cast at once
        output: tuple[Tensor, ...] = self.model(normalise(pixels.permute(0, 4, 1, 2, 3), valid))
        return output


class DeployedFeatures(nn.Module):
    """Maps features of a window to raw outputs in the order of the ModelSpec; the padding mask is in the graph."""

    def __init__(self, model: nn.Module, *, takes_lengths: bool) -> None:
        """Wrap a network; see `TrainingFamily.takes_lengths`."""
        super().__init__()
        self.model, self.takes_lengths = model, takes_lengths

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Return the raw outputs of a batch of windows.

        Args:
            features: float32 [B,C,T].
            lengths: int32 [B], valid steps of each window; the others are 0, as in training.
        """
        valid = torch.arange(features.shape[2], device=features.device, dtype=torch.int32) < lengths[:, None]
        masked = mask_features(features, valid)
        output = self.model(masked, lengths) if self.takes_lengths else self.model(masked)
        return tuple(value for value in output if value is not None)


def make_deployable(network: nn.Module, spec: ModelSpec) -> nn.Module:
    """Wrap a network in its deployment view, in eval mode; a backbone needs no wrapper."""
    if spec.is_backbone:
        return network.eval()
    if spec.stream != "features":
        return Deployed(network).eval()
    return DeployedFeatures(network, takes_lengths=FAMILIES[spec.family].takes_lengths).eval()


def multiply_adds(config: Config) -> int:
    """Count the multiply-adds of one window; see `count_multiply_adds`."""
    model = replace(config.model, stem="random")  # meta tensors have no values to initialise
    config = replace(config, model=model)
    if config.stream == "features":
        shape: tuple[int, ...] = (1, config.in_features, config.window_length)
    else:
        shape = (1, model.in_channels, config.window_length, model.crop_size, model.crop_size)
    return count_multiply_adds(lambda: build_network(config), shape)


def model_spec(
    config: Config, classes: tuple[str, ...], *, checkpoint_sha256: str = "", made_with: dict[str, str] | None = None
) -> ModelSpec:
    """Describe inputs, outputs and decoding of the deployed network.

    Raises:
        ConfigError: a configuration on features without the data's numbers (`Config.with_data`).
    """
    model, data, features = config.model, config.data, config.stream == "features"
    if features and not (config.num_classes and config.in_features):
        raise ConfigError(
            f"{config.name}: the number of classes or the width of the features is 0; give both, or a checkpoint"
        )
    size, frame_size = (0, 0) if features else (model.crop_size, data.frame_size)
    return ModelSpec(
        family=config.family,
        stream=config.stream,
        classes=classes,
        sample_fps=data.sample_fps,
        window_length=config.window_length,
        window_stride=data.test_stride,
        frame_size=(frame_size, frame_size),
        crop_size=(size, size),
        inputs=(_describe_input(config), TensorSpec("lengths", ("batch",), "int32")),
        sampling=data.sampling,
        features=(data.feature_sampling or FeatureSampling()) if features else None,
        feature_streams=data.streams if features else (),
        feature_uneven=data.feature_uneven,
        feature_resize=data.feature_resize,
        multiply_adds=multiply_adds(config),
        checkpoint_sha256=checkpoint_sha256,
        made_with=made_with or {},
        **vars(family_of(config).describe(config)),
    )


def checkpoint_spec(checkpoint: Checkpoint, origin: str, made_with: dict[str, str] | None = None) -> ModelSpec:
    """Describe a checkpoint's deployed network, with its card and operating point; see `model_spec`.

    Raises:
        CheckpointError: the operating point is damaged; `origin` is the checkpoint's file.
    """
    spec = model_spec(checkpoint.config, checkpoint.classes, checkpoint_sha256=checkpoint.sha256, made_with=made_with)
    card, metrics = checkpoint.config.card, checkpoint.metrics
    trained = card.trained or str(metrics.get(TRAINED, ""))
    card = replace(card, trained=trained, data=card.data or (checkpoint.config.name if trained else ""))
    try:
        point = from_mapping(OperatingPoint, metrics[OPERATING_POINT]) if OPERATING_POINT in metrics else None
    except StructureError as error:
        raise CheckpointError(f"{origin}: its operating point does not fit: {error}; measure it again") from None
    return replace(spec, card=card, operating_point=point, training_videos=checkpoint.training_videos)


def _describe_input(config: Config) -> TensorSpec:
    """Describe the input beside `lengths`: frames [B,T,H,W,C], or features [B,C,T]."""
    if config.stream == "features":
        return TensorSpec("features", ("batch", config.in_features, config.window_length), "float32")
    size = config.model.crop_size
    return TensorSpec("frames", ("batch", config.window_length, size, size, config.model.in_channels), "uint8")


Precision = Literal["fp32", "bf16"]


class TorchEngine:
    """Runs a network in PyTorch behind the runtime's engine protocol, as the reference for exported engines."""

    def __init__(
        self,
        network: nn.Module,
        spec: ModelSpec,
        device: str = "cpu",
        *,
        precision: Precision = "fp32",
        compiled: bool = False,
        origin: str = "the network",
    ) -> None:
        """Wrap a network.

        Args:
            network: network with its weights.
            spec: the network's.
            device: "cpu" or "cuda:INDEX".
            precision: "bf16" runs convolutions and matrix products in bfloat16 (autocast).
            compiled: see `CompiledModule`.
            origin: names the network in errors.

        Raises:
            EngineError: `compiled` is not possible here.
        """
        module = make_deployable(network, spec).to(device)
        self._forward: Forward | None = CompiledModule(module, origin, device) if compiled else module
        self.spec = spec
        self.device = device
        self.library = f"PyTorch {torch.__version__} {'compiled' if compiled else 'eager'}"
        self.precision: Precision = precision

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run one batch; see `runtime.engines.base.Engine`."""
        if self._forward is None:
            raise EngineError("this engine was closed; open it again")
        kind = self.device.partition(":")[0]
        narrow = torch.autocast(kind, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with torch.inference_mode(), narrow:
            output = self._forward(*(torch.from_numpy(inputs[t.name]).to(self.device) for t in self.spec.inputs))
        return {t.name: value.float().cpu().numpy() for t, value in zip(self.spec.outputs, output, strict=True)}

    def close(self) -> None:
        """Release the network."""
        self._forward = None


def open_torch_engine(
    path: str | Path,
    config: str = "",
    device: str = "cpu",
    *,
    precision: Precision = "fp32",
    compiled: bool = False,
) -> TorchEngine:
    """Open a checkpoint as an engine; `config` names the network of a bare state dict.

    On the CPU, PyTorch's threads, which are the process's, become no more than a container has time for.

    Raises:
        EngineError: there is no GPU, or no compiler; see `TorchEngine`.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise EngineError(f"{path}: got device {device}, but PyTorch sees no GPU; use --device cpu")
    if device == "cpu":
        _limit_threads()
    checkpoint = load_checkpoint(path, load_config(config) if config else None)
    return make_torch_engine(checkpoint, str(path), device, precision=precision, compiled=compiled)


def _limit_threads() -> None:
    """Have PyTorch compute on no more threads than a container has time for: it counts the machine's cores itself."""
    cores = limited_cores()
    if cores is not None and cores < torch.get_num_threads():  # fewer, as of OMP_NUM_THREADS, stay
        torch.set_num_threads(cores)


def make_torch_engine(
    checkpoint: Checkpoint,
    origin: str,
    device: str = "cpu",
    *,
    precision: Precision = "fp32",
    compiled: bool = False,
) -> TorchEngine:
    """Make an engine from a loaded checkpoint; `origin` names the checkpoint in errors; others: see `TorchEngine`."""
    spec = checkpoint_spec(checkpoint, origin)
    network = build_model(checkpoint, origin)
    return TorchEngine(network, spec, device, precision=precision, compiled=compiled, origin=origin)
