"""Define `afsd export`, `afsd export-backbone` and `afsd demo`; torch and onnx are imported only when they run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from runtime.common.files import require_writable_folder
from runtime.errors import InputError, import_failure


def add_export(subparsers: Any) -> None:
    """Add `afsd export MODEL [--flow CHECKPOINT] --to onnx|openvino|tensorrt`."""
    parser = subparsers.add_parser(
        "export",
        epilog="examples:\n"
        "  afsd export last.ckpt --to openvino\n"
        "  afsd export last.ckpt --to tensorrt --precision fp16\n"
        "  afsd export rgb.ckpt --flow flow.ckpt --to onnx\n"
        "  afsd export last.ckpt --to openvino --stream\n",
        help="write a checkpoint as ONNX, OpenVINO or TensorRT file after comparing its numbers",
    )
    parser.add_argument(
        "model", metavar="MODEL", type=Path, help="checkpoint, bare state dict or ONNX file of this project"
    )
    parser.add_argument("-o", "--out", type=Path, help="file to write (default: beside MODEL)")
    parser.add_argument(
        "--to",
        choices=("onnx", "openvino", "tensorrt", "safetensors"),
        default="onnx",
        help="default: %(default)s; safetensors is the checkpoint itself, without pickle",
    )
    parser.add_argument("--config", default="", help="network of a bare state dict; the published ones are recognised")
    parser.add_argument(
        "--stream",
        action="store_true",
        help="write a streaming network: the backbone sees each frame once, the head windows of its features",
    )
    parser.add_argument("--flow", type=Path, metavar="CHECKPOINT", help="flow checkpoint: both as one fused file")
    parser.add_argument("--flow-config", default="", help="as --config, of the flow checkpoint")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16", "int8", "fp8"),
        help="of the heavy layers, written into the graph (default: fp32; for TensorRT fp16, or the ONNX file's own)",
    )
    parser.add_argument(
        "--videos", type=Path, nargs="+", default=[], metavar="VIDEO",
        help="report what half precision (of an int8 file: the engine) does to detections on these videos",
    )  # fmt: skip
    _add_tensorrt(parser.add_argument_group("TensorRT"))
    parser.set_defaults(func=_export)


def _add_tensorrt(group: Any) -> None:
    group.add_argument(
        "--library", choices=("auto", "tensorrt", "tensorrt-rtx"),
        help="TensorRT builds for the GPU in this machine, TensorRT-RTX for any and without one (default: auto)",
    )  # fmt: skip
    group.add_argument("--sm", metavar="86,89", help="target architectures of TensorRT-RTX (default: 86,89,120)")
    group.add_argument(
        "--batch",
        type=int,
        nargs="+",
        metavar="N",
        help="windows per batch: smallest, best and largest, or one number (default: 1 1 8)",
    )
    group.add_argument(
        "--pooling", choices=("auto", "plugin", "function"),
        help="boundary pooling by the plugin's kernel or by standard operators (default: the plugin where possible)",
    )  # fmt: skip
    group.add_argument("--workspace", type=float, metavar="GIB", help="most device memory of a layer (default: 4 GiB)")
    group.add_argument("--timing-cache", type=Path, metavar="FILE", help="kernel times, read and written (TensorRT)")


def _export(args: argparse.Namespace) -> int:
    try:
        from export.graph.export_input import ELSEWHERE
        from export.to_openvino import export_openvino
        from export.to_precision import write_typed_onnx
        from export.to_safetensors import export_safetensors
        from export.to_streaming import export_streaming
        from export.two_streams import export_fused
    except ImportError as error:
        raise import_failure(error, "", "export", "export") from None
    require_writable_folder((args.out or args.model).parent, ELSEWHERE)
    if args.flow_config and not args.flow:
        raise InputError("--flow-config names the network of --flow; give --flow as well, or leave it out")
    if args.to == "tensorrt":
        return _export_tensorrt(args)
    for name in ("library", "sm", "batch", "pooling", "workspace", "timing_cache"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} is for TensorRT engines; add --to tensorrt, or leave it out")
    if args.to == "safetensors":
        _refuse(args, "a .safetensors file is one checkpoint as it is", "flow", "precision", "videos", "stream")
        export_safetensors(args.model, args.out, args.config)
    elif args.stream:
        _refuse(args, "a streaming network has the precision of the file that it is made of", "precision")
        export_streaming(
            args.model, args.out, to=args.to, config=args.config, flow=args.flow, flow_config=args.flow_config,
            videos=args.videos,
        )  # fmt: skip
    elif args.flow:
        _refuse(args, "--flow writes float32", "precision", "videos")
        export_fused(args.model, args.flow, args.out, to=args.to, config=args.config, flow_config=args.flow_config)
    elif args.to == "openvino":
        _refuse(args, "an OpenVINO file is float32, and `--precision bf16` is chosen when it runs", "precision")
        export_openvino(args.model, args.out, args.config, videos=args.videos)
    else:
        write_typed_onnx(args.model, args.precision or "fp32", args.config, out=args.out, videos=args.videos)
    return 0


def _export_tensorrt(args: argparse.Namespace) -> int:
    from export.to_trt import TrtOptions, export_trt
    from export.trt.build import BuildOptions
    from export.trt.library import parse_architectures

    if args.flow:
        raise InputError("--flow: write the fused ONNX file first (--to onnx --flow …), then build its engine")
    build = BuildOptions(
        batch=_profile(args.batch),
        architectures=parse_architectures(args.sm) if args.sm else (),
        workspace_gib=BuildOptions.workspace_gib if args.workspace is None else args.workspace,
        timing_cache=args.timing_cache,
    )
    options = TrtOptions(
        args.precision, args.library or "auto", args.pooling or "auto", build, args.videos, args.stream
    )
    export_trt(args.model, args.out, args.config, options)
    return 0


def _profile(batch: list[int] | None) -> tuple[int, int, int]:
    """Return smallest, best and largest batch from the numbers of --batch."""
    if batch is None:
        return 1, 1, 8
    if len(batch) not in (1, 3):
        raise InputError(f"--batch: got {len(batch)} numbers, expected one, or smallest, best and largest")
    low, *rest = batch
    best, high = rest or (low, low)
    return low, best, high


def _refuse(args: argparse.Namespace, reason: str, *names: str) -> None:
    """Raise InputError if one of the named options was given."""
    for name in names:
        if getattr(args, name):
            raise InputError(f"--{name}: {reason}; leave it out, or use another --to")


def add_export_backbone(subparsers: Any) -> None:
    """Add `afsd export-backbone WEIGHTS --to onnx|openvino`."""
    parser = subparsers.add_parser(
        "export-backbone",
        epilog="examples:\n"
        "  afsd export-backbone rgb_imagenet.pt --to openvino\n"
        "  afsd export-backbone last.ckpt --to onnx\n",
        help="write an I3D that makes features of videos as ONNX or OpenVINO engine",
        description="Write an I3D as an engine for `afsd features` and `afsd detect --backbone`: snippets of 16 frames "
        "every 4 in, 1024 features out. Its numbers are compared with PyTorch's first.",
    )
    parser.add_argument(
        "weights", type=Path, nargs="?", help="Kinetics weights (rgb_imagenet.pt), or an AFSD checkpoint of frames"
    )
    parser.add_argument("--random", type=int, metavar="SEED", help="random weights in place of a file, for trials")
    parser.add_argument("--stream", choices=("rgb", "flow"), help="input of the I3D (default: as the file says)")
    parser.add_argument("--size", type=int, default=224, help="pixels of the square frames (default: %(default)s)")
    parser.add_argument("--to", choices=("onnx", "openvino"), default="onnx", help="default: %(default)s")
    parser.add_argument("-o", "--out", type=Path, help="file to write (default: beside the weights; i3d_STREAM.onnx)")
    parser.set_defaults(func=_export_backbone)


def _export_backbone(args: argparse.Namespace) -> int:
    try:
        from export.graph.export_input import ELSEWHERE
        from export.to_backbone import export_backbone
        from training.deployment.i3d_features import random_backbone, read_backbone
    except ImportError as error:
        raise import_failure(error, "", "export", "export") from None
    if (args.weights is None) == (args.random is None):
        raise InputError("export-backbone: give a file of weights, or --random SEED for an untrained I3D")
    suffix = ".onnx" if args.to == "onnx" else ".xml"
    if args.weights is None:
        if args.stream is None:
            raise InputError("--random: the stream of the backbone is missing; add --stream rgb or --stream flow")
        weights = random_backbone(args.stream, args.random)
    else:
        weights = read_backbone(args.weights)
        if args.stream not in (None, weights.stream):
            raise InputError(f"--stream {args.stream}: {args.weights} is an I3D on {weights.stream}; leave it out")
    default = Path(f"i3d_{weights.stream}") if args.weights is None else args.weights
    out = args.out or default.with_suffix(suffix)
    require_writable_folder(out.parent, ELSEWHERE)
    export_backbone(weights, out, to=args.to, size=args.size)
    return 0


def add_demo(subparsers: Any) -> None:
    """Add `afsd demo`."""
    parser = subparsers.add_parser("demo", help="make videos, export, detect, evaluate and draw, in one command")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of all results")
    parser.add_argument("--videos", type=int, default=6, help="unseen videos to make (default: %(default)s)")
    parser.set_defaults(func=_demo)


def _demo(args: argparse.Namespace) -> int:
    try:
        from export.demo import demo
    except ImportError as error:
        raise import_failure(error, "", "export", "demo") from None
    return demo(args.out, args.videos)
