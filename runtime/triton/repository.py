"""Write a model repository for Triton: the network, the model of whole videos, and the model of frame streams."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from runtime import __version__
from runtime.common.exchange import exchange
from runtime.common.files import exists, is_folder, read_text, require_writable_folder, synchronise, write_text
from runtime.common.locks import lock_folder
from runtime.common.names import require_safe_name
from runtime.common.overwriting import require_own_file, text_that_begins
from runtime.common.temporaries import scratch_folder
from runtime.engines.artifact import READERS, Artifact, read_artifact
from runtime.engines.sidecar import sidecar_path
from runtime.errors import EngineError, InputError
from runtime.features.extractor import SNIPPETS_PER_CALL
from runtime.triton.configs import (
    BACKENDS,
    LENGTHS,
    Placement,
    instance_group,
    largest_batch,
    network_config,
    stream_config,
    video_config,
)
from runtime.triton.engine import TritonEngine
from runtime.triton.pbtxt import Message, to_pbtxt
from runtime.triton.serving import NETWORKS, Role, make_detector
from runtime.triton.settings import Settings

MARK = "# Written by afsd triton"
"""First words of every config.pbtxt, by which an older one is known."""
README_MARK = "Models for the Triton Inference Server, written by afsd triton"
VERSION = "1"
STREAM = "stream"
ADVICE = "name another --out or --name"
PACKAGES = {".onnx": "onnxruntime", ".xml": "openvino", ".engine": "tensorrt and cuda-bindings"}
"""Packages that run an engine file in a Python model, by suffix."""

MODEL_PY = '''"""{purpose} Written by afsd triton; what it does is in {module}."""

import os
import sys

# The interpreter of Triton's Python backend may leave PYTHONPATH out.
sys.path[:0] = [
    place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place and place not in sys.path
]

from {module} import TritonPythonModel  # noqa: E402

__all__ = ["TritonPythonModel"]
'''
"""Text of a model.py."""

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


def write_repository(repository: Repository, folder: Path) -> list[str]:
    """Write the models into a folder, each at once; other models that lie there stay.

    A process at a time writes; another waits. A kill at any moment leaves each model whole, the older or the new one
    (on systems that cannot exchange folders, after the next start).

    Returns:
        Lines that say what each model is and needs.

    Raises:
        InputError: options that exclude each other, a folder of a model's name that is not this project's, or another
            process that writes there for too long.
        EngineError, SpecError: an engine file that cannot be read, or is none that the server can run.
    """
    artifacts = {role: read_engine(path) for role, path in repository.engines.items()}
    _check(repository, artifacts)
    models = _plan(repository, artifacts)
    told = [f"{model}: {make.purpose}" for model, make in models.items()]
    require_writable_folder(folder, ADVICE)
    with lock_folder(folder, "afsd triton"):
        for model in _names(repository.name):
            _put_back(folder / model)
            _require_own(folder / model)
        require_own_file(folder / "README.txt", text_that_begins(README_MARK), ADVICE)
        with scratch_folder(folder) as scratch:
            for number, make in enumerate(models.values()):
                make.write(scratch / str(number))
            for number, model in enumerate(models):
                _put(scratch / str(number), folder / model)
            for model in _names(repository.name):
                if model not in models and is_folder(folder / model):
                    (folder / model).replace(scratch / f"gone-{model}")
        write_text(folder / "README.txt", _readme(repository, artifacts, told))
    return told


@dataclass(frozen=True)
class _Model:
    """Holds one model of the repository before it is written."""

    purpose: str
    config: Message
    module: str = ""
    """Module of a Python model; empty: a backend of Triton runs a file."""
    files: tuple[Artifact, ...] = ()
    """Engines in the version's folder, under their own names."""
    specs: tuple[Artifact, ...] = ()
    """Engines of which only the ModelSpec lies there."""
    native: Artifact | None = None
    """Engine that a backend of Triton runs."""
    window_length: int = 0
    """Valid frames of the window of the warm-up; 0: there is none."""

    def write(self, folder: Path) -> None:
        """Write the model's folder."""
        version = folder / VERSION
        version.mkdir(parents=True)
        (folder / "config.pbtxt").write_text(f"{MARK} {__version__}.\n{to_pbtxt(self.config)}", encoding="utf-8")
        if self.module:
            text = MODEL_PY.format(purpose=f"{self.purpose.partition(';')[0].capitalize()}.", module=self.module)
            (version / "model.py").write_text(text, encoding="utf-8")
        for artifact in self.files:
            copy_engine(artifact, version)
        for artifact in self.specs:
            (version / _spec_name(artifact)).write_text(artifact.spec.to_json() + "\n", encoding="utf-8")
        if self.native is not None:
            name = BACKENDS[self.native.path.suffix.lower()][1]
            shutil.copyfile(self.native.path if name == "model.xml" else self.native.weights, version / name)
            if name == "model.xml":
                shutil.copyfile(self.native.weights, version / "model.bin")
        if self.window_length:
            (folder / "warmup").mkdir()
            (folder / "warmup" / LENGTHS).write_bytes(np.array([self.window_length], "<i4").tobytes())


def copy_engine(artifact: Artifact, folder: Path) -> None:
    """Copy all files of an engine into a folder under the names by which it is opened."""
    path = artifact.path
    shutil.copyfile(path if path.suffix == ".xml" else artifact.weights, folder / path.name)
    if path.suffix == ".xml":
        shutil.copyfile(artifact.weights, folder / f"{path.stem}.bin")
    if artifact.build is not None or (path.suffix == ".xml" and not artifact.sha256):  # of an older release
        shutil.copyfile(sidecar_path(path), folder / sidecar_path(path).name)


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


def _check(repository: Repository, artifacts: Mapping[Role, Artifact]) -> None:
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


def _plan(repository: Repository, artifacts: Mapping[Role, Artifact]) -> dict[str, _Model]:
    """Return the models of the repository by their names; the networks come first, since the others use them."""
    models: dict[str, _Model] = {}
    placement, main = repository.placement, artifacts["engine"]
    for role, artifact in artifacts.items():
        if repository.network != "none" and artifact.spec.streaming is None:
            models[f"{repository.name}_{NETWORKS[role]}"] = _network(repository, role, artifact)
    suffix = "" if repository.in_triton else main.path.suffix.lower()
    files: dict[str, Any] = {
        role: _spec_name(one) if repository.in_triton else one.path.name for role, one in artifacts.items()
    }
    network = repository.name if repository.in_triton else ""
    settings = replace(repository.settings, network=network, device=_device(repository, main), **files)
    engines = tuple(artifacts.values())
    held: dict[str, Any] = {"specs": engines} if repository.in_triton else {"files": engines}
    models[repository.name] = _Model(
        "whole videos; takes VIDEO (bytes), PATH or URL, gives LABELS, SCORES, SEGMENTS, JSON",
        video_config(repository.name, settings, placement, suffix),
        "runtime.triton.video_model",
        **held,
    )
    takes_frames = main.spec.features is None or "backbone" in artifacts or "flow_backbone" in artifacts
    if takes_frames and main.spec.sampling != "whole_video":
        name = f"{repository.name}_{STREAM}"
        models[name] = _Model(
            "streams of frames; takes FRAMES by sequence id, gives what becomes final",
            stream_config(name, settings, placement, suffix),
            "runtime.triton.stream_model",
            **held,
        )
    return models


def _network(repository: Repository, role: Role, artifact: Artifact) -> _Model:
    name = f"{repository.name}_{NETWORKS[role]}"
    has_lengths = any(tensor.name == LENGTHS for tensor in artifact.spec.inputs)
    window_length = artifact.spec.window_length if has_lengths else 0
    if repository.network == "native":
        return _Model(
            f"the network alone; {needs_of(artifact)}",
            network_config(name, artifact, repository.placement, None),
            native=artifact,
            window_length=window_length,
        )
    settings = Settings(
        artifact.path.name,
        device=_device(repository, artifact),
        threads=repository.settings.threads,
        precision=repository.settings.precision,
    )
    return _Model(
        "the network alone; run by a Python model",
        network_config(name, artifact, repository.placement, settings),
        "runtime.triton.network_model",
        files=(artifact,),
        window_length=window_length,
    )


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


def _spec_name(artifact: Artifact) -> str:
    return f"{artifact.path.stem}.spec.json"


def _names(name: str) -> list[str]:
    return [*(f"{name}_{last}" for last in NETWORKS.values()), name, f"{name}_{STREAM}"]


def _require_own(folder: Path) -> None:
    """Check that nothing of others is lost if a model's folder is replaced.

    Raises:
        InputError: something is there that this project did not write.
    """
    if not exists(folder):
        return
    config = folder / "config.pbtxt"
    with suppress(OSError, UnicodeDecodeError):
        if is_folder(folder) and not folder.is_symlink() and read_text(config).startswith(MARK):
            return
    raise InputError(f"{folder}: is there already and no model of afsd triton, so it is not written over; {ADVICE}")


def _put(new: Path, place: Path) -> None:
    """Put a model's folder in its place; an older one goes in the same step where the system can exchange them.

    Where it cannot, the older one lies aside for a moment, and `_put_back` mends what a kill in that moment leaves.
    """
    for path in (new, *new.rglob("*")):
        synchronise(path)
    if not exists(place):
        new.replace(place)
    elif not exchange(new, place):
        aside = _aside(place)
        place.replace(aside)
        try:
            new.replace(place)
        except BaseException:
            aside.replace(place)
            raise
        aside.replace(new)  # which goes with its folder
    synchronise(place.parent)


def _put_back(place: Path) -> None:
    """Put a model back that a killed process had laid aside, or remove what it laid aside if the new one is there.

    Raises:
        InputError: what lies there is not this project's.
    """
    aside = _aside(place)
    if not exists(aside):
        return
    _require_own(aside)
    if exists(place):
        with scratch_folder(place.parent) as scratch:
            aside.replace(scratch / "old")
    else:
        aside.replace(place)


def _aside(place: Path) -> Path:
    """Return where an older model lies while the new one takes its place."""
    return place.with_name(f".{place.name}.old")


def _readme(repository: Repository, artifacts: Mapping[Role, Artifact], told: list[str]) -> str:
    suffixes = {path.suffix.lower().replace(".plan", ".engine") for path in repository.engines.values()}
    packages = sorted(PACKAGES[suffix] for suffix in suffixes)
    models = "\n".join(f"    {line}" for line in told)
    on_gpu = instance_group(repository.placement, artifacts["engine"].path.suffix.lower())[0]["kind"] == "KIND_GPU"
    load = " ".join(shlex.quote(f"--load-model={line.partition(':')[0]}") for line in told)
    python = f"afsd {__version__}, numpy, opencv-python-headless, av, {', '.join(packages)}"
    return f"""{README_MARK} {__version__}.

{models}

The Python models need in the Python of the server (3.11 or newer):

    {python}

Install them there, or put their folder into PYTHONPATH, which model.py reads. Older servers (24.10, which is in
nvidia-pytriton 0.7, is one) answer with empty outputs under numpy 2: give them numpy below 2.
{"The instances run on GPUs." if on_gpu else "The instances run on the CPU; more of them share its cores (threads)."}

    tritonserver --model-repository=REPOSITORY
    tritonserver --model-repository=REPOSITORY --model-control-mode=explicit {load}

The second form loads the named models alone: leave out what the server has no backend for. What may be changed is in
the parameters of each config.pbtxt. How to ask the models: docs/triton.md of the project.
"""
