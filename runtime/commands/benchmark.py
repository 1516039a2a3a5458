"""Run `afsd benchmark ENGINE…`: clip fps and video fps beside the paper's Table 3."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from runtime.common.console import print_json
from runtime.errors import InputError


def add_benchmark(subparsers: Any) -> None:
    """Add the verb `benchmark`."""
    parser = subparsers.add_parser(
        "benchmark",
        help="speed of engines, of models on frames beside the paper's Table 3",
        description="Engines take turns on random windows; the first is the base of the ratios. A checkpoint (.ckpt) "
        "runs in PyTorch eager, so put it first. @ gives how an engine is run, several options joined by +: bf16 or "
        "fp32 (model.xml, model.ckpt), compiled (model.ckpt by torch.compile, weights frozen), cpu, cuda or cuda:1 "
        "(the GPU; model.onnx by ONNX Runtime's CUDA provider), tensorrt or tensorrt:1 (model.onnx by its TensorRT "
        "provider), graph (model.engine as a CUDA graph). Examples: model.xml@bf16, model.ckpt@compiled+bf16, "
        "model.onnx@cuda, model.onnx@tensorrt, model.engine@cuda:1+graph.",
    )
    parser.add_argument(
        "engines", metavar="ENGINE[@HOW]", nargs="+", help="model.ckpt, model.onnx, model.xml, model.engine"
    )
    parser.add_argument("--batch", metavar="N", type=int, nargs="+", default=[1], help="batch sizes (default: 1)")
    parser.add_argument("--warmup", metavar="N", type=int, default=2, help="uncounted passes (default: %(default)s)")
    parser.add_argument("--runs", metavar="N", type=int, default=7, help="counted passes (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", type=int, help="CPU threads of exported engines (all cores)")
    parser.add_argument("--video", metavar="FILE", help="also measure from this file to its detections")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=benchmark)


def benchmark(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    from runtime.benchmark.speed import format_report, run_benchmark
    from runtime.engines import open_engine

    engines = []
    for text in arguments.engines:
        path, options = parse_engine(text)
        threads = None if path.endswith((".ckpt", ".engine", ".plan")) else arguments.threads
        engines.append((Path(text).name, open_engine(path, threads=threads, **options)))
    report = run_benchmark(
        engines,
        batches=arguments.batch,
        warmup=arguments.warmup,
        runs=arguments.runs,
        video=arguments.video,
        say=lambda message: print(message, file=sys.stderr),
    )
    if arguments.json:
        print_json(report.to_mapping(), indent=1)
    else:
        print(format_report(report))
    return 0


def parse_engine(text: str) -> tuple[str, dict[str, Any]]:
    """Return the file of ENGINE[@HOW] and the options of `open_engine` for HOW, as in "model.engine@cuda:1+graph".

    Raises:
        InputError: a word of HOW is unknown.
    """
    path, at, how = text.rpartition("@")
    if not at or Path(how).suffix or "/" in how:  # an @ in the file's own name
        path, how = text, ""
    options: dict[str, Any] = {}
    for word in filter(None, how.split("+")):
        name, _, index = word.partition(":")
        if word in ("fp32", "bf16"):
            options["precision"] = word
        elif word == "compiled":
            options["compiled"] = True
        elif word == "graph":
            options["cuda_graph"] = True
        elif word == "cpu":
            options["device"] = "cpu"
        elif name in ("cuda", "tensorrt") and (index.isdigit() or word == name):
            options["device"] = f"gpu:{index or 0}"
            options |= {"provider": "tensorrt"} if name == "tensorrt" else {}
        else:
            raise InputError(
                f"{text}: got {word!r} after @, expected bf16, fp32, compiled, cpu, cuda[:N], tensorrt[:N] or graph"
            )
    return path, options
