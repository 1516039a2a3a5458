"""Add the flags for reading videos, which all verbs that read videos share."""

from __future__ import annotations

import argparse
from typing import Any

from runtime.video.readers.choice import READERS
from runtime.video.sampling import FRAME_TIMINGS

SOURCES_HELP = (
    "file, pattern, folder of videos or of images, @list.txt with one of them per line, URL, object, prefix or pattern "
    "of an object store (s3://bucket/day1/), or - for standard input"
)
"""Sources that the verbs take, for help texts."""


def add_recursive_flag(group: argparse._ArgumentGroup) -> None:
    """Add --recursive."""
    group.add_argument(
        "--recursive",
        action="store_true",
        help="take the videos of all folders below a folder, or prefix, too, named by their paths in it: day1/cam1",
    )


def add_reading_flags(group: argparse._ArgumentGroup) -> None:
    """Add --timing, --reader and --allow-truncated."""
    group.add_argument(
        "--timing",
        choices=FRAME_TIMINGS,
        help="take frames by their time stamps, or count them as published (presented; counted with --nms reference)",
    )
    group.add_argument(
        "--reader", choices=READERS, default="auto", help="library that reads videos (pyav where it is installed)"
    )
    group.add_argument("--allow-truncated", action="store_true", help="read a file that ends early as far as possible")


def add_settle_flag(group: argparse._ArgumentGroup) -> None:
    """Add --settle."""
    group.add_argument(
        "--settle",
        metavar="SECONDS",
        type=float,
        help="live sources: longest wait of a detection in a chain of ever better overlapping ones, whose scores are "
        "then settled early (four windows); files are exact however long a chain is",
    )


def add_stride_flags(group: argparse._ArgumentGroup) -> None:
    """Add --stride and --max-latency."""
    group.add_argument(
        "--stride",
        metavar="FRAMES",
        type=int,
        help="frames, or steps of features, from one window to the next (the model's own, half a window); short ones "
        "cost little with a streaming model, of which only the head runs for each window",
    )
    group.add_argument(
        "--max-latency",
        metavar="SECONDS",
        type=float,
        help="choose the stride by the longest time from an action's end to its detection, apart from computing",
    )


def reading_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the flags as arguments of `DetectorOptions`."""
    return {
        "timing": arguments.timing,
        "reader": arguments.reader,
        "allow_truncated": arguments.allow_truncated,
    }
