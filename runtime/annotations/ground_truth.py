"""Load ground truth of any form: the one place that tells the forms apart."""

from __future__ import annotations

from pathlib import Path

from runtime.annotations.activitynet import VideoAnnotation, choose_subset, load_annotations, parse_annotations
from runtime.annotations.thumos14 import KIT_SUFFIX, read_kit_annotations, read_table_annotations
from runtime.common.files import text_suffix
from runtime.errors import AnnotationError, InputError
from runtime.exchange.document import Document
from runtime.exchange.files import find_segments
from runtime.exchange.formats import FORMATS, TEXT_SUFFIXES, recognise
from runtime.exchange.media import VideoFolder

ACTIVITYNET = "activitynet"
MAY_COUNT_FRAMES = {"csv", "fiftyone", *(name for name, format in FORMATS.items() if format.in_frames)}
"""Formats whose times are frames, or may be."""


def load_ground_truth(
    path: str | Path,
    subset: str | None = None,
    *,
    fps: float | None = None,
    videos: Path | None = None,
    advice: str = "",
) -> tuple[VideoAnnotation, ...]:
    """Load annotations of any form: ActivityNet JSON, the THUMOS'14 kit's folder, a table, or files of a tool.

    A file, or a folder of files, of an annotation tool is known by its content, see `runtime.exchange.formats`. Most
    tools know no subsets; then all videos are returned.

    Args:
        path: the file or folder.
        subset: subset of a JSON or table, as for `load_annotations`; None: all.
        fps: frames per second of the videos, where times are frames; goes before what the file says.
        videos: folder of the videos, which are asked for their rates where times are frames and the file says none.
        advice: what to do where nobody knows the rate; empty: to convert the file.

    Raises:
        InputError: `fps` is out of range, or given for times in seconds.
        AnnotationError: the file cannot be read, has another form, has no video of the subset, or holds what a model
            found.
    """
    path = Path(path)
    in_seconds = _load_in_seconds(path, subset)
    if in_seconds is not None:
        _refuse_rate(fps, path)
        return in_seconds
    rates = VideoFolder(videos)
    advice = advice or f"afsd convert {path} annotations.json --fps F (or --videos DIR) makes annotations in seconds"
    read = find_segments(path, None, fps=fps, media=rates, kind="annotations", advice=advice)
    if read.format not in MAY_COUNT_FRAMES:
        _refuse_rate(fps, path)
    if any(video.scored for video in read.videos):
        raise AnnotationError(
            f"{path}: holds scores, so it is what a model found, and no truth; if a person has corrected it, "
            "afsd convert --annotations leaves the scores out"
        )
    annotated = tuple(video.to_annotation() for video in read.videos)
    return choose_subset(annotated, subset, str(path)) if any(video.subset for video in annotated) else annotated


def _load_in_seconds(path: Path, subset: str | None) -> tuple[VideoAnnotation, ...] | None:
    """Load annotations of a form that has seconds; None for those of a tool."""
    if path.is_dir():
        return read_kit_annotations(path) if _holds_kit(path) else None
    if text_suffix(path) == ".csv" and _is_kits_table(path):
        return read_table_annotations(path)
    document = Document(path)
    name = recognise(document)
    if name is None:
        return load_annotations(path, subset)  # which says what it expects
    if name == ACTIVITYNET:
        return choose_subset(parse_annotations(document.json, str(path)), subset, str(path))
    return None


def _refuse_rate(fps: float | None, path: Path) -> None:
    if fps is not None:
        raise InputError(f"--fps is of times that are frames, and those of {path} are seconds; leave it out")


def _holds_kit(folder: Path) -> bool:
    """Return whether a folder is the kit's, whole or not, or holds nothing that could be another form."""
    files = [path for path in folder.iterdir() if text_suffix(path) in TEXT_SUFFIXES]
    return not files or any(path.name.endswith(KIT_SUFFIX) for path in files)


def _is_kits_table(path: Path) -> bool:
    """Return whether a table has the columns of THUMOS'14's, or none that another form knows."""
    document = Document(path)
    first = document.text.partition("\n")[0]
    return recognise(document) is None or "type" in first.split(",")
