"""`afsd evaluate`: mean average precision of a file of detections."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from runtime.annotations import load_annotations
from runtime.detections import load_detections
from runtime.errors import InputError
from runtime.evaluation import evaluate, format_table


def add_evaluate(subparsers: Any) -> None:
    """Add the verb `evaluate` to the parser of `afsd`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="mean average precision of detections",
        description="Mean average precision of a file of detections by the ActivityNet rule.",
    )
    parser.add_argument("detections", metavar="DETECTIONS.json", help='ActivityNet JSON with "results"')
    parser.add_argument("ground_truth", metavar="GROUND_TRUTH.json", help='ActivityNet JSON with "database"')
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
    result = evaluate(load_detections(arguments.detections, keep_inverted=True), truth, tious, arguments.tie_order)
    print(result.to_json() if arguments.json else format_table(result, arguments.per_class))
    return 0


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
