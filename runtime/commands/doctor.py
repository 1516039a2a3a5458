"""Run `afsd doctor`: what this installation can do on this machine, and how to get what is missing."""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import runtime
from runtime.benchmark.machine import describe_machine
from runtime.common.console import print_json
from runtime.common.mappings import to_mapping
from runtime.common.sizes import file_size
from runtime.common.tables import align
from runtime.common.text import one_line
from runtime.errors import EngineError, install_hint

State = Literal["ok", "missing", "broken"]

CODECS = ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mpeg2video", "mjpeg", "prores")
"""Codecs of videos that people have, by FFmpeg's names."""

ALONE = "-"
"""Stands for the extra of a library that none of this project's extras brings."""
CUDA_LIBRARY = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
"""Library of NVIDIA's driver."""
NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE."""
LONGEST_NAME = 256
AGAIN = "ask nvidia-smi what is wrong; often the machine needs a restart after the driver was renewed"


@dataclass(frozen=True)
class Part:
    """Describes a library that this project uses."""

    name: str
    """Name in a package index."""
    module: str
    extra: str
    """Extra of this project that installs it; empty: it always belongs; `ALONE`: it is installed by itself."""
    purpose: str
    look: Callable[[Any], str] = lambda _: ""
    """Function that returns, given the module, what the library can do here."""
    is_tried: bool = True
    """Whether it is imported to see that it works; not where that takes seconds or starts a service (FiftyOne)."""


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
    Part("safetensors", "safetensors", "train", "weights as .safetensors"),
    Part("tensorboardX", "tensorboardX", "train", "learning curves for TensorBoard (run.logger)", is_tried=False),
    Part("wandb", "wandb", "wandb", "learning curves in Weights & Biases (run.logger)", is_tried=False),
    Part("mlflow-skinny", "mlflow", "mlflow", "learning curves in MLflow (run.logger)", is_tried=False),
    Part("onnx", "onnx", "export", "exporting"),
    Part("fsspec", "fsspec", "remote", "reading from object stores"),
    Part("ray", "ray", "ray", "detecting on many machines", is_tried=False),
    Part("starlette", "starlette", "serve", "the service over HTTP"),
    Part("uvicorn", "uvicorn", "serve", "the service over HTTP"),
    Part("prometheus-client", "prometheus_client", "metrics", "afsd watch --metrics, and the service"),
    Part("shtab", "shtab", "completion", "afsd completion"),
    Part("pandas", "pandas", ALONE, "Detections.to_dataframe", is_tried=False),
    Part("fiftyone", "fiftyone", ALONE, "Detections.to_fiftyone", is_tried=False),
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
    if not part.is_tried and find_spec(part.module) is not None:
        return Finding(part.name, "ok", part.purpose, _version_of(part.name))
    try:
        module = import_module(part.module)
    except ModuleNotFoundError as error:
        if error.name and not f"{part.module}.".startswith(f"{error.name}."):
            return Finding(part.name, "broken", part.purpose, f"needs {error.name}", f"install {error.name}")
        return Finding(part.name, "missing", part.purpose, "", _hint(part))
    except Exception as error:  # a library may fail in any way, for want of a driver too
        remedy = f"{_hint(part)}, again"
        return Finding(part.name, "broken", part.purpose, one_line(error), remedy)
    facts = [found] if (found := _version_of(part.name)) else []
    try:
        facts.append(part.look(module))
    except Exception as error:  # see above
        return Finding(part.name, "broken", part.purpose, "; ".join(facts), one_line(error))
    return Finding(part.name, "ok", part.purpose, "; ".join(filter(None, facts)))


def _hint(part: Part) -> str:
    return f"pip install {part.name}" if part.extra == ALONE else install_hint(part.name, part.extra)


def examine_driver() -> Finding:
    """Return what the driver of NVIDIA's GPUs says when it is asked, as programs of CUDA ask it."""
    name, purpose = "NVIDIA driver", "TensorRT, CUDA"
    try:
        cuda = ctypes.CDLL(CUDA_LIBRARY)
    except OSError as error:
        tool = shutil.which("nvidia-smi")
        if tool is None:
            return Finding(name, "missing", purpose, "", "of an NVIDIA GPU, if this machine has one; CPUs need none")
        facts = f"{tool} is there, and {one_line(error)}"
        return Finding(name, "broken", purpose, facts, "install the driver anew, or give the container --gpus all")
    status = cuda.cuInit(0)
    if status:
        advice = "no GPU is visible: look at nvidia-smi and CUDA_VISIBLE_DEVICES" if status == NO_DEVICE else AGAIN
        return Finding(name, "broken", purpose, f"cuInit gives {_cuda_error(cuda, status)}", advice)
    version_number, count = ctypes.c_int(), ctypes.c_int()
    for ask, answer in ((cuda.cuDriverGetVersion, version_number), (cuda.cuDeviceGetCount, count)):
        if status := ask(ctypes.byref(answer)):
            return Finding(name, "broken", purpose, f"gives {_cuda_error(cuda, status)}", AGAIN)
    major, minor = version_number.value // 1000, version_number.value % 1000 // 10
    facts = f"CUDA {major}.{minor} or older; {', '.join(_gpu_names(cuda, count.value)) or 'no GPU'}"
    return Finding(name, "ok" if count.value else "broken", purpose, facts, "" if count.value else AGAIN)


def _gpu_names(cuda: Any, count: int) -> Iterator[str]:
    for number in range(count):
        device, text = ctypes.c_int(), ctypes.create_string_buffer(LONGEST_NAME)
        named = not cuda.cuDeviceGet(ctypes.byref(device), number) and not cuda.cuDeviceGetName(
            text, LONGEST_NAME, device
        )
        yield one_line(text.value.decode(errors="replace")) if named else f"GPU {number}, which gives no name"


def _cuda_error(cuda: Any, status: int) -> str:
    """Return the name of an error of CUDA's driver."""
    text = ctypes.c_char_p()
    cuda.cuGetErrorName(status, ctypes.byref(text))
    return text.value.decode() if text.value else f"error {status}"


def _examine_machine() -> Iterator[Finding]:
    """Yield what is found outside the libraries."""
    yield examine_driver()
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
    return f"{folder}, {file_size(size)}"


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
