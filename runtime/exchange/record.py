"""Hold what every format of other tools is read into and written from: labelled segments of videos, in seconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import quote as quote_url
from urllib.parse import unquote

import numpy as np

from runtime.annotations.activitynet import Instance, VideoAnnotation
from runtime.errors import AnnotationError, InputError
from runtime.results.detections import Detections
from runtime.results.facts import VideoFacts

Kind = Literal["annotations", "predictions"]
"""What segments are taken for: what a person marked, or what a model found."""
Unit = Literal["seconds", "frames"]
"""Unit of the times in a table."""
RATE_ADVICE = "give --fps F, or --videos DIR with the videos"
"""What to do where nobody knows the rate of frames."""
UNITS: tuple[Unit, ...] = ("seconds", "frames")
_DRIVE = re.compile("/[A-Za-z]:")
"""Beginning of a path of Windows in a URL."""


@dataclass(frozen=True)
class Segment:
    """Holds one action: `label` from `start_s` to `end_s` ≥ `start_s` seconds; `score` is None for annotations."""

    start_s: float
    end_s: float
    label: str
    score: float | None = None

    def __post_init__(self) -> None:
        """Make the numbers Python's own: those of numpy are written as np.float64(1.0)."""
        object.__setattr__(self, "start_s", float(self.start_s))
        object.__setattr__(self, "end_s", float(self.end_s))
        object.__setattr__(self, "score", None if self.score is None else float(self.score))


@dataclass(frozen=True)
class VideoSegments:
    """Holds the segments of one video and what a file says about the video; what is unknown is None or empty."""

    name: str
    """Name of the video: that of its file without the suffix."""
    segments: tuple[Segment, ...] = ()
    path: str = ""
    """Path or address of the video's file."""
    duration_s: float | None = None
    """Length of the video in seconds."""
    fps: float | None = None
    """Frames per second of the video."""
    size: tuple[int, int] | None = None
    """Width and height of the picture as it is shown, in pixels."""
    subset: str = ""
    """Part of the data set: training, validation, test."""
    threshold: float | None = None
    """Score that all segments reach; None: not known, or they have none."""
    origin: VideoFacts | None = None
    """What a file of detections says of the model, the selection and the release that they are from; None: nothing. Its
    other fields are those of the video, and left empty (see `facts`)."""

    def __post_init__(self) -> None:
        """Make the numbers Python's own, as in `Segment`."""
        for name in ("duration_s", "fps", "threshold"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        if self.size is not None:
            object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))

    @property
    def media(self) -> str:
        """Path of the video's file; where it is unknown the name with .mp4."""
        return self.path or f"{self.name}.mp4"

    @property
    def scored(self) -> bool:
        """Whether any segment has a score."""
        return any(segment.score is not None for segment in self.segments)

    @classmethod
    def from_annotation(cls, video: VideoAnnotation) -> VideoSegments:
        """Return the segments of an annotated video."""
        segments = tuple(Segment(one.start_s, one.end_s, one.label) for one in video.instances)
        return cls(video.name, segments, duration_s=video.duration_s, fps=video.fps, subset=video.subset)

    @classmethod
    def from_detections(cls, found: Detections) -> VideoSegments:
        """Return the detections of a video as segments with scores, in their order."""
        facts = found.facts or VideoFacts()
        return cls(
            found.video,
            tuple(Segment(d.start_s, d.end_s, d.label, d.score) for d in found),
            facts.path,
            facts.duration_s or None,
            facts.fps,
            threshold=facts.threshold,
            origin=origin_of(facts),
        )

    def to_annotation(self) -> VideoAnnotation:
        """Return the segments as annotations; scores are left out.

        Raises:
            AnnotationError: a segment begins before 0 or ends before it begins.
        """
        for one in self.segments:
            if not 0 <= one.start_s <= one.end_s:
                raise AnnotationError(
                    f"{self.name}: segment: got [{one.start_s:g}, {one.end_s:g}], expected 0 <= start <= end in seconds"
                )
        instances = tuple(Instance(one.start_s, one.end_s, one.label) for one in self.segments)
        return VideoAnnotation(self.name, self.subset, self.duration_s, self.fps, instances)

    def to_detections(self, classes: Sequence[str] | None = None) -> Detections:
        """Return the segments as detections; one without a score, which a person marked, has the score 1.

        Args:
            classes: names of the classes; None: the labels in the order of their first appearance.

        Raises:
            InputError: a label is none of `classes`.
        """
        names = tuple(dict.fromkeys(one.label for one in self.segments)) if classes is None else tuple(classes)
        number = {name: index for index, name in enumerate(names)}
        unknown = next((one.label for one in self.segments if one.label not in number), None)
        if unknown is not None:
            raise InputError(f"{self.name}: label {unknown!r} is none of the {len(names)} classes")
        return Detections(
            np.array([(one.start_s, one.end_s) for one in self.segments], np.float64).reshape(-1, 2),
            np.array([number[one.label] for one in self.segments], np.int32),
            np.array([1.0 if one.score is None else one.score for one in self.segments], np.float64),
            names,
            self.name,
            None if self.facts() == VideoFacts() else self.facts(),
        )

    def facts(self) -> VideoFacts:
        """Return what is known of the video and of where its segments are from."""
        return replace(
            self.origin or VideoFacts(),
            path=self.path,
            duration_s=self.duration_s,
            fps=self.fps,
            threshold=self.threshold,
        )

    def without_scores(self) -> VideoSegments:
        """Return the video with its segments as a person's."""
        return replace(self, segments=tuple(replace(one, score=None) for one in self.segments))

    def in_time_order(self) -> tuple[Segment, ...]:
        """Return the segments by start, then by end."""
        return tuple(sorted(self.segments, key=lambda one: (one.start_s, one.end_s)))


@dataclass(frozen=True)
class ReadOptions:
    """Holds what a file may leave open."""

    rate: Callable[[str], float | None] = lambda name: None
    """Function from a video's name to its frames per second, if known otherwise than by the file."""
    rate_wins: bool = False
    """Whether that rate is taken before the file's own."""
    unit: Unit | None = None
    """Unit of a table's times; None: as its columns say, else seconds."""
    kind: Kind | None = None
    """Which segments to take where a file has both; None: annotations where there are any."""
    note: Callable[[str], None] = lambda text: None
    """Function that is given each remark on what was left out."""
    advice: str = RATE_ADVICE
    """What to do where nobody knows the rate of frames."""

    def fps(self, name: str, stored: float | None, where: str) -> float:
        """Return the frames per second of a video whose times are frames.

        Raises:
            AnnotationError: nobody knows; the message begins with `where`.
        """
        given = self.rate(name)
        fps = given if given is not None and (self.rate_wins or stored is None) else stored
        if fps is None:
            raise AnnotationError(f"{where}: times are in frames and the file gives no frame rate; {self.advice}")
        return fps


@dataclass(frozen=True)
class WriteOptions:
    """Holds how segments are written where a format leaves a choice."""

    kind: Kind = "annotations"
    unit: Unit = "seconds"
    """Unit of a table's times."""
    media: str | None = None
    """What stands before the name of a video's file, such as "/data/local-files/?d=videos/"; None: its own path."""

    def media_of(self, video: VideoSegments) -> str:
        """Return the path or address of a video's file for the tool."""
        folders = video.name.rpartition("/")
        return video.media if self.media is None else f"{self.media}{''.join(folders[:2])}{file_name(video.media)}"


def origin_of(facts: VideoFacts) -> VideoFacts | None:
    """Return what of some facts is said of the detections, not of the video; None for nothing."""
    origin = replace(facts, path="", duration_s=None, fps=None, threshold=None)
    return None if origin == VideoFacts() else origin


def file_name(path: str) -> str:
    """Return the last part of a path or address of any system."""
    return PurePosixPath(path.replace("\\", "/")).name


def stem_of(path: str) -> str:
    """Return the name of a video by the path or address of its file; empty for an empty path."""
    return PurePosixPath(file_name(path)).stem


def name_by_paths(paths: Sequence[str]) -> list[str]:
    """Return the names of videos by the paths of their files: the stems, and before those that several files have as
    many of their folders as tell the files apart, as in "a/x" and "b/x"."""
    names = [stem_of(path) for path in paths]
    for stem in {name for name in names if names.count(name) > 1}:
        alike = [index for index, name in enumerate(names) if name == stem]
        folders = {index: PurePosixPath(paths[index].replace("\\", "/")).parts[:-1] for index in alike}
        for depth in range(1, max(map(len, folders.values())) + 1):
            named = {index: "/".join([*folders[index][-depth:], stem]) for index in alike}
            if len(set(named.values())) == len({paths[index] for index in alike}):
                names = [named.get(index, name) for index, name in enumerate(names)]
                break
    return names


def to_url(media: str) -> str:
    """Return the path of a file as a URL, a relative one as a relative reference; a URL as it is."""
    path = PurePosixPath(media)
    return media if "://" in media else path.as_uri() if path.is_absolute() else quote_url(media)


def from_url(url: str) -> str:
    """Return the path of a file by its URL; another URL as it is."""
    if url.startswith("file:"):
        path = unquote(url.removeprefix("file:").removeprefix("//").removeprefix("localhost"))
        return path[1:] if _DRIVE.match(path) else path
    return url if "://" in url else unquote(url)


def require_rate(video: VideoSegments, tool: str) -> float:
    """Return the frames per second of a video (InputError: unknown; `tool` needs them)."""
    if video.fps is None:
        raise InputError(f"{video.name}: {tool} needs the frame rate, which is unknown; {RATE_ADVICE}")
    return video.fps


def require_single(videos: Sequence[VideoSegments], tool: str) -> VideoSegments:
    """Return the only video (InputError: several, and a file of `tool` holds one)."""
    if len(videos) != 1:
        raise InputError(f"a file of {tool} holds one video, got {len(videos)}; write to a folder")
    return videos[0]
