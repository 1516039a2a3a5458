"""Choose which detections a command shows: the score from which on, and the selection among them."""

from __future__ import annotations

import argparse
from typing import Any

from runtime.common.console import print_note
from runtime.common.ranges import Length, Share, require_in_range
from runtime.spec.model import ModelSpec
from runtime.spec.model_card import DEFAULT_SCORE


def add_shown_flags(group: argparse._ArgumentGroup) -> None:
    """Add --score and the flags of the selection."""
    group.add_argument(
        "--score",
        type=float,
        help=f"leave out detections below this score (the model's own threshold, else {DEFAULT_SCORE:g}; 0: none)",
    )
    group.add_argument(
        "--exclusive",
        choices=("class", "all"),
        default="none",
        help="no overlaps, the best score wins: among detections of one class, or among all",
    )
    group.add_argument(
        "--merge-gap",
        metavar="SECONDS",
        type=float,
        help="make one of detections of a class that overlap or lie this close (off)",
    )
    group.add_argument(
        "--min-length", metavar="SECONDS", type=float, default=0.0, help="leave out detections shorter than this (0)"
    )


def check_shown_flags(arguments: argparse.Namespace) -> None:
    """Check the flags (InputError: one is out of range)."""
    if arguments.score is not None:
        require_in_range("--score", arguments.score, Share)
    if arguments.merge_gap is not None:
        require_in_range("--merge-gap", arguments.merge_gap, Length)
    require_in_range("--min-length", arguments.min_length, Length)


def selection_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `DetectorOptions`, and of `Detections.select`, that the flags stand for."""
    return {
        "exclusive": arguments.exclusive,
        "merge_gap": arguments.merge_gap,
        "min_length": arguments.min_length,
    }


def selects(arguments: argparse.Namespace) -> bool:
    """Return whether any flag of the selection is given."""
    return arguments.exclusive != "none" or arguments.merge_gap is not None or arguments.min_length > 0


def choose_score(arguments: argparse.Namespace, spec: ModelSpec) -> str:
    """Set `arguments.score` to the model's threshold, or the default, unless it is given; return its origin in words.

    Says on stderr what a demonstration model knows.
    """
    if spec.card.demonstration and not arguments.quiet_log:
        print_note(
            f"afsd: {arguments.engine} is a demonstration model: it knows {spec.card.demonstration} and nothing else"
        )
    if arguments.score is not None:
        return ""
    if spec.operating_point is not None:
        arguments.score = spec.operating_point.threshold
        return "the model's own threshold"
    arguments.score = DEFAULT_SCORE
    return "the default; the model carries no threshold, see docs/scores.md"
