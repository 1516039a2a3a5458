"""Write the report of `afsd evaluate --format html`, and say beforehand what stands against it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.console import ProgressLine, print_note
from runtime.common.files import is_folder, require_writable_folder
from runtime.common.ranges import Range, require_in_range
from runtime.common.text import counted, some
from runtime.errors import AfsdError, InputError
from runtime.evaluation.error_kinds import TOUCHING
from runtime.exchange.found import names_engine
from runtime.results.detections import Detections
from runtime.spec.model_card import DEFAULT_SCORE
from runtime.video.names import find_video

USUAL_TIOU = 0.5
"""tIoU of a hit where none is asked for."""


def add_report_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--format", choices=("html",), help="write a report for a browser to --out: the figures, and a page per video"
    )
    group.add_argument("--out", metavar="DIR", type=Path, help="folder of the report")
    group.add_argument("--embed", action="store_true", help="put the videos into their pages, in place of links")


def check_report(arguments: argparse.Namespace, truth: Sequence[VideoAnnotation]) -> None:
    """Check, before any work, that a report can be written where it is asked for, over no file of others."""
    from runtime.report.folder import require_own_pages
    from runtime.report.media import require_embeddable

    if arguments.format is None:
        return
    if arguments.out is None:
        raise InputError("--format html: a report is several pages; give their folder with --out DIR")
    if arguments.threshold is not None:
        both = (arguments.threshold_tiou, arguments.false_positive_tiou)
        if both[0] != both[1] and (arguments.false_positives or both[1] != USUAL_TIOU):
            raise InputError(
                f"--threshold-tiou {both[0]:g} and --false-positive-tiou {both[1]:g}: a report judges at one tIoU, at "
                "which its first score is chosen, too; give both the same"
            )
        require_in_range("--threshold-tiou of a report", both[0], Annotated[float, Range(TOUCHING, 1, above=True)])
    require_writable_folder(arguments.out, "choose another with --out")
    if not arguments.overwrite:
        require_own_pages(arguments.out, [video.name for video in truth])
    files = find_videos(arguments, truth)
    missing = [video.name for video in truth if video.name not in files]
    if missing and not (names_engine(arguments.detections) and not arguments.features):  # the engine needs them all
        print_note(
            f"afsd: note: {len(missing)} of {counted(len(truth), 'video')} not found in {videos_folder(arguments)} "
            f"({some(missing)}), so {'its page has' if len(missing) == 1 else 'their pages have'} no pictures; "
            "--videos DIR says where they are"
        )
    for video in files.values() if arguments.embed else ():
        require_embeddable(video)


def write_report(
    arguments: argparse.Namespace,
    found: Sequence[Detections],
    truth: Sequence[VideoAnnotation],
    tious: Sequence[float],
    edges: Sequence[float],
) -> None:
    """Write the report, if one is asked for, and print where it is."""
    if arguments.format is None:
        return
    from runtime.report.evaluation_report import write_evaluation_report
    from runtime.report.options import ReportOptions

    by_engine = names_engine(arguments.detections)
    model = Path(arguments.detections).name if by_engine else ""
    options = ReportOptions(
        threshold=_shown_from(arguments, found),
        tiou=_tiou(arguments),
        rule=arguments.rule,
        embed=arguments.embed,
        model=model,
    )
    with ProgressLine() as line:
        index = write_evaluation_report(
            arguments.out,
            found,
            truth,
            options,
            videos=find_videos(arguments, truth),
            tious=tious,
            edges=edges,
            classes=found[0].classes if found and (by_engine or _knows_classes(found[0])) else None,
            title=f"{Path(arguments.detections).name} on {Path(arguments.ground_truth).name}",
            on_page=lambda name, number: line.show(f"report: {name} ({number} of {len(truth)})"),
        )
    say = print_note if arguments.json else print
    say(f"written: {index}, the index of {counted(len(truth), 'page')}")


def _knows_classes(found: Detections) -> bool:
    """Return whether the classes of detections are a model's, as in files that say which model made them."""
    return found.facts is not None and bool(found.facts.model)


def _tiou(arguments: argparse.Namespace) -> float:
    """Return the tIoU at which the report judges: that at which its first score was chosen, if one was."""
    return float(arguments.false_positive_tiou if arguments.threshold is None else arguments.threshold_tiou)


def _shown_from(arguments: argparse.Namespace, found: Sequence[Detections]) -> float:
    """Return the score at which the report begins: of --threshold, else the model's or the file's own, else 0.5."""
    if arguments.shown_from is not None:
        return float(arguments.shown_from)
    stated = (part.facts.threshold for part in found if part.facts is not None)
    return next((score for score in stated if score is not None), DEFAULT_SCORE)


def find_videos(arguments: argparse.Namespace, truth: Sequence[VideoAnnotation]) -> dict[str, Path]:
    """Return the files of the videos that are there, by name."""
    folder = videos_folder(arguments)
    files: dict[str, Path] = {}
    if not is_folder(folder):
        return files
    for video in truth:
        with suppress(AfsdError):
            files[video.name] = find_video(folder, video.name)
    return files


def videos_folder(arguments: argparse.Namespace) -> Path:
    """Return the folder of the videos: as given, or the one beside the ground truth."""
    return arguments.videos or Path(arguments.ground_truth).parent / "videos"
