"""Run `afsd doctor`: what this installation can do on this machine, and how to get what is missing."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import runtime
from runtime.benchmark.machine import describe_machine
from runtime.common.console import print_json
from runtime.common.mappings import to_mapping
from runtime.common.tables import align
from runtime.common.text import one_line
from runtime.errors import EngineError, install_hint

State = Literal["ok", "missing", "broken"]

CODECS = ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mpeg2video", "mjpeg", "prores")
"""Codecs of videos that people have, by FFmpeg's names."""


@dataclass(frozen=True)
class Part:
    """Describes a library that this project uses."""

    name: str
    """Name in a package index."""
    module: str
    extra: str
    """Extra of this project that installs it; empty: it always belongs."""
    purpose: str
    look: Callable[[Any], str] = lambda _: ""
    """Function that returns, given the module, what the library can do here."""


@dataclass(frozen=True)
class Finding:
    """Holds what was found out about one thing."""

    name: str
    state: State
    purpose: str
    facts: str = ""
    """What is there: a version, devices, codecs."""
    remedy: str = ""
    """What to do, where something is missing or broken."""


def _onnx_providers(onnxruntime: Any) -> str:
    names = (name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())
    return f"providers {', '.join(names)}"


def _openvino_devices(_: Any) -> str:
    from runtime.engines.openvino.core import process_core

    return f"devices {', '.join(process_core().available_devices)}"


def _torch_devices(torch: Any) -> str:
    if not torch.cuda.is_available():
        return "CPU only"
    return "; ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _codecs(av: Any) -> str:
    lacking = [name for name in CODECS if name not in av.codecs_available]
    there = ", ".join(name for name in CODECS if name not in lacking)
    return f"decodes {there}" + (f"; not {', '.join(lacking)}" if lacking else "")


PARTS = (
    Part("numpy", "numpy", "", "everything"),
    Part("opencv-python-headless", "cv2", "", "resizing, pictures, flow, cameras"),
    Part("av", "av", "", "reading videos and streams", _codecs),
    Part("onnxruntime", "onnxruntime", "", "running .onnx files", _onnx_providers),
    Part("openvino", "openvino", "openvino", "running .xml files, the fastest on CPUs", _openvino_devices),
    Part("tensorrt", "tensorrt", "tensorrt", "building and running TensorRT engines"),
    Part("tensorrt-rtx", "tensorrt_rtx", "tensorrt-rtx", "building and running TensorRT-RTX engines"),
    Part("cuda-bindings", "cuda.bindings", "tensorrt", "memory of a GPU, for TensorRT engines"),
    Part("torch", "torch", "train", "training, exporting, running checkpoints", _torch_devices),
    Part("onnx", "onnx", "export", "exporting"),
    Part("fsspec", "fsspec", "remote", "reading from object stores"),
)  # fmt: skip
"""Libraries in the order in which they are listed."""

ENGINES = ("onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", "torch")
"""Libraries of which one must be there, or nothing can be run."""


def add_doctor(subparsers: Any) -> None:
    """Add the verb `doctor`."""
    parser = subparsers.add_parser(
        "doctor",
        epilog="examples:\n  afsd doctor\n  afsd doctor --json\n",
        help="what this installation can do on this machine, and what is missing",
        description="Looks up processor, GPU, libraries, engines and codecs, and says how to get what is missing. "
        "Nothing is changed.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=doctor)


def doctor(arguments: argparse.Namespace) -> int:
    """Run the verb.

    Raises:
        EngineError: no engine can run here; all findings were printed.
    """
    machine = describe_machine()
    findings = [*map(examine, PARTS), *_examine_machine()]
    if arguments.json:
        print_json(
            {
                "afsd": runtime.__version__,
                "machine": to_mapping(machine),
                "findings": [to_mapping(finding) for finding in findings],
            },
            indent=1,
        )
    else:
        instructions = f"; {', '.join(machine.instructions)}" if machine.instructions else ""
        print(f"afsd {runtime.__version__}, Python {machine.python}, {machine.system}")
        print(
            f"{machine.processor}, {machine.cores} of {machine.logical_cores} logical cores, "
            f"{machine.memory_gib:g} GiB{instructions}\n"
        )
        rows = [[finding.name, finding.state, finding.facts or "–", finding.purpose] for finding in findings]
        print(align([["part", "state", "what is there", "for"], *rows], "llll"))
        for finding in findings:
            if finding.remedy:
                print(f"\n{finding.name} ({finding.purpose}): {finding.remedy}")
    if not any(finding.name in ENGINES and finding.state == "ok" for finding in findings):
        raise EngineError("no library that runs a model is here; install one of those above")
    return 0


def examine(part: Part) -> Finding:
    """Return what is there of a library."""
    try:
        module = import_module(part.module)
    except ModuleNotFoundError as error:
        if error.name and not f"{part.module}.".startswith(f"{error.name}."):
            return Finding(part.name, "broken", part.purpose, f"needs {error.name}", f"install {error.name}")
        return Finding(part.name, "missing", part.purpose, "", install_hint(part.name, part.extra))
    except Exception as error:  # a library may fail in any way, for want of a driver too
        remedy = f"{install_hint(part.name, part.extra)}, again"
        return Finding(part.name, "broken", part.purpose, one_line(error), remedy)
    facts = [found] if (found := _version_of(part.name)) else []
    try:
        facts.append(part.look(module))
    except Exception as error:  # see above
        return Finding(part.name, "broken", part.purpose, "; ".join(facts), one_line(error))
    return Finding(part.name, "ok", part.purpose, "; ".join(filter(None, facts)))


def _examine_machine() -> Iterator[Finding]:
    """Yield what is found outside the libraries."""
    driver = shutil.which("nvidia-smi")
    yield Finding(
        "NVIDIA driver", "ok" if driver else "missing", "TensorRT, CUDA", driver or "",
        "" if driver else "of an NVIDIA GPU, if this machine has one; CPUs need none",
    )  # fmt: skip
    from runtime.engines.openvino.cache import default_folder

    folder = default_folder()
    if folder is None:
        yield Finding("cache folder", "missing", "faster starts of OpenVINO", "", "set HOME, or give --cache DIR")
        return
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    writable = there.is_dir() and os.access(there, os.W_OK)
    yield Finding(
        "cache folder", "ok" if writable else "broken", "faster starts of OpenVINO", _size_of(folder),
        "" if writable else f"{there} cannot be written to; give another with --cache DIR, or --no-cache",
    )  # fmt: skip


def _size_of(folder: Path) -> str:
    size = 0
    with suppress(OSError):
        size = sum(file.stat().st_size for file in folder.iterdir())
    return f"{folder}, {size / 1e6:,.0f} MB"


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
