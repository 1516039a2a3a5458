"""Find a video that a client names by its path in the configured folder, and nothing outside it."""

from __future__ import annotations

from pathlib import Path

from runtime.service.refusals import RefusedError


def find_in_root(root: Path | None, path: object) -> Path:
    """Return the file of a relative path, links followed.

    Raises:
        RefusedError: no folder is configured, the path leads out of it, or there is no such file.
    """
    if root is None:
        raise RefusedError(403, "path: this service opens no files of its machine (--root DIR); upload the video")
    if not isinstance(path, str) or not path or "\0" in path:
        raise RefusedError(400, "path: expected the path of a video in the service's folder")
    base = root.resolve()
    try:
        found = (base / path).resolve(strict=True)
        inside = found.is_relative_to(base) and found.is_file()
    except (OSError, RuntimeError, ValueError):
        inside = False
    if not inside:  # the same answer for all, so that nobody learns what is outside
        raise RefusedError(404, "path: no such video in the service's folder; expected a path relative to it")
    return found


def find_again(root: Path | None, path: str, before: Path | None) -> Path:
    """Return the file that a path led to before, shortly before it is opened.

    Whoever may write in the folder can put a link where a video was; between this look and the opening still, but not
    in all the time that a job waits and its video is served.

    Raises:
        RefusedError: the path now leads elsewhere, or nowhere.
    """
    found = find_in_root(root, path)
    if found != before:
        raise RefusedError(404, "path: leads to another file than when the job was sent; send it again")
    return found
