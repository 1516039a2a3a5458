"""Read and write edit decision lists (CMX 3600, .edl): a cut for each segment, one behind the other.

Source times are those of the video, whose first frame is 00:00:00:00; record times begin at one hour, as is usual. At
29.97 and 59.94 frames per second timecodes are drop frame, so that they keep clock time; at 23.976 they cannot. The
label is a locator (LOC), the video the clip's name, the score a comment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.annotations.activitynet import finite_number
from runtime.common.text import printable, quote
from runtime.errors import AnnotationError, InputError
from runtime.exchange.document import Document
from runtime.exchange.frame_rate import (
    TIMECODE,
    drops_frames,
    exact_rate,
    frames_of,
    from_timecode,
    seconds_of,
    to_timecode,
)
from runtime.exchange.record import ReadOptions, Segment, VideoSegments, WriteOptions, file_name, require_rate, stem_of

EVENTS = 999
"""Most events that CMX 3600 numbers with its three digits."""
RECORD_START_S = 3600
"""Hour at which programmes begin on the record side."""
_EVENT = re.compile(
    rf"(\d+)\s+(\S+)\s+(\S+)\s+(\S+)(?:\s+\d+)?\s+({TIMECODE})\s+({TIMECODE})\s+({TIMECODE})\s+({TIMECODE})\s*"
)
_LOCATOR = re.compile(rf"\*\s*LOC:\s*{TIMECODE}\s+\S+\s*(.*)")
_CLIP = re.compile(r"\*\s*FROM CLIP NAME:\s*(.*)")
_COMMENT = re.compile(r"\*\s*COMMENT:\s*(.*)")
_SCORE = re.compile(r"\*\s*SCORE:\s*(\S+)")


@dataclass
class _Event:
    where: str
    source: tuple[str, str]
    drop: bool
    notes: list[str] = field(default_factory=list)

    def find(self, pattern: re.Pattern[str]) -> str:
        """Return what a pattern finds in the comments below the event; empty: nothing."""
        return next((found[1].strip() for note in self.notes if (found := pattern.fullmatch(note))), "")


def recognise(document: Document) -> bool:
    """Return whether a file has the events of an edit decision list."""
    return any(_EVENT.fullmatch(line.strip()) for line in document.text.splitlines()[:50])


def read(document: Document, options: ReadOptions) -> list[VideoSegments]:
    """Read each event of picture as a segment of its clip, from source in to source out.

    The label is the locator below it, else its comment, else its clip's name.

    Raises:
        AnnotationError: nobody knows the frame rate, or a timecode is none of it.
    """
    found: dict[str, list[Segment]] = {}
    paths: dict[str, str] = {}
    for event in _events(document):
        path = event.find(_CLIP)
        name = stem_of(path) or document.stem
        paths.setdefault(name, path if "." in path else "")
        fps = options.fps(name, None, event.where)
        start, end = (from_timecode(text, fps, drop=event.drop, where=event.where) for text in event.source)
        if end < start:
            raise AnnotationError(f"{event.where}: the source ends before it begins")
        score = event.find(_SCORE)
        found.setdefault(name, []).append(
            Segment(
                seconds_of(start, fps),
                seconds_of(end, fps),
                event.find(_LOCATOR) or event.find(_COMMENT) or name,
                finite_number(score, f"{event.where}: score") if score else None,
            )
        )
    return [
        VideoSegments(name, tuple(segments), paths[name], fps=options.rate(name)) for name, segments in found.items()
    ]


def write(videos: Sequence[VideoSegments], options: WriteOptions) -> str:
    """Return the list of all videos' segments, in the order of time within each.

    Raises:
        InputError: the files of two videos have the same name; the rate of a video is unknown or differs from that of
            others, or it is longer than 24 hours.
    """
    stems = [stem_of(options.media_of(video)) for video in videos if video.segments]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), ""):
        raise InputError(
            f"two videos have files called {quote(twice)}, and an edit decision list names a file without its folder; "
            "rename one, or write a list for each"
        )
    rates = {exact_rate(require_rate(video, "an edit decision list")): video.fps for video in videos}
    if len(rates) > 1:
        raise InputError(
            f"an edit decision list has one frame rate, the videos have {', '.join(f'{float(r):g}' for r in rates)}; "
            "convert the videos one by one, or give --fps F of the programme"
        )
    fps = next(iter(rates.values()), None) or 25.0
    drop = drops_frames(fps)
    lines = ["TITLE: afsd", f"FCM: {'DROP' if drop else 'NON-DROP'} FRAME"]
    at, number = round(RECORD_START_S * exact_rate(fps)) if drop else RECORD_START_S * round(fps), 0
    for video in videos:
        for one in video.in_time_order():
            first, behind = frames_of(one.start_s, one.end_s, fps)
            frames = (first, behind, at, at + behind - first)
            times = [to_timecode(frame, fps, drop=drop) for frame in frames]
            number += 1
            lines += ["", f"{number:03d}  AX       V     C        {' '.join(times)}"]
            lines += [f"* FROM CLIP NAME: {printable(file_name(options.media_of(video)))}"]
            lines += [f"* LOC: {times[2]} RED     {printable(one.label)}"]
            lines += [] if one.score is None else [f"* SCORE: {one.score!r}"]
            at += behind - first
    return "\n".join(lines) + "\n"


def _events(document: Document) -> list[_Event]:
    """Return the events of picture with the comments below them."""
    events: list[_Event] = []
    drop, taken = False, False
    for number, line in enumerate((line.strip() for line in document.text.splitlines()), 1):
        found = _EVENT.fullmatch(line)
        if line.startswith("FCM:"):
            drop = "NON" not in line
        elif found is not None:
            taken = "V" in found[3] or found[3].startswith("B")  # B is picture and sound
            if taken:
                source = (found[5], found[6])
                marked = drop or ";" in found[5]
                events.append(_Event(f"{document.path}: line {number}", source, marked))
        elif line.startswith("*") and taken:
            events[-1].notes.append(line)
    return events
