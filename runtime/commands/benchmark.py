"""`afsd benchmark ENGINE…`: clip fps and video fps beside the paper's Table 3."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_benchmark(subparsers: Any) -> None:
    """Add the verb `benchmark`."""
    parser = subparsers.add_parser(
        "benchmark",
        help="speed of engines beside the paper's Table 3",
        description="Engines take turns on random windows; the first is the base of the ratios. A checkpoint (.ckpt) "
        "runs in PyTorch eager, so put it first. ENGINE@bf16 runs an OpenVINO model in bfloat16.",
    )
    parser.add_argument("engines", metavar="ENGINE[@PRECISION]", nargs="+", help="model.ckpt, model.onnx, model.xml")
    parser.add_argument("--batch", metavar="N", type=int, nargs="+", default=[1], help="batch sizes (default: 1)")
    parser.add_argument("--warmup", metavar="N", type=int, default=2, help="uncounted passes (default: %(default)s)")
    parser.add_argument("--runs", metavar="N", type=int, default=7, help="counted passes (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", type=int, help="CPU threads of exported engines (all cores)")
    parser.add_argument("--video", metavar="FILE", help="also measure from this file to its detections")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=benchmark)


def benchmark(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    from runtime.benchmark import format_report, run_benchmark
    from runtime.engines import open_engine

    engines = []
    for text in arguments.engines:
        path, _, precision = text.partition("@")
        threads = None if path.endswith(".ckpt") else arguments.threads
        engines.append((Path(text).name, open_engine(path, threads=threads, precision=precision or None)))
    report = run_benchmark(
        engines,
        batches=arguments.batch,
        warmup=arguments.warmup,
        runs=arguments.runs,
        video=arguments.video,
        say=lambda message: print(message, file=sys.stderr),
    )
    print(json.dumps(report.to_mapping(), indent=1) if arguments.json else format_report(report))
    return 0
