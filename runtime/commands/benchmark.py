"""Run `afsd benchmark ENGINE…`: clip fps and video fps beside their bounds, the paper's Table 3 and older reports."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands.flags.checks import refuse_flags, require_beside
from runtime.common.console import print_json, print_note, print_warning
from runtime.errors import InputError

if TYPE_CHECKING:
    from runtime.engines import Engine

SPEED_FLAGS = ("--batch", "--warmup", "--runs", "--video", "--video-runs", "--compare")
"""Flags of the measurements of speed."""


def add_benchmark(subparsers: Any) -> None:
    """Add the verb `benchmark`."""
    parser = subparsers.add_parser(
        "benchmark",
        epilog="examples:\n"
        "  afsd benchmark model.onnx model.xml model.xml@bf16\n"
        "  afsd benchmark model.xml@throughput --video video.mp4 --json > now.json\n"
        "  afsd benchmark model.xml --cameras camera.mp4\n",
        help="speed of engines, of models on frames beside the paper's Table 3",
        description="Engines take turns on random windows; the first is the base of the ratios. A checkpoint (.ckpt) "
        "runs in PyTorch eager, so put it first. @ gives how an engine is run, several options joined by +: bf16 or "
        "fp32 (model.xml, model.ckpt), throughput (model.xml as afsd detect runs it on files: fastest with --video), "
        "compiled (model.ckpt by torch.compile, weights frozen), cpu, cuda or cuda:1 (the GPU; model.onnx by ONNX "
        "Runtime's CUDA provider), tensorrt or tensorrt:1 (model.onnx by its TensorRT provider), graph (model.engine "
        "as a CUDA graph). Examples: model.xml@bf16, model.ckpt@compiled+bf16, model.onnx@cuda, model.onnx@tensorrt, "
        "model.engine@cuda:1+graph.",
    )
    parser.add_argument(
        "engines", metavar="ENGINE[@HOW]", nargs="+", help="model.ckpt, model.onnx, model.xml, model.engine"
    )
    parser.add_argument("--batch", metavar="N", type=int, nargs="+", default=[1], help="batch sizes (default: 1)")
    parser.add_argument(
        "--warmup", metavar="N", type=int, default=20,
        help="most uncounted passes; they end when passes no longer get faster (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--runs", metavar="N", type=int, default=11, help="counted passes (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", type=int, help="CPU threads of exported engines (all cores)")
    parser.add_argument("--video", metavar="FILE", help="also measure from this file to its detections")
    parser.add_argument(
        "--video-runs", metavar="N", type=int, default=3, help="runs of the video (default: %(default)s)"
    )
    parser.add_argument(
        "--cameras",
        metavar="FILE",
        help="in place of all other measurements: how many live sources that send this file each engine carries "
        "(minutes)",
    )
    parser.add_argument(
        "--cameras-first", metavar="N", type=int, help="number of cameras to try first (default: 4, then a guess)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, which --compare reads")
    parser.add_argument("--compare", metavar="OLD.json", type=Path, help="also print ratios to this older report")
    require_beside(parser, {"--video-runs": ("--video",), "--cameras-first": ("--cameras",)})
    parser.set_defaults(func=benchmark)


def benchmark(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    from runtime.benchmark.compare import compare_reports, format_comparison
    from runtime.benchmark.report import read_report
    from runtime.benchmark.speed import format_report, run_benchmark

    if arguments.cameras is not None:
        return _count_cameras(arguments)
    old = None if arguments.compare is None else read_report(arguments.compare)
    engines = [(Path(text).name, _open(text, arguments.threads)) for text in arguments.engines]
    report = run_benchmark(
        engines,
        batches=arguments.batch,
        warmup=arguments.warmup,
        runs=arguments.runs,
        video=arguments.video,
        video_runs=arguments.video_runs,
        threads=arguments.threads,
        say=print_note,
    )
    comparison = None if old is None else compare_reports(old, report, str(arguments.compare))
    for warning in () if comparison is None else comparison.warnings:
        print_warning(warning)
    if arguments.json:
        compared = {} if comparison is None else {"comparison": comparison.to_mapping()}
        print_json({**report.to_mapping(), **compared}, indent=1)
        return 0
    print(format_report(report))
    if comparison is not None:
        print(f"\n{format_comparison(comparison)}")
    return 0


def _count_cameras(arguments: argparse.Namespace) -> int:
    """Find how many cameras each engine carries, one engine after the other."""
    from runtime.benchmark.cameras.report import format_cameras
    from runtime.benchmark.cameras.search import find_most_cameras
    from runtime.benchmark.machine import describe_machine
    from runtime.common.mappings import to_mapping

    refuse_flags(arguments, SPEED_FLAGS, "--cameras takes the place of other measurements")
    machine = describe_machine()
    if machine.busy:
        print_warning(f"the machine has other work (load {machine.load[0]:g}), so fewer cameras will be carried")
    reports = []
    for text in arguments.engines:
        with closing(_open(text, arguments.threads)) as engine:
            report = find_most_cameras(
                Path(text).name, engine, arguments.cameras, first=arguments.cameras_first, say=print_note
            )
        reports.append(report)
        if not arguments.json:
            print(format_cameras(report))
    if arguments.json:
        entries = [{**to_mapping(report), "carried": report.carried} for report in reports]
        print_json({"machine": to_mapping(machine), "cameras": entries}, indent=1)
    return 0


def _open(text: str, threads: int | None) -> Engine:
    """Open the engine of ENGINE[@HOW]."""
    from runtime.engines import open_engine

    path, options = parse_engine(text)
    return open_engine(path, threads=None if path.endswith((".ckpt", ".engine", ".plan")) else threads, **options)


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
        elif word in ("latency", "throughput"):
            options["mode"] = word
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
                f"{text}: got {word!r} after @, expected bf16, fp32, throughput, compiled, cpu, cuda[:N], tensorrt[:N] "
                "or graph"
            )
    return path, options
