"""Make files of names that come from files, such as a video's in annotations: none leads out of its folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath

from runtime.common.text import quote
from runtime.errors import InputError

DEVICES = frozenset({"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"})
_NUMBERED_DEVICE = re.compile(r"(COM|LPT)[0-9¹²³]")
VIDEO_NAME = "the name of a video"
_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")


def path_in(folder: Path, name: str, suffix: str = "", *, what: str = VIDEO_NAME, deep: bool = False) -> Path:
    """Return the path of `name` + `suffix` in a folder.

    Args:
        folder: the folder.
        name: name from a file or a video.
        suffix: rest of the file's name.
        what: says what the name is, in errors.
        deep: take "a/b" too, a file in a folder below `folder`.

    Raises:
        InputError: the name leads out of the folder, has control characters, or is a device on Windows. Of a name that
            is only too long, or has letters that Windows alone refuses (10:30.mp4), the file system says so.
    """
    require_safe_name(name, suffix, what=what, deep=deep)
    return folder / f"{name}{suffix}"


def require_safe_names(names: Iterable[str]) -> None:
    """Check the names of videos, which may be in folders as in "a/b", before any work; see `path_in`."""
    for name in names:
        require_safe_name(name, ".npy", deep=True)


def require_safe_name(name: str, suffix: str = "", *, what: str = VIDEO_NAME, deep: bool = False) -> None:
    """Raise an InputError unless `name` + `suffix` is a file's name of its own; see `path_in`."""
    parts = name.split("/") if deep else [name]
    for index, part in enumerate(parts):
        fault = _fault(part, suffix if index == len(parts) - 1 else "")
        if fault:
            raise InputError(f"{what} is {quote(name)}, which {fault}; expected one that a file can have: rename it")


def _fault(part: str, suffix: str) -> str:
    """Return what is wrong with a part of a path; empty: nothing."""
    device = (part + suffix).partition(".")[0].rstrip(" ").upper()
    if part in ("", ".", ".."):
        return "leads out of its folder or is empty"
    if "/" in part or "\\" in part or PureWindowsPath(part).drive:
        return "has a path in it and may lead out of its folder"
    if _CONTROLS.search(part):
        return "has a line break or another control character in it"
    if device in DEVICES or _NUMBERED_DEVICE.fullmatch(device):
        return f"is the device {device} to Windows"
    if (part + suffix)[-1] in ". ":
        return "ends with a dot or a space, which Windows leaves out"
    return ""
