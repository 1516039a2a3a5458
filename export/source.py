"""What an exporter starts from: a checkpoint or an ONNX file, as a graph and the engine its numbers are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from export.to_onnx import Say, exported_spec
from export.trace import to_graph
from runtime.engines import Engine, open_engine
from runtime.spec import ModelSpec
from training.checkpoint import build_model, load_checkpoint
from training.config_files import load_config
from training.inference import Deployed, TorchEngine


@dataclass(frozen=True)
class Source:
    """A network to export."""

    path: Path
    graph: onnx.ModelProto
    reference: Engine
    """PyTorch for a checkpoint; ONNX Runtime with the file itself for an ONNX file."""

    @property
    def spec(self) -> ModelSpec:
        """Of the network."""
        return self.reference.spec

    @property
    def is_onnx(self) -> bool:
        """Whether the graph is a file already."""
        return self.path.suffix == ".onnx"


def read_source(path: Path, config: str, say: Say) -> Source:
    """Read an ONNX file, or trace a checkpoint's network.

    Args:
        path: ONNX file of this project, checkpoint or bare state dict.
        config: configuration of a bare state dict's network.
        say: receives progress.

    Raises:
        CheckpointError, ConfigError, EngineError, SpecError: it cannot be read or does not fit.
    """
    if path.suffix == ".onnx":
        return Source(path, onnx.load(path), open_engine(path))
    checkpoint = load_checkpoint(path, load_config(config) if config else None)
    spec, network = exported_spec(checkpoint), build_model(checkpoint, str(path))
    say(f"tracing {path}")
    return Source(path, to_graph(Deployed(network).eval(), spec), TorchEngine(network, spec))
