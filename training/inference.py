"""The deployment view of a trained network: uint8 frames in, raw outputs out, and that view as an engine.

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

from runtime.decode import AFSD_OUTPUTS
from runtime.errors import EngineError
from runtime.spec import ModelSpec, TensorSpec
from training.checkpoint import Checkpoint, build_model, load_checkpoint
from training.config import Config
from training.config_files import load_config
from training.models.afsd import AFSD
from training.models.normalisation import normalise
from training.models.pyramid import AfsdOutput
from training.multiply_adds import count_multiply_adds


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


def multiply_adds(config: Config) -> int:
    """Multiply-adds of one window; see `count_multiply_adds`."""
    model = replace(config.model, stem="random")  # initial values are none on shapes alone
    return count_multiply_adds(
        lambda: AFSD(model), (1, model.in_channels, model.clip_length, model.crop_size, model.crop_size)
    )


def model_spec(
    config: Config, classes: tuple[str, ...], *, checkpoint_sha256: str = "", made_with: dict[str, str] | None = None
) -> ModelSpec:
    """What the deployed network takes and gives."""
    model, data = config.model, config.data
    size, length = model.crop_size, model.clip_length
    locations = sum(model.level_lengths)
    widths = {"loc": 2, "conf": model.num_classes, "prop_loc": 2, "prop_conf": model.num_classes, "center": 1}
    return ModelSpec(
        family="afsd",
        stream=model.stream,
        classes=classes,
        sample_fps=data.sample_fps,
        window_length=length,
        window_stride=data.test_stride,
        frame_size=(data.frame_size, data.frame_size),
        crop_size=(size, size),
        level_lengths=model.level_lengths,
        inputs=(
            TensorSpec("frames", ("batch", length, size, size, model.in_channels), "uint8"),
            TensorSpec("lengths", ("batch",), "int32"),
        ),
        outputs=tuple(TensorSpec(name, ("batch", locations, widths[name]), "float32") for name in AFSD_OUTPUTS),
        sampling=data.sampling,
        decoding=replace(config.decoding, quality=config.decoding.quality and model.quality != "none"),
        multiply_adds=multiply_adds(config),
        checkpoint_sha256=checkpoint_sha256,
        made_with=made_with or {},
    )


class TorchEngine:
    """A network run by PyTorch behind the runtime's engine protocol: the yardstick of every exported engine."""

    def __init__(self, model: AFSD, spec: ModelSpec, device: str = "cpu") -> None:
        self._module: Deployed | None = Deployed(model).eval().to(device)
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
        return {name: value.cpu().numpy() for name, value in zip(output._fields, output, strict=True)}

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
