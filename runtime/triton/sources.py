"""Decide which video a request may have read: files below a root, allowed addresses."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from runtime.common.files import is_folder
from runtime.common.text import public_url, quote
from runtime.errors import InputError
from runtime.video.readers.images import list_images
from runtime.video.sources import is_url, scheme_of

URL_SCHEMES = ("http", "https", "s3", "gs", "az", "abfs")
"""Schemes of addresses that have an end; live sources are the stream model's."""


def path_below(root: str, path: str) -> Path:
    """Return the file that a request names, which lies below the root; links are followed before that is checked.

    Args:
        root: folder; empty: no path is allowed.
        path: path below the root, or a whole one that leads there.

    Raises:
        InputError: no root, or the path leads out of it, or an image of a folder does. Whether a file is there is not
            said of one outside.
        VideoError: a pipe or device is among the images of a folder.
    """
    if not root:
        raise InputError("PATH: this server reads no paths; send the video as VIDEO, or configure a root (--root)")
    try:
        folder = Path(root).resolve()
        found = (folder / path).resolve()
    except (OSError, ValueError, RuntimeError):  # a zero byte, a circle of links
        raise InputError(f"PATH: got {quote(path)}, which is no path; expected one below the root") from None
    if not path or not found.is_relative_to(folder) or found == folder:
        raise InputError(f"PATH: got {quote(path)}, expected a file below the server's root; see docs/triton.md")
    if is_folder(found) and not all(image.resolve().is_relative_to(folder) for image in list_images(found)):
        raise InputError(f"PATH: an image of {quote(path)} is a link out of the server's root; put the image there")
    return found


def allowed_url(prefixes: tuple[str, ...], url: str) -> str:
    """Return the address of a request if it begins with an allowed one, and stays there.

    Raises:
        InputError: none is allowed, or this one is not.
    """
    if not prefixes:
        raise InputError("URL: this server reads no addresses; send the video as VIDEO, or allow some (--url)")
    plain = is_url(url) and not any(mark in url for mark in "\\\r\n\t ") and not _climbs(url)
    if not plain or not any(url.startswith(prefix) for prefix in prefixes):
        raise InputError(f"URL: {quote(public_url(url))} is not among the addresses that this server may read")
    return url


def _climbs(url: str) -> bool:
    """Return whether the path of an address has a segment "..", also as %2e%2e and with parameters ("..;a")."""
    path = re.split(r"[?#]", url, maxsplit=1)[0]
    return any(segment.partition(";")[0] == ".." for segment in re.split(r"[/\\]", unquote(path)))


def require_url_prefix(prefix: str) -> None:
    """Check a beginning of addresses: its host is whole, so that https://host does not stand for https://host.evil.

    Raises:
        InputError: no address, a scheme without an end, or no slash behind the host.
    """
    host, slash, _ = prefix.partition("://")[2].partition("/")
    if not is_url(prefix) or scheme_of(prefix) not in URL_SCHEMES or not host or not slash or "@" in host:
        raise InputError(
            f"--url: got {quote(public_url(prefix))}, expected the beginning of addresses, with a slash behind "
            "the host, such as https://host/videos/"
        )


def require_root(root: Path | None) -> str:
    """Return the folder of the videos as a whole path; empty for None.

    Raises:
        InputError: it is no folder.
    """
    if root is None:
        return ""
    if not is_folder(root):
        raise InputError(f"--root: {root} is no folder; expected that of the videos")
    return str(root.resolve())
