"""Load ground truth of any form: the one place that tells the forms apart."""

from __future__ import annotations

from pathlib import Path

from runtime.annotations.activitynet import VideoAnnotation, load_annotations
from runtime.annotations.thumos14 import read_kit_annotations, read_table_annotations
from runtime.common.files import text_suffix


def load_ground_truth(path: str | Path, subset: str | None = None) -> tuple[VideoAnnotation, ...]:
    """Load annotations of any form: the THUMOS'14 kit's folder, a table (.csv), else ActivityNet JSON.

    Raises:
        AnnotationError: the file cannot be read, has another form, or (JSON) has no video of the subset.
    """
    path = Path(path)
    if path.is_dir():
        return read_kit_annotations(path)
    return read_table_annotations(path) if text_suffix(path) == ".csv" else load_annotations(path, subset)
