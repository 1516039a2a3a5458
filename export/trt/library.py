"""Which TensorRT builds: the full one for the GPU in this machine, or TensorRT for RTX, which needs none to build.

Both have the same Builder, OnnxParser and Runtime, so everything behind this module is one path.
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
"""What an RTX engine is built for unless told otherwise. Turing is left out: it has no bfloat16, and no float32 3-D
convolutions there."""


@dataclass(frozen=True)
class Library:
    """A loaded TensorRT."""

    name: TensorRtLibrary
    module: Any
    version: str

    @property
    def title(self) -> str:
        """For messages, as in "TensorRT-RTX 1.7.1.116"."""
        return f"{'TensorRT' if self.name == 'tensorrt' else 'TensorRT-RTX'} {self.version}"


def local_gpu() -> DeviceFacts:
    """The first GPU of this machine.

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
    """Load the library asked for, or the one that fits what is installed.

    Args:
        asked: "auto" takes TensorRT-RTX where target architectures are named or there is no GPU, else TensorRT if it is
            installed; and the other one where the first is not installed.
        architectures: targets that were named, as in "8.6".
        gpu: whether this machine has a GPU.

    Raises:
        MissingDependencyError: it is not installed, or neither is.
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
        if (module := _imported(MODULES[name])) is not None:
            return Library(name, module, str(module.__version__))
    raise MissingDependencyError(order[0], order[0], "building an engine")


def parse_architectures(text: str) -> tuple[str, ...]:
    """ "86,89,120" or "8.6,8.9" → ("8.6", "8.9", "12.0").

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


def _imported(module: str) -> Any | None:
    """The module, or None when it is not installed or cannot be loaded (its own libraries are missing)."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError):
        return None
