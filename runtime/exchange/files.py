"""Read segments of videos from files and folders of any format, and write them to any.

from runtime.exchange.files import read_segments, write_segments

videos = read_segments("project-3.json", fps=25)        # Label Studio's export
write_segments("annotations.json", videos)              # ActivityNet JSON, to train on
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from runtime.common.choices import require_choice
from runtime.common.files import PathLike, is_folder, text_suffix, write_text
from runtime.common.names import path_in
from runtime.common.natural_order import natural_key
from runtime.common.overwriting import require_own_file
from runtime.common.ranges import FramesPerSecond, require_in_range
from runtime.common.text import counted, quote, some
from runtime.errors import AnnotationError, InputError
from runtime.exchange.below import RESULT_SUFFIXES, files_below, is_beside_results, is_of_all, is_of_place
from runtime.exchange.days import join_days
from runtime.exchange.document import Document
from runtime.exchange.formats import (
    BY_SUFFIX,
    FORMATS,
    TEXT_SUFFIXES,
    Files,
    Folder,
    Format,
    format_named,
    read_documents,
    recognise,
)
from runtime.exchange.inputs import input_path
from runtime.exchange.marks import add_mark, is_unchanged
from runtime.exchange.media import VideoFolder
from runtime.exchange.record import RATE_ADVICE, Kind, ReadOptions, Unit, VideoSegments, WriteOptions

Note = Callable[[str], None]
"""Function that is given each remark on what was left out or rounded."""
LONGEST_S = 1e9
"""Largest time of a segment in seconds, thirty years."""
DETECTED = ("activitynet", "jsonl", "csv", "vtt", "srt")
"""Formats in which `afsd detect` writes a result, the one that holds most first."""
FACTS = {"duration_s": "lengths of videos", "subset": "subsets"}
"""What fields are called in remarks on their loss; rates and paths are a video's own and none is missed."""


@dataclass(frozen=True)
class Found:
    """Holds the videos of a file or folder, and its format."""

    format: str
    videos: tuple[VideoSegments, ...]


def read_segments(
    path: PathLike,
    format: str | None = None,
    *,
    fps: float | None = None,
    videos: PathLike | None = None,
    unit: Unit | None = None,
    kind: Kind | None = None,
    note: Note = lambda text: None,
) -> tuple[VideoSegments, ...]:
    """Read the segments of a file, or of all files of a folder, of any format in `FORMATS`.

    Args:
        path: the file or folder.
        format: name of its format; None: it is recognised by its content.
        fps: frames per second of the videos, where times are frames; goes before what the file says.
        videos: folder of the videos, from which rate, length, size and path are taken where the file lacks them.
        unit: unit of a table's times; None: as its columns say, else seconds.
        kind: which segments to take of a file with both; None: annotations where there are any.
        note: function that is given each remark on what was left out.

    Raises:
        AnnotationError: the file cannot be read, is of no known format, or lacks a frame rate.
        InputError: an unknown format, unit or kind, a rate out of range, or a URL of another machine.
    """
    media = VideoFolder(None if videos is None else Path(videos))
    found = find_segments(input_path(path), format, fps=fps, media=media, unit=unit, kind=kind, note=note)
    return tuple(media.complete(video) for video in found.videos)


def find_segments(
    path: Path,
    format: str | None,
    *,
    fps: float | None,
    media: VideoFolder,
    unit: Unit | None = None,
    kind: Kind | None = None,
    note: Note = lambda text: None,
    advice: str = RATE_ADVICE,
) -> Found:
    """Read segments as `read_segments` does, and say which format they had.

    The videos in `media` are looked at for frame rates alone; what else they know, `VideoFolder.complete` adds.
    `advice` says what to do where nobody knows a rate.
    """
    require_in_range("fps", fps, FramesPerSecond | None)
    _require_words(unit, kind)

    def rate(name: str) -> float | None:
        facts = None if fps is not None else media.find(name)
        return fps if facts is None else facts.fps

    options = ReadOptions(rate, fps is not None, unit, kind, note, advice)
    name, videos = (_read_folder if is_folder(path) else _read_file)(path, format, options)
    labelled = _checked(videos, path, note)
    return Found(name, tuple(labelled if fps is None else [replace(video, fps=fps) for video in labelled]))


def read_days(documents: Sequence[Document], *, note: Note = lambda text: None) -> list[VideoSegments]:
    """Read the detections in files of JSON lines that go on one another, see `join_days`, as `read_segments` does."""
    videos = read_documents(documents, "jsonl", ReadOptions(kind="predictions", note=note))
    return _checked(videos, documents[0].path, note)


def _checked(videos: Sequence[VideoSegments], path: Path, note: Note) -> list[VideoSegments]:
    """Check names and times of videos, and return them without segments that have no label."""
    require_unique(videos, path)
    _require_times(videos, path)
    labelled = [replace(v, segments=tuple(one for one in v.segments if one.label)) for v in videos]
    lost = sum(len(video.segments) for video in videos) - sum(len(video.segments) for video in labelled)
    if lost:
        note(f"{path}: {counted(lost, 'segment')} without a label left out")
    return labelled


def _require_words(unit: Unit | None, kind: Kind | None) -> None:
    for name, word, words in (("unit", unit, get_args(Unit)), ("kind", kind, get_args(Kind))):
        if word is not None:
            require_choice(name, word, words)


def _require_times(videos: Sequence[VideoSegments], origin: Path) -> None:
    """Check that all times are some that a video can have (AnnotationError: one is not)."""
    for video in videos:
        for one in video.segments:
            if max(abs(one.start_s), abs(one.end_s)) > LONGEST_S:
                raise AnnotationError(
                    f"{origin}: {quote(video.name)}: segment: got [{one.start_s:g}, {one.end_s:g}], expected "
                    f"seconds of a video, at most {LONGEST_S:,.0f}"
                )


def write_segments(
    path: PathLike,
    videos: Sequence[VideoSegments],
    format: str | None = None,
    *,
    kind: Kind | None = None,
    unit: Unit = "seconds",
    media: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write the segments of videos in a format of `FORMATS` and return the paths of the files.

    A format whose files hold one video each is written to a folder, DIR/<video>.<suffix>, if there are several, or if
    `path` is a folder or has no suffix. Files are written atomically; all are checked before the first is written.

    Args:
        path: the file or folder.
        videos: the videos, with different names.
        format: name of the format; None: that of the path's suffix.
        kind: what the segments are written as; None: predictions if any has a score. Annotations have no scores.
        unit: unit of a table's times.
        media: what stands before the name of a video's file in formats that name it; None: its own path.
        overwrite: write over files that are there.

    Raises:
        InputError: an unknown format, unit or kind, something that the format needs is unknown, a name that no file can
            have, or a file that is there already.
        OSError: a file cannot be written.
    """
    _require_words(unit, kind)
    target = Path(path)
    name = format or format_of(target)
    chosen = format_named(name)
    require_unique(videos, target)
    kind = kind or kind_of(videos)
    options = WriteOptions(kind, unit, media)
    if media is not None and chosen.several:
        _require_own_media(videos, options, target)
    texts = _texts(target, chosen, [_fit(video, kind) for video in videos], options)
    if chosen.mark is not None:
        texts = {file: add_mark(text, chosen.mark) for file, text in texts.items()}
    if not overwrite:
        for file, text in texts.items():
            _require_unchanged(file, text, chosen)
    for file, text in texts.items():
        write_text(file, text)
    return list(texts)


def _require_unchanged(file: Path, text: str, chosen: Format) -> None:
    """Check that nothing is lost if a text is written: what is there is the same, or what was written before.

    Raises:
        InputError: somebody may have changed the file, or it is somebody else's.
    """

    def is_no_loss(content: bytes) -> bool:
        same = content == text.encode(errors="backslashreplace")
        return same or (chosen.mark is not None and is_unchanged(content, chosen.mark))

    what = "holds something else, perhaps what somebody corrected"
    if chosen.mark is not None:
        what = "was changed since afsd wrote it, or is of others"
    require_own_file(file, is_no_loss, what=what)


def list_losses(
    videos: Sequence[VideoSegments], format: str, *, kind: Kind | None = None, unit: Unit = "seconds"
) -> list[str]:
    """Return remarks on what is lost when videos are written in a format: what it cannot hold, and rounded times.

    Of predictions no length is missed: it is what the detector has read of the video.

    Args: as for `write_segments`.
    """
    chosen, kind = format_named(format), kind or kind_of(videos)
    ready = [_fit(video, kind) for video in videos]
    remarks = []
    inverted = sum(len(v.segments) for v in videos) - sum(len(v.segments) for v in ready)
    if inverted:
        what = "that ends before it begins" if inverted == 1 else "that end before they begin"
        remarks.append(f"{counted(inverted, 'segment')} {what}, or before the video does, left out")
    holds = _holds(chosen, kind)
    known = [fact for fact in FACTS if any(getattr(video, fact) for video in videos)]
    lost = [FACTS[fact] for fact in known if fact not in (*holds, "duration_s" if kind == "predictions" else "")]
    scored = any(video.scored for video in videos)
    if scored and kind == "annotations":
        remarks.append("scores are left out, as annotations have none")
    elif scored and "scores" not in holds:
        lost.insert(0, "scores")
    if lost:
        remarks.append(f"{', '.join(lost)} have no place in {chosen.description} as written here, and are left out")
    empty = [video.name for video in ready if not video.segments]
    if empty and "empty videos" not in holds:
        remarks.append(
            f"{counted(len(empty), 'video')} without segments ({some(empty)}), and so with no place in "
            f"{chosen.description}"
        )
    count = sum(len(video.segments) for video in ready)
    if chosen.usual is not None and count > chosen.usual:
        remarks.append(
            f"{count} segments: {chosen.description} counts to {chosen.usual}, and some programs read no more; "
            "convert fewer, as with --score"
        )
    if chosen.in_frames or unit == "frames":
        remarks.append("times are rounded to whole frames")
    return remarks


def written_segments(videos: Sequence[VideoSegments], format: str, kind: Kind) -> list[VideoSegments]:
    """Return the videos as a file of a format holds them, for counts: what cannot be written is left out."""
    ready = [_fit(video, kind) for video in videos]
    chosen = format_named(format)
    return ready if "empty videos" in _holds(chosen, kind) else [video for video in ready if video.segments]


def kind_of(videos: Sequence[VideoSegments]) -> Kind:
    """Return what the segments of videos are taken for: predictions if any has a score."""
    return "predictions" if any(video.scored for video in videos) else "annotations"


def format_of(path: Path) -> str:
    """Return the name of the format that is written to a path by its suffix (InputError: none, or two formats')."""
    suffix = text_suffix(path)
    if suffix not in BY_SUFFIX:
        what = "two formats have it" if suffix == ".txt" else "no format has it"
        raise InputError(
            f"{path}: got {suffix or 'no suffix'}, and {what}; give --to NAME, one of {', '.join(FORMATS)}"
        )
    return BY_SUFFIX[suffix]


def require_unique(videos: Sequence[VideoSegments], origin: Path) -> None:
    """Check that all videos have different names (InputError)."""
    seen: set[str] = set()
    for video in videos:
        if video.name in seen:
            raise InputError(
                f"{origin}: two videos are called {quote(video.name)}, expected a name for each; rename one"
            )
        seen.add(video.name)


def _require_own_media(videos: Sequence[VideoSegments], options: WriteOptions, origin: Path) -> None:
    """Check that no two videos have the same file behind a prefix (InputError)."""
    seen: dict[str, str] = {}
    for video in videos:
        medium = options.media_of(video)
        if medium in seen:
            raise InputError(
                f"{origin}: {quote(seen[medium])} and {quote(video.name)} would both be {quote(medium)}, expected a "
                "file for each; rename one, or leave --media out"
            )
        seen[medium] = video.name


def _read_file(path: Path, format: str | None, options: ReadOptions) -> tuple[str, list[VideoSegments]]:
    document = Document(path)
    name = format or recognise(document)
    if name is None:
        raise AnnotationError(
            f"{path}: of no format that is known by its content; give --from NAME, one of {', '.join(FORMATS)}"
        )
    return name, read_documents([document], name, options)


def _read_folder(folder: Path, format: str | None, options: ReadOptions) -> tuple[str, list[VideoSegments]]:
    """Read the files of a folder that are of one format; others are noted."""
    for name, known in FORMATS.items():
        way = known.way
        if isinstance(way, Folder) and (format == name or (format is None and way.recognise(folder))):
            return name, way.read(folder, options)
    found: dict[str, list[Document]] = {}
    others: list[str] = []
    shared: list[Document] = []
    for path in _texts_in(folder, TEXT_SUFFIXES):
        document = Document(path)
        if is_beside_results(path):
            continue
        if is_of_all(document):  # videos that may have files of their own
            shared.append(document)
            continue
        kind = recognise(document) if format is None else format
        if kind is None or (format is not None and text_suffix(path) != format_named(format).suffix):
            others.append(path.name)
        else:
            found.setdefault(kind, []).append(document)
    _add_deeper(folder, format, found)
    if not found:
        kinds = {recognise(document): document for document in shared}
        best = next((name for name in DETECTED if name in kinds and format in (None, name)), None)
        found = {} if best is None else {best: [kinds[best]]}
    if not found:
        raise AnnotationError(f"{folder}: holds no file of a known format; expected one of {', '.join(FORMATS)}")
    found = _only_best(found, folder)
    if len(found) > 1:
        counts = ", ".join(f"{len(documents)} of {FORMATS[name].description}" for name, documents in found.items())
        raise AnnotationError(f"{folder}: holds files of several formats, {counts}; give --from NAME")
    if others:
        kind = "of no known format" if format is None else f"not of the format {format}"
        options.note(f"{folder}: {kind} and left out: {some(others)}")
    ((name, documents),) = found.items()
    videos = []
    for together in join_days(documents):
        place = _place(together[0].path, folder)
        below = options if place == "." else replace(options, rate=_rate_below(place, options))
        for video in read_documents(together, name, below):
            is_named = place == "." or video.name.startswith(f"{place}/")
            videos.append(video if is_named else replace(video, name=f"{place}/{video.name}"))
    return name, videos


def _place(path: Path, folder: Path) -> str:
    """Return the folder of a file in the one that is read, "." if it is that one."""
    return path.parent.relative_to(folder).as_posix()


def _only_best(found: dict[str, list[Document]], folder: Path) -> dict[str, list[Document]]:
    """Return the exactest of the formats in which a folder of `afsd detect` has the same videos; else all of them."""
    best = next((name for name in DETECTED if name in found), None)
    if best is None or not set(found) <= set(DETECTED):
        return found
    stems = {
        name: {(_place(one.path, folder), one.path.stem) for one in documents} for name, documents in found.items()
    }
    return {best: found[best]} if all(names <= stems[best] for names in stems.values()) else found


def _rate_below(place: str, options: ReadOptions) -> Callable[[str], float | None]:
    """Return the rate of videos by their names in a folder below the one that is read."""
    return lambda name: options.rate(f"{place}/{name}")


def _texts_in(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files of a folder that have one of the suffixes, in natural order."""
    paths = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    return [path for path in paths if path.name[:1] != "." and text_suffix(path) in suffixes and path.is_file()]


def _add_deeper(folder: Path, format: str | None, found: dict[str, list[Document]]) -> None:
    """Add the files in folders below, where a video "a/x" has its own, of the formats with a file for each video.

    Where the folder itself holds files of formats, only files of these are taken. Of the formats of `afsd detect` whose
    files may hold several videos, those are taken that hold the videos of their place.
    """
    single = {name for name, known in FORMATS.items() if isinstance(known.way, Files) and not known.several}
    wanted = single & set(found or single if format is None else [format])
    results = {name for name in DETECTED if name not in single and format in (None, name)}
    if found and not {*found} & {*DETECTED}:  # of another tool
        results = set()
    suffixes = {FORMATS[name].suffix for name in wanted | results}
    for path in files_below(folder) if suffixes else ():
        suffix, document = text_suffix(path), Document(path)
        if suffix not in suffixes or (suffix in RESULT_SUFFIXES and not is_of_place(document, _place(path, folder))):
            continue
        kind = recognise(document) if format is None else format
        if kind in wanted | results:
            found.setdefault(kind, []).append(document)


def _holds(chosen: Format, kind: Kind) -> tuple[str, ...]:
    less = kind == "predictions" and chosen.predictions_hold is not None
    return chosen.predictions_hold or () if less else chosen.holds


def _fit(video: VideoSegments, kind: Kind) -> VideoSegments:
    """Return a video with its segments as they can be written: none inverted, none before the start."""
    segments = tuple(
        replace(one, start_s=max(one.start_s, 0.0)) for one in video.segments if one.end_s >= max(one.start_s, 0.0)
    )
    fitted = replace(video, segments=segments)
    return fitted.without_scores() if kind == "annotations" else fitted


def _texts(target: Path, chosen: Format, videos: Sequence[VideoSegments], options: WriteOptions) -> dict[Path, str]:
    """Return the content of each file that is written."""
    if isinstance(chosen.way, Folder):
        return {path_in(target, name, what="a file"): text for name, text in chosen.way.write(videos, options).items()}
    if chosen.several:
        if is_folder(target):
            raise InputError(f"{target}: a folder, expected the name of a file: {chosen.description} is one")
        return {target: chosen.way.write(videos, options)}
    if len(videos) == 1 and target.suffix and not is_folder(target):
        return {target: chosen.way.write(videos, options)}
    if target.suffix and not is_folder(target):
        raise InputError(
            f"{target}: a file of {chosen.description} holds one video, got {len(videos)}; give a folder and --to NAME"
        )
    return {
        path_in(target, video.name, chosen.suffix, deep=True): chosen.way.write([video], options) for video in videos
    }
