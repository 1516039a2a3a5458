"""`afsd export`; torch and onnx are imported only when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from runtime.errors import MissingDependencyError


def add_export(subparsers: Any) -> None:
    """`afsd export CHECKPOINT --to onnx|openvino`."""
    parser = subparsers.add_parser("export", help="write a checkpoint as ONNX or OpenVINO, its numbers compared")
    parser.add_argument("source", type=Path, help="checkpoint or bare state dict; for OpenVINO also an ONNX file")
    parser.add_argument("-o", "--out", type=Path, help="file to write (default: beside the source)")
    parser.add_argument("--to", choices=("onnx", "openvino"), default="onnx", help="default: %(default)s")
    parser.add_argument("--config", default="", help="network of a bare state dict, e.g. thumos14, thumos14_flow")
    parser.set_defaults(func=_export)


def _export(args: argparse.Namespace) -> int:
    try:
        from export.to_onnx import export_onnx
        from export.to_openvino import export_openvino
    except ImportError as error:
        raise MissingDependencyError(str(error.name), "export", "export") from None
    (export_onnx if args.to == "onnx" else export_openvino)(args.source, args.out, args.config)
    return 0
