"""Write the folder of one model: its configuration, its program, its engines."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime import __version__
from runtime.engines.artifact import Artifact
from runtime.engines.sidecar import sidecar_path
from runtime.triton.configs import BACKENDS, LENGTHS
from runtime.triton.pbtxt import Message, to_pbtxt

MARK = "# Written by afsd triton"
"""First words of every config.pbtxt, by which an older one is known."""
VERSION = "1"
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


@dataclass(frozen=True)
class PlannedModel:
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
    lengths: tuple[int, ...] = ()
    """Valid frames of each window of the warm-up; empty: there is no warm-up."""

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
            (version / spec_name(artifact)).write_text(artifact.spec.to_json() + "\n", encoding="utf-8")
        if self.native is not None:
            name = BACKENDS[self.native.path.suffix.lower()][1]
            shutil.copyfile(self.native.path if name == "model.xml" else self.native.weights, version / name)
            if name == "model.xml":
                shutil.copyfile(self.native.weights, version / "model.bin")
        if self.lengths:
            (folder / "warmup").mkdir()
            (folder / "warmup" / LENGTHS).write_bytes(np.array(self.lengths, "<i4").tobytes())


def copy_engine(artifact: Artifact, folder: Path) -> None:
    """Copy all files of an engine into a folder under the names by which it is opened."""
    path = artifact.path
    shutil.copyfile(path if path.suffix == ".xml" else artifact.weights, folder / path.name)
    if path.suffix == ".xml":
        shutil.copyfile(artifact.weights, folder / f"{path.stem}.bin")
    if artifact.build is not None or (path.suffix == ".xml" and not artifact.sha256):  # of an older release
        shutil.copyfile(sidecar_path(path), folder / sidecar_path(path).name)


def spec_name(artifact: Artifact) -> str:
    """Return the name of the file of an engine's ModelSpec."""
    return f"{artifact.path.stem}.spec.json"
