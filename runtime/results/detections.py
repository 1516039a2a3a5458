"""Hold the detections of one video as a struct of arrays, and read and write files of detections."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from runtime.annotations.activitynet import VideoAnnotation, finite_number
from runtime.common.choices import require_choice
from runtime.common.csv_text import to_csv
from runtime.common.files import PathLike, is_file, read_json, write_text
from runtime.common.mappings import StructureError, from_mapping
from runtime.common.ranges import require_in_range
from runtime.common.text import counted, quote
from runtime.errors import AnnotationError, InputError, import_failure
from runtime.results.facts import VideoFacts, known_facts
from runtime.results.subtitles import Cue, table_time, to_srt

if TYPE_CHECKING:
    from pandas import DataFrame

    from runtime.suppression.selection import Exclusive

FORMAT_VERSION = "afsd 1"
"""Value of "version" in JSON files of detections."""
COLUMNS = ("video", "label", "start_s", "end_s", "score", "start", "end", "path")
"""Header of CSV files of detections: times in seconds, then as h:mm:ss.mmm."""
TABLE = "all"
"""Name of the CSV file with the detections of all videos of a folder."""
OLD_COLUMNS = ("video", "label", "start_s", "end_s", "score")
"""Header of CSV files of older releases."""
DECIMALS = 3
"""Digits behind the point in CSV files: milliseconds, and thousandths of a score."""
FILMSTRIP = 16
"""Number of frames above a timeline."""
BOM = "\ufeff"
"""Mark at the beginning of a file by which Excel knows UTF-8."""


class Detection(NamedTuple):
    """Holds one detected action."""

    label: str
    score: float
    start_s: float
    end_s: float


@dataclass(frozen=True, eq=False)
class Detections:
    """Holds the actions detected in one video."""

    segments: NDArray[np.float64]
    """Start and end in seconds from the start of the input, [D,2]."""
    labels: NDArray[np.int32]
    """Index into `classes`, [D]."""
    scores: NDArray[np.float64]
    """Scores in 0..1, [D]."""
    classes: tuple[str, ...]
    """Names of the action classes."""
    video: str = ""
    """Name of the video."""
    facts: VideoFacts | None = None
    """Where the detections come from; None: not known."""

    def __post_init__(self) -> None:
        for name in ("segments", "labels", "scores"):
            given, whole = getattr(self, name), name == "labels"
            array = np.asarray(given)
            if array.size and array.dtype.kind not in ("iu" if whole else "iuf"):
                raise InputError(f"{name}: got {quote(given)}, expected an array of {'whole ' * whole}numbers")
            if not isinstance(given, np.ndarray):
                object.__setattr__(self, name, array.astype(np.int32 if whole else np.float64))
        segments, labels, scores = self.segments, self.labels, self.scores
        count = scores.size
        if segments.shape != (count, 2) or labels.shape != (count,) or scores.shape != (count,):
            raise InputError(
                f"got segments {segments.shape}, labels {labels.shape}, scores {scores.shape}, "
                "expected [D,2], [D] and [D]"
            )
        if count and not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise InputError(f"labels lie in {labels.min()}..{labels.max()}, expected 0..{len(self.classes) - 1}")

    @classmethod
    def empty(cls, classes: Sequence[str], video: str = "") -> Detections:
        """Return no detections."""
        return cls(np.empty((0, 2)), np.empty(0, np.int32), np.empty(0), tuple(classes), video)

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """Join the detections of `parts` in order; they must have the same classes and video.

        Raises:
            InputError: no parts, or parts of different classes or videos.
        """
        if not parts:
            raise InputError("got no detections to concatenate, expected at least one part (it may be empty)")
        first = parts[0]
        for part in parts:
            if part.classes != first.classes or part.video != first.video:
                raise InputError(f"cannot concatenate {part.video!r} with {first.video!r}: other classes or video")
        return replace(
            first,
            segments=np.concatenate([p.segments for p in parts]),
            labels=np.concatenate([p.labels for p in parts]),
            scores=np.concatenate([p.scores for p in parts]),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        for (start, end), label, score in zip(
            self.segments.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True
        ):
            yield Detection(self.classes[label], score, start, end)

    def __repr__(self) -> str:
        count = f"{counted(len(self), 'detection')} of {counted(len(self.classes), 'class', 'classes')}"
        if not len(self):
            return f"<Detections {self.video!r}: {count}>"
        best = self[int(self.scores.argmax())]
        return (
            f"<Detections {self.video!r}: {count}, best {best.label} {best.score:.2f} at "
            f"{best.start_s:.1f} – {best.end_s:.1f} s>"
        )

    @overload
    def __getitem__(self, chosen: int) -> Detection: ...
    @overload
    def __getitem__(self, chosen: slice | Sequence[int] | NDArray[Any]) -> Detections: ...
    def __getitem__(self, chosen: int | slice | Sequence[int] | NDArray[Any]) -> Detection | Detections:
        """Return the detection of an index, or the detections of a slice, a bool mask [D] or a list of indices."""
        known = isinstance(chosen, (int, np.integer, slice, Sequence, np.ndarray))
        if not known or isinstance(chosen, (bool, str, bytes)):
            raise InputError(
                f"detections[{quote(chosen)}]: expected a number, a slice, a bool mask [D] or numbers; "
                "of_class(name) has those of a class"
            )
        if isinstance(chosen, (int, np.integer)):
            start, end = self.segments[chosen].tolist()
            return Detection(self.classes[self.labels[chosen]], float(self.scores[chosen]), start, end)
        return self.take(chosen if isinstance(chosen, slice) else np.asarray(chosen, None if len(chosen) else np.intp))

    def take(self, chosen: NDArray[Any] | slice) -> Detections:
        """Return the detections chosen by an index or bool array, or by a slice."""
        return replace(self, segments=self.segments[chosen], labels=self.labels[chosen], scores=self.scores[chosen])

    def sorted(self, by: Literal["score", "start"] = "score") -> Detections:
        """Return the detections best first, or in the order of their starts; the order of equal ones is kept."""
        require_choice("sorted", by, ("score", "start"))
        key = -self.scores if by == "score" else self.segments[:, 0]
        return self.take(np.argsort(key, kind="stable"))

    def above(self, min_score: float) -> Detections:
        """Return the detections whose score is at least `min_score` (InputError: it is no finite number)."""
        require_in_range("min_score", min_score, float)
        return self.take(self.scores >= min_score)

    def select(
        self, *, exclusive: Exclusive = "none", merge_gap: float | None = None, min_length: float = 0.0
    ) -> Detections:
        """Return the detections that people are shown: no overlaps, near ones merged, short ones left out, by start.

        Args:
            exclusive: "class": of overlapping detections of a class the best; "all": of any two; "none": all.
            merge_gap: longest gap in seconds between two of a class that become one; None: none do.
            min_length: shortest detection in seconds, after merging.

        Raises:
            InputError: an option out of range.
        """
        from runtime.suppression.selection import select

        chosen = select(self.segments, self.labels, self.scores, len(self.classes), exclusive, merge_gap, min_length)
        return replace(self, segments=chosen.segments, labels=chosen.labels, scores=chosen.scores).sorted("start")

    def of_class(self, name: str) -> Detections:
        """Return the detections of one class; none if the class is unknown."""
        return self.take(self.labels == (self.classes.index(name) if name in self.classes else -1))

    def to_json(self, path: PathLike | None = None) -> str:
        """Return ActivityNet JSON: {"results": {video: [{"label", "score", "segment"}]}, …}; see `results_document`.

        The text is written to `path` too, when given.
        """
        return _emit(json.dumps(results_document([self]), ensure_ascii=False), path)

    def to_csv(self, path: PathLike | None = None, *, bom: bool = False) -> str:
        """Return a table with the header `COLUMNS`, written to `path` too when given; see `to_table`."""
        return _emit(to_table([self], bom=bom), path)

    def to_srt(self, path: PathLike | None = None) -> str:
        """Return SubRip subtitles in the order of the starts, written to `path` too when given."""
        return _emit(to_srt(Cue(d.label, d.start_s, d.end_s, d.score) for d in self.sorted("start")), path)

    def to_dataframe(self) -> DataFrame:
        """Return a pandas DataFrame with the columns video, label, start_s, end_s, score; one row per detection.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise import_failure(error, "pandas", "", "Detections.to_dataframe") from None
        labels = np.array(self.classes, object)[self.labels]
        starts, ends = self.segments.T
        columns = {"video": self.video, "label": labels, "start_s": starts, "end_s": ends, "score": self.scores}
        return pandas.DataFrame(columns, index=range(len(self)))

    def to_fiftyone(self, sample: Any = None, *, fps: float | None = None) -> Any:
        """Return a `fiftyone.TemporalDetections` of these detections, to be set as a field of a sample.

        Args:
            sample: the video's `fiftyone.Sample`, whose metadata has its rate and length (`compute_metadata`).
            fps: frames per second, in place of a sample.

        Raises:
            MissingDependencyError: FiftyOne is not installed.
            InputError: neither a sample nor fps is given, or both.
        """
        from runtime.exchange.file_formats.fiftyone import to_fiftyone

        return to_fiftyone(self, sample, fps)

    def save(self, path: PathLike, *, duration_s: float | None = None) -> None:
        """Write these detections in the format of the path's suffix, one of `runtime.results.writers.FORMATS`.

        Args:
            path: path of the file, which is written atomically.
            duration_s: length of the video in seconds, for the timeline's axis.

        Raises:
            InputError: no format has the suffix.
        """
        from runtime.results.writers import write_detections

        write_detections(self, Path(path), duration_s)

    def plot(
        self, path: PathLike, *, duration_s: float | None = None, thumbnails: Sequence[NDArray[np.uint8]] | None = None
    ) -> None:
        """Write a timeline of these detections as PNG; see `runtime.results.timeline.draw_timeline`.

        Args:
            path: path of the file.
            duration_s: length of the axis in seconds; None: the video's, if it is known.
            thumbnails: frames above the rows; None: of the video, if its file is known and can be read.
        """
        from runtime.results.timeline import draw_timeline, save_image
        from runtime.video.thumbnails import read_thumbnails

        facts = self.facts or VideoFacts()
        duration_s = (facts.duration_s or None) if duration_s is None else duration_s
        if thumbnails is None:
            video = Path(facts.path) if facts.path else None
            thumbnails = read_thumbnails(video, FILMSTRIP, duration_s or 0.0)
        save_image(draw_timeline(self, duration_s=duration_s, thumbnails=thumbnails), path)

    def to_html(
        self,
        path: PathLike,
        *,
        video: PathLike | None = None,
        truth: VideoAnnotation | None = None,
        duration_s: float | None = None,
        threshold: float | None = None,
        tiou: float = 0.5,
        embed: bool = False,
        thumbnails: int = 16,
        model: str = "",
    ) -> None:
        """Write a page for a browser: timeline, video, table, and a slider for the score; see docs/report.md.

        The page is one file that loads nothing but the video, if that is linked, and is written atomically.

        Args:
            path: path of the page.
            video: file of the video, which the page links to, by a relative path where there is one; None: that of
                `facts`, if it is a file.
            truth: annotation of the video, drawn beside the detections, which become hits and false ones.
            duration_s: length of the video in seconds; None: that of `facts`, else the truth's, else the end of the
                last segment.
            threshold: score at which the slider begins; None: that of `facts`, else 0.5.
            tiou: tIoU from which on a detection finds a true action, above 0.1.
            embed: put the video, of at most 50 MB, into the page.
            thumbnails: number of frames of the video above the timeline, 0 … 60.
            model: name of the model, for the head of the page; empty: that of `facts`.

        Raises:
            InputError: a number out of its range, NaN in a detection, or a video that is too large to be embedded.
            VideoError: the video is not there.
            OSError: a file cannot be read or written.
        """
        from runtime.report.options import ReportOptions
        from runtime.report.video_page import judge, write_video_page
        from runtime.spec.model_card import DEFAULT_SCORE

        facts = self.facts or VideoFacts()
        if threshold is None:
            threshold = DEFAULT_SCORE if facts.threshold is None else facts.threshold
        if video is None and facts.path and is_file(Path(facts.path)):
            video = facts.path
        options = ReportOptions(
            threshold=threshold,
            tiou=tiou,
            embed=embed,
            thumbnails=thumbnails,
            model=model or Path(facts.model).name,
        )
        judged = judge(self, truth, facts.duration_s or None if duration_s is None else duration_s, options)
        write_video_page(Path(path), judged, options, None if video is None else Path(video))


def to_table(videos: Iterable[Detections], *, bom: bool = False) -> str:
    """Return the detections of videos as CSV with the header `COLUMNS`, numbers with three decimals.

    Args:
        videos: detections of the videos, in the order of the table.
        bom: whether the text begins with the mark by which Excel knows UTF-8.
    """
    return (BOM if bom else "") + to_csv([COLUMNS, *(row for video in videos for row in table_rows(video))])


def table_rows(video: Detections) -> Iterator[list[str]]:
    """Yield the rows of a table for the detections of a video, in their order, under the header `COLUMNS`."""
    path = video.facts.path if video.facts else ""
    for d in video:
        numbers = [f"{value:.{DECIMALS}f}" for value in (d.start_s, d.end_s, d.score)]
        yield [video.video, d.label, *numbers, table_time(d.start_s), table_time(d.end_s), path]


def write_results(path: PathLike, videos: Sequence[Detections]) -> None:
    """Write the detections of several videos to one ActivityNet JSON file; parts of one video are joined."""
    _emit(json.dumps(results_document(videos), ensure_ascii=False), path)


def load_detections(path: PathLike, keep_inverted: bool = False) -> list[Detections]:
    """Read an ActivityNet JSON file of detections, one Detections per video in the order of the file.

    Only "results" is required. Numbers may be strings. `classes` of all videos are the file's "classes", those of the
    model in its order, and then, or in files of other programs, the labels in the order of their first appearance.

    Args:
        path: the file.
        keep_inverted: accept segments that end before they start, which the published AFSD code writes.

    Raises:
        AnnotationError: the file cannot be read, has another form, or holds NaN; the error names video and entry.
    """
    document = read_json(path, "file of detections", AnnotationError)
    results = document.get("results") if isinstance(document, Mapping) else None
    if not isinstance(results, Mapping):
        raise AnnotationError(f'{path}: expected {{"results": {{video: [{{"label", "score", "segment"}}, …]}}}}')
    found = {str(video): _entries(entries, f"{path}: {video}", keep_inverted) for video, entries in results.items()}
    labels = (detection.label for entries in found.values() for detection in entries)
    number = {label: i for i, label in enumerate(dict.fromkeys([*_classes(document.get("classes")), *labels]))}
    facts = document.get("external_data")
    return [
        Detections(
            np.array([(d.start_s, d.end_s) for d in entries], np.float64).reshape(-1, 2),
            np.array([number[d.label] for d in entries], np.int32),
            np.array([d.score for d in entries], np.float64),
            tuple(number),
            video,
            _facts(facts, video),
        )
        for video, entries in found.items()
    ]


def is_results(content: bytes) -> bool:
    """Return whether the content of a file is JSON that this project wrote."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("version") == FORMAT_VERSION and "results" in document


def is_table(content: bytes) -> bool:
    """Return whether the content of a file is a table as `to_table` writes it, also one of an older release."""
    header = content.splitlines()[0].decode(errors="replace").removeprefix(BOM)
    return header in (",".join(COLUMNS), ",".join(OLD_COLUMNS))


def results_document(videos: Sequence[Detections]) -> dict[str, Any]:
    """Return the content of an ActivityNet JSON file of detections; parts of one video are joined.

    "classes" has the classes of the model in its order, by which a class keeps its colour; of several models those of
    all. "external_data" has the facts of each video, where they are known: {video: {"path", "duration_s", "fps", …}}.
    """
    classes = list(dict.fromkeys(name for names in dict.fromkeys(part.classes for part in videos) for name in names))
    results: dict[str, list[dict[str, Any]]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for detections in videos:
        if detections.facts is not None:
            facts[detections.video] = known_facts(detections.facts)
        results.setdefault(detections.video, []).extend(
            {"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in detections
        )
    return {"version": FORMAT_VERSION, "classes": classes, "results": results, "external_data": facts}


def _emit(text: str, path: PathLike | None) -> str:
    if path is not None:
        write_text(path, text)
    return text


def _classes(listed: object) -> list[str]:
    """Return the names in a file's "classes"; none where another program wrote something else."""
    is_ours = isinstance(listed, list) and all(isinstance(name, str) and name for name in listed)
    return listed if is_ours else []  # type: ignore[return-value]


def _facts(external: object, video: str) -> VideoFacts | None:
    """Return the facts of a video in a file's "external_data"; None where another program wrote something else."""
    if not isinstance(external, Mapping) or video not in external:
        return None
    try:
        return from_mapping(VideoFacts, external[video])
    except StructureError:
        return None


def _entries(entries: object, where: str, keep_inverted: bool) -> list[Detection]:
    if not isinstance(entries, list):
        raise AnnotationError(f"{where}: got {type(entries).__name__}, expected a list of detections")
    return [_entry(entry, f"{where}: detection {i}", keep_inverted) for i, entry in enumerate(entries)]


def _entry(entry: object, where: str, keep_inverted: bool) -> Detection:
    if not isinstance(entry, Mapping):
        raise AnnotationError(f'{where}: got {quote(entry)}, expected {{"label", "score", "segment"}}')
    label, segment = entry.get("label"), entry.get("segment")
    if not isinstance(label, str) or not label:
        raise AnnotationError(f"{where}: label: got {quote(label)}, expected the name of a class")
    if not isinstance(segment, list) or len(segment) != 2:
        raise AnnotationError(f"{where}: segment: got {quote(segment)}, expected [start, end] in seconds")
    start, end = finite_number(segment[0], f"{where}: start"), finite_number(segment[1], f"{where}: end")
    if end < start and not keep_inverted:
        raise AnnotationError(f"{where}: segment: got [{start:g}, {end:g}], expected the end not before the start")
    return Detection(label, finite_number(entry.get("score"), f"{where}: score"), start, end)
