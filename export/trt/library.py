"""Choose the library that builds: TensorRT for the GPU in this machine, or TensorRT for RTX, which needs no GPU.

Both have the same Builder, OnnxParser and Runtime, so all other code is common to both.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from runtime.engines.tensorrt.build_facts import MODULES, TensorRtLibrary
from runtime.engines.tensorrt.cuda import DeviceFacts, device_count, device_facts, load_bindings
from runtime.errors import ExportError, MissingDependencyError

RTX_ARCHITECTURES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities that TensorRT-RTX 1.x builds for (Turing to Blackwell; not the data-centre 9.0 and 10.0)."""


RTX_DEFAULT = ("8.6", "8.9", "12.0")
"""Default compute capabilities of a TensorRT-RTX engine. Turing is left out: RTX has no bfloat16 and no float32 3-D
convolutions for it."""


@dataclass(frozen=True)
class Library:
    """Holds a loaded TensorRT or TensorRT-RTX."""

    name: TensorRtLibrary
    module: Any
    version: str

    @property
    def title(self) -> str:
        """Name and version for messages, as in "TensorRT-RTX 1.7.1.116"."""
        return f"{'TensorRT' if self.name == 'tensorrt' else 'TensorRT-RTX'} {self.version}"


def local_gpu() -> DeviceFacts:
    """Return the facts of this machine's first GPU.

    Raises:
        MissingDependencyError: cuda-bindings is not installed.
        EngineError: there is no driver, or no GPU.
    """
    api = load_bindings("tensorrt", "finding the GPU")
    device_count(api)
    return device_facts(api, 0)


def find_library(
    asked: Literal["auto", "tensorrt", "tensorrt-rtx"], architectures: tuple[str, ...], *, gpu: bool
) -> Library:
    """Load the library asked for, or with "auto" the one that fits the targets and the machine.

    Args:
        asked: "auto" takes TensorRT-RTX if target architectures are given. Otherwise it tries TensorRT first on a
            machine with a GPU and TensorRT-RTX first without one, then the other library.
        architectures: compute capabilities to build for, as in "8.6"; empty: the default.
        gpu: whether this machine has a GPU.

    Raises:
        MissingDependencyError: the library is not installed; with "auto", neither is.
        ExportError: target architectures for full TensorRT, which builds for the GPU in the machine.
    """
    if asked == "tensorrt" and architectures:
        targets = ",".join(name.replace(".", "") for name in architectures)
        raise ExportError(
            f"--sm {targets}: TensorRT builds for the GPU in this machine; leave it out, or use --library tensorrt-rtx"
        )
    both: tuple[TensorRtLibrary, ...] = ("tensorrt", "tensorrt-rtx") if gpu else ("tensorrt-rtx", "tensorrt")
    order = both if asked == "auto" else (asked,)
    if architectures:
        order = ("tensorrt-rtx",)
    for name in order:
        if (module := _try_import(MODULES[name])) is not None:
            return Library(name, module, str(module.__version__))
    raise MissingDependencyError(order[0], order[0], "building an engine")


def parse_architectures(text: str) -> tuple[str, ...]:
    """Parse compute capabilities: "86,89,120" or "8.6,8.9,12.0" → ("8.6", "8.9", "12.0").

    Raises:
        ExportError: not a compute capability that TensorRT-RTX builds for.
    """
    found = []
    for part in text.split(","):
        digits = part.strip().lower().removeprefix("sm").replace(".", "").replace("_", "")
        capability = f"{digits[:-1]}.{digits[-1:]}"
        if capability not in RTX_ARCHITECTURES:
            known = ", ".join(name.replace(".", "") for name in RTX_ARCHITECTURES)
            raise ExportError(
                f"--sm {part.strip() or text!r}: TensorRT-RTX builds for {known}; for other GPUs build with full "
                "TensorRT on a machine that has one"
            )
        found.append(capability)
    return tuple(dict.fromkeys(found))


def _try_import(module: str) -> Any | None:
    """Import a module; None when it is not installed or cannot be loaded (its own libraries are missing)."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError):
        return None
