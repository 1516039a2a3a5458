"""Take the path of what is read, which is on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.common.files import PathLike
from runtime.common.text import public_url
from runtime.errors import InputError
from runtime.video.sources import is_remote, is_url, local_path


def input_path(path: PathLike, what: str = "results") -> Path:
    """Return the path of a file or folder to read, also of a file:// URL.

    Args:
        path: the path as it was given; a `Path` of a URL has lost a slash of it.
        what: what is read, in the plural.

    Raises:
        InputError: the URL of an object store, server or stream.
    """
    text = os.fspath(path)
    place = local_path(text) if is_url(text) else Path(text)
    if place is not None:
        return place
    shown = public_url(text).removesuffix("?…")
    if is_remote(text):
        raise InputError(f"{shown}: {what} in an object store are not read; copy them to a folder here")
    raise InputError(f"{shown}: got the address of a server, expected a file or folder here; fetch it first")
