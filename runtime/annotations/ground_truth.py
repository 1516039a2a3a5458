"""Load ground truth of any form: the one place that tells the forms apart."""

from __future__ import annotations

from pathlib import Path

from runtime.annotations.activitynet import VideoAnnotation, choose_subset, load_annotations, parse_annotations
from runtime.annotations.thumos14 import KIT_SUFFIX, read_kit_annotations, read_table_annotations
from runtime.common.files import text_suffix
from runtime.errors import AnnotationError
from runtime.exchange.document import Document
from runtime.exchange.files import read_segments
from runtime.exchange.formats import TEXT_SUFFIXES, recognise

ACTIVITYNET = "activitynet"


def load_ground_truth(path: str | Path, subset: str | None = None) -> tuple[VideoAnnotation, ...]:
    """Load annotations of any form: ActivityNet JSON, the THUMOS'14 kit's folder, a table, or files of a tool.

    A file, or a folder of files, of an annotation tool is known by its content, see `runtime.exchange.formats`. Where
    times are frames the file itself must give the rate: `afsd convert` takes it from elsewhere. Most tools know no
    subsets; then all videos are returned.

    Args:
        path: the file or folder.
        subset: subset of a JSON or table, as for `load_annotations`; None: all.

    Raises:
        AnnotationError: the file cannot be read, has another form, has no video of the subset, or holds what a model
            found.
    """
    path = Path(path)
    if path.is_dir():
        if _holds_kit(path):
            return read_kit_annotations(path)
    elif text_suffix(path) == ".csv" and _is_kits_table(path):
        return read_table_annotations(path)
    else:
        document = Document(path)
        name = recognise(document)
        if name is None:
            return load_annotations(path, subset)  # which says what it expects
        if name == ACTIVITYNET:
            return choose_subset(parse_annotations(document.json, str(path)), subset, str(path))
    videos = read_segments(path, kind="annotations")
    if any(video.scored for video in videos):
        raise AnnotationError(
            f"{path}: holds scores, so it is what a model found, and no truth; if a person has corrected it, "
            "afsd convert --annotations leaves the scores out"
        )
    annotated = tuple(video.to_annotation() for video in videos)
    return choose_subset(annotated, subset, str(path)) if any(video.subset for video in annotated) else annotated


def _holds_kit(folder: Path) -> bool:
    """Return whether a folder is the kit's, whole or not, or holds nothing that could be another form."""
    files = [path for path in folder.iterdir() if text_suffix(path) in TEXT_SUFFIXES]
    return not files or any(path.name.endswith(KIT_SUFFIX) for path in files)


def _is_kits_table(path: Path) -> bool:
    """Return whether a table has the columns of THUMOS'14's, or none that another form knows."""
    document = Document(path)
    first = document.text.partition("\n")[0]
    return recognise(document) is None or "type" in first.split(",")
