"""Plan the models of a repository from its engines, and refuse what does not fit together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from runtime.common.names import require_safe_name
from runtime.engines.artifact import READERS, Artifact, read_artifact
from runtime.errors import EngineError, InputError
from runtime.features.extractor import SNIPPETS_PER_CALL
from runtime.triton.configs import (
    BACKENDS,
    LENGTHS,
    Placement,
    largest_batch,
    network_config,
    stream_config,
    video_config,
)
from runtime.triton.engine import TritonEngine
from runtime.triton.model_folder import PlannedModel, spec_name
from runtime.triton.serving import NETWORKS, Role, make_detector
from runtime.triton.settings import Settings

STREAM = "stream"
Network = Literal["native", "python", "none"]
"""What runs the network's own model: Triton's backend for the file, a Python model, or nothing."""


@dataclass(frozen=True)
class Repository:
    """Holds what a repository is made of."""

    engines: Mapping[Role, Path]
    """Engine file of each role; that of "engine" must be there."""
    name: str = "afsd"
    """Name of the model of whole videos, and begin of the others'."""
    settings: Settings = Settings("")  # noqa: RUF009 — frozen
    """What the Python models are told; the files are filled in here."""
    placement: Placement = Placement()  # noqa: RUF009 — frozen
    network: Network = "native"
    in_triton: bool = False
    """Whether the networks of the Python models run in the server's own models of them."""


def read_engine(path: Path) -> Artifact:
    """Read what an engine file says about itself, and compare its files with their digest.

    Raises:
        EngineError: no file, or none that a server runs.
        SpecError: see `read_artifact`.
    """
    if path.suffix.lower() not in READERS:
        raise EngineError(f"{path}: no engine file that a server runs; expected .onnx, .xml or .engine (afsd export)")
    if not path.is_file():
        raise EngineError(f"{path}: file not found; expected an engine file (.onnx, .xml or .engine)")
    return read_artifact(path)


def check_repository(repository: Repository, artifacts: Mapping[Role, Artifact]) -> None:
    """Check that engines, options and names fit together.

    Raises:
        InputError: they do not.
    """
    require_safe_name(repository.name, what="--name")
    if repository.settings.detector.reader == "opencv":
        raise InputError("--reader: got opencv, which opens files that a video names; expected pyav, so leave it out")
    names = [artifact.path.name for artifact in artifacts.values()]
    if len({artifact.path.stem for artifact in artifacts.values()}) < len(names):
        raise InputError(f"got the engines {', '.join(names)}, expected files of different names; rename one")
    engines = {role: TritonEngine("", artifact.spec, None) for role, artifact in artifacts.items()}
    make_detector(engines, repository.settings.detector)  # refuses models and options that do not fit together
    if repository.in_triton:
        _check_networks(repository, artifacts)


def _check_networks(repository: Repository, artifacts: Mapping[Role, Artifact]) -> None:
    """Check that the networks can run in models of their own, for the batches that the Python models make."""
    streaming = [artifact.path for artifact in artifacts.values() if artifact.spec.streaming is not None]
    if streaming:
        raise InputError(
            f"--network-in-triton: {streaming[0]} sees each frame once and keeps states, which the Python models hold "
            "themselves; leave it out"
        )
    if repository.network == "none":
        raise InputError("--network-in-triton: needs the network's own model; leave out --network none")
    for artifact in artifacts.values():
        most = largest_batch(artifact, repository.placement)
        size = SNIPPETS_PER_CALL if artifact.spec.is_backbone else repository.settings.detector.batch_size
        if 0 < most < size:
            raise InputError(
                f"{artifact.path}: would get {size} windows at a time, and takes at most {most} in Triton; raise "
                "--max-batch, or lower --batch"
            )


def plan_models(repository: Repository, artifacts: Mapping[Role, Artifact]) -> dict[str, PlannedModel]:
    """Return the models of the repository by their names; the networks come first, since the others use them."""
    models: dict[str, PlannedModel] = {}
    placement, main = repository.placement, artifacts["engine"]
    for role, artifact in artifacts.items():
        if repository.network != "none" and artifact.spec.streaming is None:
            models[f"{repository.name}_{NETWORKS[role]}"] = _network(repository, role, artifact)
    suffix = "" if repository.in_triton else main.path.suffix.lower()
    files: dict[str, Any] = {
        role: spec_name(one) if repository.in_triton else one.path.name for role, one in artifacts.items()
    }
    network = repository.name if repository.in_triton else ""
    settings = replace(repository.settings, network=network, device=_device(repository, main), **files)
    engines = tuple(artifacts.values())
    held: dict[str, Any] = {"specs": engines} if repository.in_triton else {"files": engines}
    models[repository.name] = PlannedModel(
        "whole videos; takes VIDEO (bytes), PATH or URL, gives LABELS, SCORES, SEGMENTS, JSON",
        video_config(repository.name, settings, placement, suffix),
        "runtime.triton.video_model",
        **held,
    )
    takes_frames = main.spec.features is None or "backbone" in artifacts or "flow_backbone" in artifacts
    if takes_frames and main.spec.sampling != "whole_video":
        name = f"{repository.name}_{STREAM}"
        models[name] = PlannedModel(
            "streams of frames; takes FRAMES by sequence id, gives what becomes final",
            stream_config(name, settings, placement, suffix),
            "runtime.triton.stream_model",
            **held,
        )
    return models


def _network(repository: Repository, role: Role, artifact: Artifact) -> PlannedModel:
    name = f"{repository.name}_{NETWORKS[role]}"
    batches = [tensor.shape[0] for tensor in artifact.spec.inputs if tensor.name == LENGTHS]
    windows = sum(1 if isinstance(batch, str) else batch for batch in batches)  # an open batch: one window
    lengths = (artifact.spec.window_length,) * windows
    placement = _network_placement(repository)
    if repository.network == "native":
        return PlannedModel(
            f"the network alone; {needs_of(artifact)}",
            network_config(name, artifact, placement, None),
            native=artifact,
            lengths=lengths,
        )
    settings = Settings(
        artifact.path.name,
        device=_device(repository, artifact),
        threads=repository.settings.threads,
        precision=repository.settings.precision,
    )
    return PlannedModel(
        "the network alone; run by a Python model",
        network_config(name, artifact, placement, settings),
        "runtime.triton.network_model",
        files=(artifact,),
        lengths=lengths,
    )


def _network_placement(repository: Repository) -> Placement:
    """Return the placement of the networks: what the repository's own models ask at once is not refused for its number.

    Each stream, and each instance of the model of whole videos, asks for one window after the other; a window that is
    refused would end a video that has long begun.
    """
    placement = repository.placement
    if not repository.in_triton:
        return placement
    own = placement.instances * (repository.settings.max_sequences + 1)
    return replace(placement, queue=placement.queue + own, wait_s=None)


def _device(repository: Repository, artifact: Artifact) -> str:
    """Return the device that a Python model is told; on GPUs the instance knows its own."""
    return "gpu" if repository.placement.gpus(artifact.path.suffix.lower()) else "cpu"


def needs_of(artifact: Artifact) -> str:
    """Return what Triton's own backend needs for an engine file."""
    backend = BACKENDS[artifact.path.suffix.lower()][0]
    if artifact.build is not None:
        gpus, version = " or ".join(artifact.build.architectures), artifact.build.version
        needed = f"needs Triton's backend {backend} with {artifact.build.library} {version}, on a GPU of {gpus}"
        plugin = artifact.build.pooling == "plugin"
        return needed + ("; the pooling plugin's kernel is in the plan" if plugin else "")
    needed = f"needs Triton's backend {backend}"
    if backend == "onnxruntime" and artifact.spec.family == "afsd":
        return f"{needed}; boundary pooling is a function of standard operators in the file, no custom library"
    return needed


def possible_names(name: str) -> list[str]:
    """Return the names that models of a repository of a name may have."""
    return [*(f"{name}_{last}" for last in NETWORKS.values()), name, f"{name}_{STREAM}"]
