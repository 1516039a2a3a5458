"""What an exporter starts from: a checkpoint or an ONNX file, as a graph and the engine its numbers are judged by."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnx

from export.graph.precision import HALF, precision_of, rounded_on_cpu
from export.graph.trace import to_graph
from runtime.engines import Engine, open_engine
from runtime.errors import EngineError, ExportError
from runtime.spec.model import ModelSpec
from training.checkpoints.files import Checkpoint, build_model, load_checkpoint
from training.config.files import load_config
from training.deployment.views import TorchEngine, make_deployable, model_spec

Say = Callable[[str], None]
"""Receives progress and reports."""


@dataclass(frozen=True)
class Source:
    """A network to export."""

    path: Path
    graph: onnx.ModelProto
    reference: Engine
    """PyTorch for a checkpoint; ONNX Runtime with the file itself for an ONNX file (see `cpu_engine`)."""

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
        ExportError: there is no such file, or it is an engine.
        CheckpointError, ConfigError, EngineError, SpecError: it cannot be read or does not fit.
    """
    if path.suffix in (".engine", ".plan", ".xml"):
        raise ExportError(f"{path}: an engine already; give the checkpoint or the ONNX file that it was made from")
    if path.suffix == ".onnx":
        if not path.is_file():
            raise ExportError(f"{path}: no such file; expected a checkpoint, or an ONNX file of this project")
        graph = loaded(path)
        return Source(path, graph, cpu_engine(graph, path))
    checkpoint = load_checkpoint(path, load_config(config) if config else None)
    spec, network = exported_spec(checkpoint), build_model(checkpoint, str(path))
    say(f"tracing {path}")
    return Source(path, to_graph(make_deployable(network, spec), spec), TorchEngine(network, spec))


def loaded(path: Path) -> onnx.ModelProto:
    """An ONNX file as a graph; EngineError where it is none."""
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's own exception
        raise EngineError(f"{path}: not an ONNX file ({' '.join(str(error).split())}); export it again") from None


def require_writable(out: Path) -> None:
    """Before minutes of work: ExportError unless a file can be written beside `out`, whose folder is made."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise ExportError(f"{out}: its folder cannot be written to ({error.strerror}); name another with -o") from None


def cpu_engine(graph: onnx.ModelProto, path: Path) -> Engine:
    """An engine that computes on the CPU what the types of a graph say; ONNX Runtime there has no bfloat16.

    Args:
        graph: of any precision.
        path: file that holds it, which is opened where nothing has to be imitated.
    """
    if precision_of(graph) not in HALF:
        return open_engine(path)
    with tempfile.TemporaryDirectory(prefix="afsd-") as folder:
        rounded = Path(folder) / path.name
        onnx.save(rounded_on_cpu(graph), rounded)
        return open_engine(rounded)


def exported_spec(checkpoint: Checkpoint) -> ModelSpec:
    """The ModelSpec an artifact of this checkpoint carries."""
    return model_spec(
        checkpoint.config, checkpoint.classes, checkpoint_sha256=checkpoint.sha256, made_with=library_versions()
    )


def library_versions() -> dict[str, str]:
    """What makes an artifact, for its ModelSpec."""
    return {name: _version(name) for name in ("afsd", "torch", "onnx")}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # a source tree that is not installed
        return "unknown"
