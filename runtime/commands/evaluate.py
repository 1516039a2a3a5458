"""`afsd evaluate`: mean average precision of an engine on annotated videos, or of a file of detections."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.annotations import VideoAnnotation, load_annotations
from runtime.console import ProgressLine
from runtime.detections import Detections, load_detections, write_json
from runtime.errors import InputError
from runtime.evaluation import evaluate, format_table
from runtime.sources import find_video

if TYPE_CHECKING:
    from runtime.detector import Detector


def add_evaluate(subparsers: Any) -> None:
    """Add the verb `evaluate` to the parser of `afsd`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="mean average precision of an engine or of detections",
        description="Mean average precision by the ActivityNet rule, of a file of detections or of an engine run on "
        "the annotated videos.",
    )
    parser.add_argument(
        "detections", metavar="DETECTIONS.json|ENGINE", help='ActivityNet JSON with "results", or an engine file'
    )
    parser.add_argument("ground_truth", metavar="GROUND_TRUTH.json", help='ActivityNet JSON with "database"')
    parser.add_argument(
        "--videos", metavar="DIR", type=Path, help="videos for an engine (default: videos/ beside the ground truth)"
    )
    parser.add_argument("--save", metavar="FILE", type=Path, help="write an engine's detections as JSON")
    parser.add_argument("--subset", metavar="NAME", default="test", help="subset to judge on, or 'all' (default: test)")
    parser.add_argument(
        "--tiou",
        metavar="LIST",
        default="0.3:0.1:0.7",
        help="thresholds as start:step:stop or separated by commas (default: 0.3:0.1:0.7)",
    )
    parser.add_argument(
        "--tie-order",
        choices=("stable", "reference"),
        default="stable",
        help="equal scores: the first read goes first (default), or as in the published evaluator, whose order "
        "depends on the processor",
    )
    parser.add_argument("--per-class", action="store_true", help="a line for every class")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=run_evaluate)


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Run the verb; returns the exit status."""
    tious = parse_tious(arguments.tiou)
    subset = None if arguments.subset == "all" else arguments.subset
    truth = load_annotations(arguments.ground_truth, subset)
    result = evaluate(_detections(arguments, truth), truth, tious, arguments.tie_order)
    print(result.to_json() if arguments.json else format_table(result, arguments.per_class))
    return 0


def _detections(arguments: argparse.Namespace, truth: Sequence[VideoAnnotation]) -> list[Detections]:
    """Read from a file, or found by an engine in the annotated videos."""
    if Path(arguments.detections).suffix == ".json":
        return load_detections(arguments.detections, keep_inverted=True)
    from runtime.detector import Detector

    folder = arguments.videos or Path(arguments.ground_truth).parent / "videos"
    with Detector(arguments.detections) as detector:
        found = detect_annotated(detector, truth, folder)
    if arguments.save:
        write_json(arguments.save, found)
    return found


def detect_annotated(detector: Detector, truth: Sequence[VideoAnnotation], folder: Path) -> list[Detections]:
    """Detections in every annotated video, each named as in the annotations.

    Raises:
        VideoError: a video is not in `folder` (before any is run) or cannot be decoded.
    """
    files = [find_video(folder, video.name) for video in truth]
    found = []
    with ProgressLine() as progress:
        for number, (video, file) in enumerate(zip(truth, files, strict=True), 1):
            progress.show(f"{video.name} ({number} of {len(files)})")
            found.append(replace(detector.run(file), video=video.name))
    return found


def parse_tious(text: str) -> tuple[float, ...]:
    """Thresholds from "0.3:0.1:0.7" (start:step:stop, stop included) or "0.5,0.75".

    Raises:
        InputError: not of this form.
    """
    try:
        if ":" not in text:
            return tuple(float(part) for part in text.split(","))
        start, step, stop = (float(part) for part in text.split(":"))
        count = int(np.floor((stop - start) / step + 1e-6)) + 1
        if step <= 0 or count < 1:
            raise ValueError
        return tuple(round(start + i * step, 9) for i in range(count))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"--tiou: got {text!r}, expected start:step:stop such as 0.3:0.1:0.7, or 0.5,0.75") from None
