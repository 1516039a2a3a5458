"""Run `afsd clips DETECTIONS`: cut what was detected out of the videos."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands.detection.failures import sum_up
from runtime.commands.flags.writing import add_overwrite_flag
from runtime.common.console import ProgressLine, print_error, print_note
from runtime.common.files import is_file, require_writable_folder
from runtime.common.ranges import Count, Share, require_in_range
from runtime.common.text import counted, printable, quote
from runtime.errors import AfsdError, InputError
from runtime.spec.model_card import DEFAULT_SCORE

if TYPE_CHECKING:
    from runtime.clips.cutting import Clip, Source
    from runtime.exchange.record import VideoSegments


def add_clips(subparsers: Any) -> None:
    """Add the verb `clips`."""
    parser = subparsers.add_parser(
        "clips",
        epilog="examples:\n"
        "  afsd clips street.json --out clips\n"
        "  afsd clips found.json --videos videos --out clips --score 0.6 --pad 1\n"
        "  afsd clips found.json --videos videos --out . --top 3 --reel --exact\n",
        help="cut what was detected out of the videos",
        description="Write a clip for each detection, or one reel of all. Packets are copied, which costs no quality "
        "and little time, so a clip begins at the key frame before its detection; --exact encodes anew, to the frame.",
    )
    parser.add_argument(
        "segments", metavar="DETECTIONS", help="JSON of detections, or any format that afsd convert reads"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--videos", metavar="DIR", type=Path, help="folder of the videos, found by their names")
    where.add_argument("--video", metavar="FILE", type=Path, help="the video, of a file with detections of one")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the clips")
    parser.add_argument(
        "--score",
        type=float,
        help=f"leave out detections below this score (the one that the file was made with, else {DEFAULT_SCORE:g})",
    )
    parser.add_argument("--top", metavar="N", type=int, help="only the N best detections of each video")
    parser.add_argument(
        "--pad", metavar="SECONDS", type=float, default=0.0, help="add so much before and after (%(default)s)"
    )
    parser.add_argument(
        "--reel", action="store_true", help="write one file of all cuts in order; what overlaps shows once"
    )
    parser.add_argument("--exact", action="store_true", help="begin and end at the frame: encode anew (H.264, AAC)")
    parser.add_argument("--fps", metavar="F", type=float, help="frames per second, where DETECTIONS counts frames")
    add_overwrite_flag(parser)
    parser.set_defaults(func=clips)


def clips(arguments: argparse.Namespace) -> int:
    """Run the verb and return 2 if any video failed, after all others are done."""
    from runtime.clips.cutting import write_clips, write_reel
    from runtime.clips.plan import Padding, is_in_video, plan_cuts
    from runtime.exchange.files import read_segments
    from runtime.exchange.inputs import input_path

    arguments.segments = input_path(arguments.segments)
    require_in_range("--score", arguments.score, Share | None)
    require_in_range("--top", arguments.top, Count | None)
    require_in_range("--pad", arguments.pad, Padding)
    videos = read_segments(arguments.segments, fps=arguments.fps, videos=arguments.videos, note=_note)
    sources: list[Source] = []
    failed: list[str] = []
    all_outside = 0
    for video in _chosen(videos, arguments):
        cuts = plan_cuts(video, min_score=_min_score(arguments, video), top=arguments.top, pad_s=arguments.pad)
        all_outside += (outside := sum(not is_in_video(one, video) for one in video.segments))
        if outside:
            _note(
                f"{video.name}: {counted(outside, 'segment')} outside the video, or ending before the start, left out"
            )
        if cuts:
            try:
                sources.append(_source(video, tuple(cuts), arguments))
            except AfsdError as error:
                print_error(error)
                failed.append(video.name)
    total = len(sources) + len(failed)
    if not total:
        count = sum(len(video.segments) for video in videos)
        score = DEFAULT_SCORE if arguments.score is None else arguments.score
        within = " and lies in its video" if all_outside else ""
        what = f"a score of {score:g} or more{within}"
        print(f"none of {counted(count, 'detection')} has {what}, so there is nothing to cut")
        return 0
    require_writable_folder(arguments.out, "choose another with --out")

    def fail(source: Source, error: Exception) -> None:
        print_error(error)
        failed.append(source.name)

    if arguments.reel:
        with ProgressLine() as line:
            line.show(f"{counted(total, 'video')}")
            clip = write_reel(sources, arguments.out, fail, exact=arguments.exact, overwrite=arguments.overwrite)
        cut = sum(len(source.cuts) for source in sources if source.name not in failed)
        print(
            printable(f"{clip.path}: {counted(cut, 'cut')} of {counted(total - len(failed), 'video')}{_early([clip])}")
        )
        return sum_up(failed, total)
    taken: set[str] = set()
    for number, source in enumerate(sources, 1):
        try:
            with ProgressLine() as line:
                line.show(f"{source.name} ({number} of {len(sources)})")
                made = write_clips(source, arguments.out, taken, exact=arguments.exact, overwrite=arguments.overwrite)
            _report(source, made)
        except BrokenPipeError:  # of the reader of stdout: see `main`
            raise
        except (AfsdError, OSError) as error:
            fail(source, error)
    return sum_up(failed, total)


def _min_score(arguments: argparse.Namespace, video: VideoSegments) -> float:
    """Return the lowest score that is cut out: as given, or what the file was made with, or the default."""
    known = video.threshold if arguments.score is None else arguments.score
    return DEFAULT_SCORE if known is None else float(known)


def _chosen(videos: Sequence[VideoSegments], arguments: argparse.Namespace) -> Sequence[VideoSegments]:
    """Return the videos that are cut: of --video the one of its name, or the only one."""
    if arguments.video is None:
        return videos
    place = arguments.video.with_suffix("").as_posix()
    named = [video for video in videos if f"/{place}".endswith(f"/{video.name}")]
    named = sorted(named, key=lambda video: len(video.name))[-1:]
    if not named and len(videos) == 1:
        named = list(videos)
    if not named:
        raise InputError(
            f"{arguments.segments}: holds {counted(len(videos), 'video')} and none is called {arguments.video.stem}; "
            "give --videos DIR"
        )
    return named


def _source(video: VideoSegments, cuts: Any, arguments: argparse.Namespace) -> Source:
    """Return a video with its file and cuts (VideoError, InputError: the file is not found)."""
    from runtime.clips.cutting import Source
    from runtime.video.names import find_video

    if arguments.video is not None:
        path = arguments.video
    elif arguments.videos is not None:
        path = find_video(arguments.videos, video.name)
    else:
        beside = [Path(video.path), arguments.segments.parent / video.path] if video.path else []
        found = next((path for path in beside if is_file(path)), None)
        if found is None:
            known = f"no file at {quote(video.path)}" if video.path else "nobody says where the video is"
            raise InputError(f"{video.name}: {known}; give --videos DIR, or --video FILE")
        path = found
    return Source(video.name, path, cuts)


def _report(source: Source, made: Sequence[Clip]) -> None:
    print(printable(f"{source.name}: {counted(len(made), 'clip')}{_early(made)}"), flush=True)
    for clip in made:
        print(printable(f"  {clip.path}"))


def _early(made: Sequence[Clip]) -> str:
    """Return by how much clips begin before their cuts."""
    longest = max((clip.early_s for clip in made), default=0.0)
    if longest < 0.001:
        return ""
    begin = "begins" if len(made) == 1 else "begin"
    return f"; {begin} up to {longest:.2f} s early, at the key frames before (--exact cuts at the frame)"


def _note(text: str) -> None:
    print_note(f"afsd: note: {text}")
