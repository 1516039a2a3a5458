"""Read what an exporter starts from: a checkpoint or an ONNX file, as a graph and the engine to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnx

from export.graph.carried_spec import read_carried_spec
from export.graph.files import load_graph, save_graph
from export.graph.precision import HALF, emulate_half_on_cpu, precision_of
from export.graph.trace import to_graph
from runtime.common.temporaries import scratch_folder
from runtime.engines import Engine, open_engine
from runtime.errors import ExportError
from runtime.spec.model import ModelSpec
from training.checkpoints.files import Checkpoint, build_model, load_checkpoint
from training.config.files import load_config
from training.deployment.views import TorchEngine, checkpoint_spec, make_deployable

ELSEWHERE = "name another with -o"
"""Advice of errors about the folder of an output file."""

Say = Callable[[str], None]
"""Function that receives lines of progress and reports."""


@dataclass(frozen=True)
class ExportInput:
    """Holds a network to export and the engine that its numbers are compared with."""

    path: Path
    """Checkpoint or ONNX file."""
    graph: onnx.ModelProto
    reference: Engine
    """PyTorch for a checkpoint; ONNX Runtime with the file itself for an ONNX file (see `open_cpu_engine`)."""

    @property
    def spec(self) -> ModelSpec:
        """ModelSpec of the network."""
        return self.reference.spec

    @property
    def is_onnx(self) -> bool:
        """Whether the input is an ONNX file."""
        return self.path.suffix == ".onnx"


def read_export_input(path: Path, config: str, say: Say) -> ExportInput:
    """Read an ONNX file, or trace a checkpoint's network.

    Args:
        path: ONNX file of this project, checkpoint or bare state dict.
        config: configuration of a bare state dict's network.
        say: receives progress.

    Raises:
        ExportError: the file is not found, or is an engine.
        CheckpointError, ConfigError, EngineError, SpecError: the file cannot be read or does not fit.
    """
    if path.suffix in (".engine", ".plan", ".xml"):
        raise ExportError(f"{path}: an engine already; give the checkpoint or the ONNX file that it was made from")
    if path.suffix == ".onnx":
        if not path.is_file():
            raise ExportError(f"{path}: file not found; expected a checkpoint, or an ONNX file of this project")
        graph = load_graph(path)
        if read_carried_spec(graph, str(path)).streaming is not None:
            raise ExportError(
                f"{path}: a streaming network already; give the one on windows, with --stream --to FORMAT"
            )
        return ExportInput(path, graph, open_cpu_engine(graph, path))
    checkpoint = load_checkpoint(path, load_config(config) if config else None)
    spec, network = make_artifact_spec(checkpoint), build_model(checkpoint, str(path))
    say(f"tracing {path}")
    return ExportInput(path, to_graph(make_deployable(network, spec), spec), TorchEngine(network, spec))


def open_cpu_engine(graph: onnx.ModelProto, path: Path) -> Engine:
    """Open a graph in ONNX Runtime on the CPU, with half precision emulated: ONNX Runtime has no bfloat16 there.

    Args:
        graph: graph of any precision.
        path: ONNX file of the graph; opened as it is unless the precision must be emulated.
    """
    if precision_of(graph) not in HALF:
        return open_engine(path, verify=False)  # `load_graph` has verified it
    with scratch_folder() as folder:
        rounded = folder / path.name
        save_graph(emulate_half_on_cpu(graph), rounded)
        return open_engine(rounded)


def make_artifact_spec(checkpoint: Checkpoint, origin: str = "checkpoint") -> ModelSpec:
    """Return the ModelSpec that an artifact of a checkpoint carries; `origin` names the checkpoint in errors."""
    return checkpoint_spec(checkpoint, origin, library_versions())


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that make an artifact, for its ModelSpec."""
    return {name: _version(name) for name in ("afsd", "torch", "onnx")}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # a source tree that is not installed
        return "unknown"
