"""Run `afsd convert IN OUT`: files of annotations and detections from one tool's format to another's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.common.console import print_note, print_warning
from runtime.common.ranges import Share, require_in_range
from runtime.common.text import counted, printable, public_url, quote, some
from runtime.errors import InputError

if TYPE_CHECKING:
    from runtime.exchange.record import Unit, VideoSegments

UNITS = ("seconds", "frames")
"""Units of a table's times."""


def add_convert(subparsers: Any) -> None:
    """Add the verb `convert`."""
    parser = subparsers.add_parser(
        "convert",
        epilog="examples:\n"
        "  afsd convert project-1.json annotations.json --fps 25 --subset training --test pool\n"
        "  afsd convert found.json eaf --to elan --videos videos\n"
        "  afsd convert found.json tasks.json --to label-studio --videos videos --score 0.5\n"
        "  afsd convert annotations.csv cut.edl --fps 29.97\n",
        help="annotations and detections in the formats of other tools",
        description="Convert annotations or detections between the formats of annotation tools, editors and data sets: "
        "ActivityNet, OpenTAD, ActionFormer, THUMOS'14, CSV, Label Studio, CVAT, ELAN, VIA 3, Audacity, WebVTT, "
        "SubRip, EDL, OpenTimelineIO, FiftyOne. The format of IN is known by its content, that of OUT by its suffix or "
        "--to. docs/formats.md says what each holds.",
    )
    parser.add_argument("input", metavar="IN", help="file, or folder with a file per video")
    parser.add_argument("output", metavar="OUT", help="file, or, of a format with a file per video, folder of several")
    parser.add_argument("--from", dest="source", metavar="NAME", help="format of IN, where its content does not say")
    parser.add_argument("--to", dest="target", metavar="NAME", help=f"format of OUT: {_names()}")
    parser.add_argument(
        "--fps", metavar="F", type=float, help="frames per second of the videos, where a format counts frames"
    )
    parser.add_argument(
        "--videos",
        metavar="DIR",
        type=Path,
        help="folder of the videos, from which rates, lengths and sizes are taken that IN does not give",
    )
    parser.add_argument("--unit", choices=UNITS, help="unit of the times of a table: of OUT, or of IN if OUT is none")
    parser.add_argument("--unit-in", choices=UNITS, help="unit of the times of the table IN (as its columns say)")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--predictions",
        dest="kind",
        action="store_const",
        const="predictions",
        help="read and write what a model found (default where there are scores)",
    )
    kinds.add_argument(
        "--annotations",
        dest="kind",
        action="store_const",
        const="annotations",
        help="read and write what a person marked; scores are left out",
    )
    parser.add_argument("--score", metavar="MIN", type=float, help="leave out detections below this score")
    parser.add_argument(
        "--media",
        metavar="PREFIX",
        help="what stands before the names of the video files in OUT, such as '/data/local-files/?d=videos/' for Label "
        "Studio (default: the paths that are known)",
    )
    parser.add_argument("--subset", metavar="NAME", help="subset of all videos in OUT, such as training")
    parser.add_argument(
        "--test", metavar="VIDEO", nargs="+", default=[], help="names of videos whose subset is test instead"
    )
    parser.add_argument("--overwrite", action="store_true", help="write over files that are there (default: refuse)")
    parser.set_defaults(func=convert)


def convert(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    from runtime.exchange.files import find_segments, format_of, kind_of, list_losses, write_segments, written_segments
    from runtime.exchange.formats import FORMATS, format_named
    from runtime.exchange.inputs import input_path
    from runtime.exchange.media import VideoFolder

    arguments.input = input_path(arguments.input, "annotations and results")
    arguments.output = _output_path(arguments.output)
    require_in_range("--score", arguments.score, Share | None)
    target = arguments.target or format_of(arguments.output)
    format_named(target)
    if arguments.videos is not None and not arguments.videos.is_dir():
        raise InputError(f"{arguments.videos}: folder not found; expected the folder of the videos for --videos")
    is_table = target == "csv"
    media = VideoFolder(arguments.videos)
    found = find_segments(
        arguments.input,
        arguments.source,
        fps=arguments.fps,
        media=media,
        unit=arguments.unit_in or (None if is_table else arguments.unit),
        kind=arguments.kind,
        note=_note,
    )
    kind = arguments.kind or kind_of(found.videos)
    unit: Unit = arguments.unit if is_table and arguments.unit else "seconds"
    given = _in_subsets([_above(video, arguments.score) for video in found.videos], arguments.subset, arguments.test)
    _require_use(arguments, found.format, target, found.videos)
    videos = [media.complete(video) for video in given]
    if media.missing:
        print_warning(
            f"{arguments.videos}: {len(media.missing)} of {counted(len(found.videos), 'video')} not there or not "
            f"readable: {some(media.missing)}"
        )
    written = write_segments(
        arguments.output,
        videos,
        target,
        kind=kind,
        unit=unit,
        media=arguments.media,
        overwrite=arguments.overwrite,
    )
    at_hand = [video if media.find(video.name) is None else replace(video, duration_s=None) for video in given]
    for remark in list_losses(at_hand, target, kind=kind, unit=unit):  # the videos have their lengths
        _note(remark)
    there = written_segments(videos, target, kind)
    segments = sum(len(video.segments) for video in there)
    place = written[0] if len(written) == 1 else f"{len(written)} files in {arguments.output}"
    print(
        printable(
            f"{counted(segments, 'segment')} of {counted(len(there), 'video')} from "
            f"{FORMATS[found.format].description} to {FORMATS[target].description}: {place}"
        )
    )
    return 0


def _output_path(text: str) -> Path:
    """Return the path of OUT (InputError: it is a URL, of which a path would be a folder named "s3:")."""
    from runtime.video.sources import is_url

    if is_url(text):
        raise InputError(
            f"{public_url(text)}: got a URL, expected a file or folder of this machine (afsd detect alone writes into "
            "object stores)"
        )
    return Path(text)


def _names() -> str:
    """Return the names of the formats, without loading what reads them."""
    return (
        "activitynet, opentad, actionformer, thumos14, thumos14-detections, csv, label-studio, cvat, elan, via, "
        "audacity, vtt, srt, edl, otio, fiftyone, jsonl"
    )


def _require_use(arguments: argparse.Namespace, source: str, target: str, videos: Sequence[VideoSegments]) -> None:
    """Check that every flag has something to do (InputError: one has nothing)."""
    from runtime.exchange.formats import FORMATS

    what = f"neither {FORMATS[source].description} nor {FORMATS[target].description}"
    if arguments.unit and "csv" not in (source, target):
        raise InputError(f"--unit is the unit of a table, and {what} is one; leave it out")
    if arguments.unit_in and source != "csv":
        raise InputError(f"--unit-in is the unit of a table, and {FORMATS[source].description} is none; leave it out")
    if arguments.media is not None and not FORMATS[target].names_media:
        named = ", ".join(name for name, format in FORMATS.items() if format.names_media)
        raise InputError(
            f"--media: {FORMATS[target].description} names no files of videos, as {named} do; leave it out"
        )
    if arguments.score is not None and not any(video.scored for video in videos):
        raise InputError(f"--score: no segment of {arguments.input} has a score; leave it out")


def _note(text: str) -> None:
    print_note(f"afsd: note: {text}")


def _above(video: VideoSegments, min_score: float | None) -> VideoSegments:
    """Return a video with the segments that reach a score, or have none; all for None."""
    if min_score is None:
        return video
    chosen = tuple(one for one in video.segments if one.score is None or one.score >= min_score)
    return replace(video, segments=chosen, threshold=max(video.threshold or 0.0, min_score))


def _in_subsets(videos: Sequence[VideoSegments], subset: str | None, test: Sequence[str]) -> list[VideoSegments]:
    """Return the videos in the subsets that the flags say (InputError: --test names a video that is not there)."""
    unknown = sorted(set(test) - {video.name for video in videos})
    if unknown:
        raise InputError(
            f"--test: {quote(unknown[0])} is none of the videos, which are {some([video.name for video in videos], 5)}"
        )
    chosen = [video if subset is None else replace(video, subset=subset) for video in videos]
    return [replace(video, subset="test") if video.name in test else video for video in chosen]
