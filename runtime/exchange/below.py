"""Know the files of `afsd detect` in a folder that is read, and find those below it: a video "a/x" has a/x.json."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from unicodedata import normalize

from runtime.common.csv_text import without_apostrophe
from runtime.common.files import is_file, open_file
from runtime.common.natural_order import natural_key
from runtime.errors import AnnotationError
from runtime.exchange.document import Document
from runtime.results.detections import TABLE, is_table
from runtime.results.json_lines import FAILURES, ROWS

RESULT_SUFFIXES = (".json", ".jsonl", ".csv")
"""Suffixes of files of results that name their videos, that of the file that holds most first."""
LONGEST_ROW = 100_000
"""Most bytes that are read of a row, a path and a label among them."""


def is_beside_results(path: Path) -> bool:
    """Return whether a file in the folder itself is one that jobs write beside results: the videos that failed."""
    return path.name == FAILURES


def is_of_all(document: Document) -> bool:
    """Return whether a file is a table in which `afsd detect` has all videos of a folder."""
    path = document.path
    if path.name not in (f"{TABLE}.csv", ROWS):
        return False
    with open_file(path) as file:
        first = file.readline(LONGEST_ROW)
    return is_table(first + b"\n") if path.name != ROWS else b'"start_s": ' in first


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files in the folders below a folder, folder by folder in natural order, without hidden ones and links
    to folders."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted((name for name in folders if name[:1] != "."), key=natural_key)
        if Path(place) != folder:
            shown = (Path(place, name) for name in sorted(files, key=natural_key) if name[:1] != ".")
            yield from (path for path in shown if is_file(path))


def is_of_place(document: Document, place: str) -> bool:
    """Return whether a file holds results of videos that are named by its place, as `afsd detect` writes them.

    Args:
        document: a file with one of `RESULT_SUFFIXES`.
        place: its folder in the one that is read, as in "day1".
    """
    try:
        names = _names(document)
    except (AnnotationError, ValueError, RecursionError, csv.Error):
        return False
    beginning = normalize("NFC", f"{place}/")  # a Mac may give letters with marks of their own
    return names is not None and all(normalize("NFC", name).startswith(beginning) for name in names)


def _names(document: Document) -> list[str] | None:
    """Return the names of the videos with results in a file, of lines and tables the first; None: it has another form.

    Raises:
        AnnotationError, ValueError, RecursionError, csv.Error: the file cannot be read.
    """
    if document.suffix == ".json":
        results = document.json.get("results") if isinstance(document.json, Mapping) else None
        return list(results) if isinstance(results, Mapping) else None
    if document.suffix == ".jsonl":
        entry = json.loads(document.text.partition("\n")[0])
        name = entry.get("video") if isinstance(entry, Mapping) else None
        return [name] if isinstance(name, str) else None
    header, _, rest = document.text.partition("\n")
    if not is_table(f"{header}\n".encode()):
        return None
    return [without_apostrophe(row[0]) for row in csv.reader([rest.partition("\n")[0]]) if row]
