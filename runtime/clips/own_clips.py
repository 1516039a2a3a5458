"""Mark clips as this project's, and write over no others."""

from __future__ import annotations

from pathlib import Path

from runtime.common.files import describe_mode, exists
from runtime.common.overwriting import ELSEWHERE
from runtime.common.text import printable
from runtime.errors import InputError
from runtime.video.readers.pyav import import_av

MARK = "afsd clip"
"""Beginning of the comment in a clip's metadata."""


def describe_clip(of: str, labels: tuple[str, ...]) -> dict[str, str]:
    """Return the metadata of a clip: a title, and a comment with the mark and what it is a clip of.

    Labels and names may be any text; what no container can hold, such as a zero or half a letter, is escaped.
    """
    texts = {"title": ", ".join(labels), "comment": f"{MARK} of {of}"}
    return {key: printable(text).encode(errors="backslashreplace").decode() for key, text in texts.items()}


def require_own_clip(path: Path) -> None:
    """Check that nothing is lost if a clip is written: nothing is there, an empty file, or a clip with the mark.

    Raises:
        InputError: the file is somebody else's.
    """
    if not exists(path):
        return
    if not path.is_file():
        raise InputError(f"{path}: {describe_mode(path.stat().st_mode)}, where a file is to be written; {ELSEWHERE}")
    if path.stat().st_size == 0:
        return
    library = import_av()
    try:
        with library.open(f"file:{path}", metadata_errors="replace") as container:
            comments = [value for key, value in container.metadata.items() if key.lower() == "comment"]
    except (library.error.FFmpegError, OSError, ValueError):
        comments = []
    if not any(comment.startswith(MARK) for comment in comments):
        raise InputError(f"{path}: is there already and no clip of afsd, so it is not written over; {ELSEWHERE}")
