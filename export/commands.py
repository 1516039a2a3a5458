"""`afsd export` and `afsd demo`; torch and onnx are imported only when they run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from runtime.errors import InputError, MissingDependencyError


def add_export(subparsers: Any) -> None:
    """`afsd export CHECKPOINT [--flow CHECKPOINT] --to onnx|openvino`."""
    parser = subparsers.add_parser("export", help="write a checkpoint as ONNX or OpenVINO, its numbers compared")
    parser.add_argument("source", type=Path, help="checkpoint or bare state dict; for OpenVINO also an ONNX file")
    parser.add_argument("-o", "--out", type=Path, help="file to write (default: beside the source)")
    parser.add_argument("--to", choices=("onnx", "openvino"), default="onnx", help="default: %(default)s")
    parser.add_argument("--config", default="", help="network of a bare state dict; the published ones are recognised")
    parser.add_argument("--flow", type=Path, metavar="CHECKPOINT", help="flow checkpoint: both as one fused file")
    parser.add_argument("--flow-config", default="", help="as --config, of the flow checkpoint")
    parser.set_defaults(func=_export)


def _export(args: argparse.Namespace) -> int:
    try:
        from export.fused import export_fused
        from export.to_onnx import export_onnx
        from export.to_openvino import export_openvino
    except ImportError as error:
        raise MissingDependencyError(str(error.name), "export", "export") from None
    if args.flow:
        export_fused(args.source, args.flow, args.out, to=args.to, config=args.config, flow_config=args.flow_config)
        return 0
    if args.flow_config:
        raise InputError("--flow-config names the network of --flow; give --flow as well, or leave it out")
    (export_onnx if args.to == "onnx" else export_openvino)(args.source, args.out, args.config)
    return 0


def add_demo(subparsers: Any) -> None:
    """`afsd demo`: the whole way on synthetic videos."""
    parser = subparsers.add_parser("demo", help="the whole way in one command, on synthetic videos")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of everything it makes")
    parser.add_argument("--videos", type=int, default=6, help="unseen videos to make (default: %(default)s)")
    parser.set_defaults(func=_demo)


def _demo(args: argparse.Namespace) -> int:
    try:
        from export.demo import demo
    except ImportError as error:
        raise MissingDependencyError(str(error.name), "export", "demo") from None
    return demo(args.out, args.videos)
