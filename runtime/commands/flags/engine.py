"""Define the flags that name, choose and run engines, and open engines by them."""

from __future__ import annotations

import argparse
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands.flags.reading import add_reading_flags, add_recursive_flag
from runtime.engines.options import MODES
from runtime.engines.registry import LIBRARIES
from runtime.errors import InputError

if TYPE_CHECKING:
    from runtime.engines import Engine
    from runtime.spec.model import ModelSpec

BACKBONE_FLAGS = (("--backbone", "rgb"), ("--flow-backbone", "flow"))
"""Flags of the backbones, in the order of the features' channels, with the streams that they are for."""


def add_backbone_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags for the engines that make features of frames."""
    group.add_argument("--backbone", metavar="ENGINE", help="I3D on RGB that makes the features of a model on features")
    group.add_argument("--flow-backbone", metavar="ENGINE", help="I3D on flow, whose features follow those of RGB")


def open_backbones(arguments: argparse.Namespace, stack: ExitStack) -> list[Engine]:
    """Open the given backbones in the order of the features' channels; the stack closes them.

    Raises:
        InputError: a backbone is on another stream than its flag says.
    """
    engines = []
    alone = argparse.Namespace(**{**vars(arguments), "mode": None})  # an extractor runs one batch after the other
    for option, stream in BACKBONE_FLAGS:
        if path := path_of_flag(arguments, option):
            engines.append(stack.enter_context(closing(open_with(path, alone))))
            require_stream(option, path, engines[-1].spec, stream)
    return engines


def add_flow_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of a second stream."""
    group.add_argument("--flow-engine", metavar="ENGINE", help="flow model beside an RGB one; their outputs are fused")
    group.add_argument("--flow-method", choices=("auto", "tvl1", "dis"), default="auto", help="optical flow (auto)")


def add_label_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags that name the proposals of a class-agnostic model."""
    group.add_argument(
        "--video-scores",
        metavar="FILE",
        type=Path,
        help="labels for a class-agnostic model: a classifier's scores of the videos, by name (JSON)",
    )
    group.add_argument(
        "--labels-per-video", metavar="K", type=int, default=1, help="best classes of each video (%(default)s)"
    )


def add_engine_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags for running engines and reading videos."""
    add_library_flags(group)
    group.add_argument(
        "--fps",
        type=float,
        help="frames per second of the videos, in place of their time stamps or where there are none",
    )
    add_recursive_flag(group)
    add_reading_flags(group)


def add_library_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags for running engines."""
    group.add_argument("--library", choices=LIBRARIES, default="auto")
    group.add_argument(
        "--device",
        default="auto",
        help="cpu, or gpu with an optional index as in gpu:0 (gpu for .engine, else cpu); detect and serve take "
        "several, as in gpu:0,gpu:1, with a worker each",
    )
    group.add_argument(
        "--provider", choices=("cuda", "tensorrt"), help="ONNX Runtime's provider for an .onnx file on the GPU (cuda)"
    )
    group.add_argument("--cuda-graph", action="store_true", help="TensorRT engines: one launch for all kernels")
    group.add_argument(
        "--no-verify", action="store_true", help="open engine files without comparing them with their digest (faster)"
    )
    caching = group.add_mutually_exclusive_group()
    caching.add_argument(
        "--cache", metavar="DIR", help="OpenVINO: folder of compiled models for faster starts (the user's cache folder)"
    )
    caching.add_argument("--no-cache", action="store_true", help="OpenVINO: compile at every start, keep nothing")
    group.add_argument("--threads", metavar="N", type=int, help="CPU threads of the engine (all cores)")
    group.add_argument("--precision", choices=("fp32", "bf16"), help="OpenVINO on the CPU: bf16 is faster, less exact")


def add_mode_flag(group: argparse._ArgumentGroup) -> None:
    """Add the flag that says how OpenVINO shares the threads among batches."""
    group.add_argument(
        "--mode",
        choices=MODES,
        help="OpenVINO: one batch on all threads, or several at once (throughput for files, latency for live sources)",
    )


def open_with(path: str, arguments: argparse.Namespace) -> Engine:
    """Open an engine with the options that the flags give."""
    from runtime.engines import open_engine

    return open_engine(path, **opening_options(arguments))


def opening_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the flags as arguments of `open_engine`."""
    from runtime.engines.openvino.cache import default_folder

    return {
        "library": arguments.library,
        "device": arguments.device,
        "threads": arguments.threads,
        "precision": arguments.precision,
        "provider": arguments.provider,
        "cuda_graph": arguments.cuda_graph,
        "mode": getattr(arguments, "mode", None) or "latency",
        "cache": None if arguments.no_cache else arguments.cache or default_folder(),
        "verify": not arguments.no_verify,
    }


def require_stream(option: str, path: str, spec: ModelSpec, stream: str) -> None:
    """Raise an InputError if a backbone is on another stream than its flag says; a detector is refused later."""
    if spec.is_backbone and spec.stream != stream:
        raise InputError(f"{option} {path}: it sees {spec.stream}, expected an engine on {stream}")


def path_of_flag(arguments: argparse.Namespace, option: str) -> str | None:
    """Return the value of a flag with a path."""
    value: str | None = getattr(arguments, option[2:].replace("-", "_"))
    return value
