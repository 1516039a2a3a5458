"""Load what was detected, in any form: a file of any format, or a folder of results of `afsd detect`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.common.files import PathLike, is_folder, text_suffix
from runtime.common.natural_order import natural_key
from runtime.common.text import some
from runtime.errors import AnnotationError
from runtime.exchange.below import RESULT_SUFFIXES, files_below, is_beside_results, is_of_all, is_of_place
from runtime.exchange.days import join_days
from runtime.exchange.document import PARQUET, Document
from runtime.exchange.files import read_days, read_segments, require_unique
from runtime.exchange.formats import TEXT_SUFFIXES, recognise
from runtime.exchange.inputs import input_path
from runtime.exchange.record import VideoSegments
from runtime.results.detections import Detections, load_detections
from runtime.results.thumos14 import read_text_detections

FOUND_SUFFIXES = TEXT_SUFFIXES - {".xml"}
"""Suffixes of files of detections; .xml is an engine's."""
RESULTS = "activitynet"
"""Name of the format of JSON of detections."""


def load_found(path: PathLike, note: Callable[[str], None] = lambda text: None) -> list[Detections]:
    """Load the detections of a file of any format, or of a folder of results.

    A folder is one of `afsd detect`: of files in several formats the JSON is read, else JSON lines, else tables. A
    table has scores and times with the decimals that are written in it. In folders below it are the results of the
    videos that are named so, "day1/cam1" in day1/cam1.json; others there are left out.

    Args:
        path: the file or folder.
        note: function that is given each remark on what was left out.

    Raises:
        AnnotationError: a file cannot be read, has another form, or holds segments without a score.
        InputError: two videos have the same name, or the path is a URL of another machine.
    """
    path = input_path(path)
    if is_folder(path):
        return _load_folder(path, note)
    if text_suffix(path) == ".txt":
        return read_text_detections(path)
    return _load_file(path, note)


def _load_folder(folder: Path, note: Callable[[str], None]) -> list[Detections]:
    here = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: natural_key(path.name))
    files = [path for path in here if not path.name.startswith(".") and not is_beside_results(path)]
    tables = [path for path in files if is_of_all(Document(path))]
    files = [path for path in files if path not in tables] + list(files_below(folder))
    # a table of all has the rows of the others, as far as they are of the same command; JSON has all digits and facts
    for some_files, suffix in ((some_files, suffix) for some_files in (files, tables) for suffix in RESULT_SUFFIXES):
        named = [path for path in some_files if path.suffix.lower() == suffix]
        chosen: list[Path] = []
        others: list[Path] = []
        for path in named:
            (chosen if _holds_found(path, folder) else others).append(path)
        if suffix == ".json":
            _note_others(others, folder, note)
        if chosen:
            found = [one for days in join_days(map(Document, chosen)) for one in _load_days(days, note)]
            require_unique([VideoSegments(one.video) for one in found], folder)
            return found
    raise AnnotationError(
        f"{folder}: holds no file of detections; expected the .json, .jsonl or .csv of afsd detect --out {folder}"
    )


def _note_others(others: Sequence[Path], folder: Path, note: Callable[[str], None]) -> None:
    """Note which files of a folder, and of those below it, are left out."""
    here = [path.name for path in others if path.parent == folder]
    below = [path.relative_to(folder).as_posix() for path in others if path.parent != folder]
    for what, left in (("no detections", here), ("no detections of a video by its path", below)):
        if left:
            note(f"{folder}: {what}, and left out: {some(left)}")


def _holds_found(path: Path, folder: Path) -> bool:
    """Return whether a file holds detections; of a file in a folder below, those of videos that are named so."""
    document = Document(path)
    if path.parent != folder:
        return is_of_place(document, path.parent.relative_to(folder).as_posix())
    if path.suffix.lower() == ".json":
        return isinstance(document.json, dict) and "results" in document.json
    return recognise(document) is not None


def _load_days(documents: Sequence[Document], note: Callable[[str], None]) -> list[Detections]:
    """Load a file, or those of a camera's days as one."""
    path = documents[0].path
    if len(documents) == 1:
        return _load_file(path, note)
    return [_with_scores(video, path) for video in read_days(documents, note=note)]


def _load_file(path: Path, note: Callable[[str], None]) -> list[Detections]:
    if recognise(Document(path)) in (RESULTS, None) and text_suffix(path) == ".json":
        return load_detections(path, keep_inverted=True)  # which says what it expects
    return [_with_scores(video, path) for video in read_segments(path, kind="predictions", note=note)]


def _with_scores(video: VideoSegments, path: Path) -> Detections:
    unscored = [one for one in video.segments if one.score is None]
    if unscored:
        raise AnnotationError(
            f"{path}: {video.name}: {unscored[0].label!r} at {unscored[0].start_s:g} s has no score, so a person "
            "marked it; expected what a model found"
        )
    return video.to_detections()


def names_engine(path: PathLike) -> bool:
    """Return whether a path is taken for an engine's and not for detections: by its suffix, unless it is a folder."""
    return not is_folder(Path(path)) and text_suffix(path) not in FOUND_SUFFIXES | {PARQUET}


def lowest_score(found: Sequence[Detections]) -> float:
    """Return the lowest score of all detections whose file says no threshold; 0 without any."""
    scores = [float(part.scores.min()) for part in found if len(part)]
    known = any(part.facts is not None and part.facts.threshold is not None for part in found)
    return 0.0 if known else min(scores, default=0.0)
