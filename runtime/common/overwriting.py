"""Write over no file but those of this project, known by their content, unless asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from runtime.common import limits
from runtime.common.files import describe_mode, exists, is_file, read_bytes
from runtime.errors import InputError

ELSEWHERE = "choose another place for the results, or give --overwrite"
"""Advice of the commands that have --overwrite."""
Recognise = Callable[[bytes], bool]
"""Function that says whether the content of a file, not empty, is what this project writes."""


def require_own_file(
    path: Path, recognise: Recognise | None, advice: str = ELSEWHERE, what: str = "no result of afsd"
) -> None:
    """Check that nothing is lost if a file is written: it is not there, is empty, or this project wrote it.

    Args:
        path: path of the file.
        recognise: says whether a content is this project's; None: no content is.
        advice: what to do if it is not.
        what: says what the file then is.

    Raises:
        InputError: the file is somebody else's, or a folder, pipe or device is there.
        OSError: the file cannot be read.
    """
    if not is_file(path):
        if exists(path):
            raise InputError(f"{path}: {describe_mode(path.stat().st_mode)}, where a file is to be written; {advice}")
        return
    content = read_bytes(path, limits.TEXT_BYTES)
    if content and not (recognise is not None and recognise(content)):
        raise InputError(f"{path}: is there already and {what}, so it is not written over; {advice}")


def json_with(*keys: str) -> Recognise:
    """Return the function that recognises a JSON object by its keys."""

    def recognise(content: bytes) -> bool:
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            return False
        return isinstance(document, dict) and set(keys) <= document.keys()

    return recognise


def text_that_begins(start: str) -> Recognise:
    """Return the function that recognises a text by its beginning."""
    return lambda content: content.startswith(start.encode())
