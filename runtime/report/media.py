"""Bring a video into a page: as a link to its file, or in the page itself."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from html import escape
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import quote

from runtime.common.files import is_file, read_bytes
from runtime.common.sizes import file_size
from runtime.common.text import printable
from runtime.errors import InputError, VideoError
from runtime.report.preview import is_played, make_preview

EMBED_BYTES = 50_000_000
"""Largest video that is put into a page; browsers hold the whole page, a third larger, in memory."""


@dataclass(frozen=True)
class Media:
    """Holds the video of a page."""

    element: str = ""
    """HTML of the video element; empty: the page has no video."""
    source: str = ""
    """Where it is loaded from, as a Content-Security-Policy has it."""
    path: str = ""
    """File that the page links to, for people; empty for a video within the page."""
    remedy: str = "afsd's --embed puts a copy that browsers play into the page"
    """What to do where the browser does not play it."""


def bring_video(video: Path | None, page: Path, embed: bool) -> Media:
    """Return the video element of a page.

    Args:
        video: file of the video; None, or a folder of images: the page has no video.
        page: path of the page, from which a linked video is found.
        embed: put the video into the page; of one that browsers do not play, a small copy that they do.

    Raises:
        VideoError: the file is not there, or cannot be read.
        InputError: the video is too large to be put into a page.
        MissingDependencyError: PyAV is not installed, which makes the copy.
        OSError: the file cannot be read.
    """
    if video is None or video.is_dir():
        return Media()
    if not is_file(video):
        raise VideoError(f"{video}: video not found; expected the file that the page shows")
    if not embed:
        return Media(_element(_address(video, page)), "'self' file:", printable(str(video)))
    require_embeddable(video)
    if is_played(video):
        kind, content = guess_type(video.name)[0] or "video/mp4", read_bytes(video, EMBED_BYTES)
    else:
        kind, content = "video/webm", make_preview(video, EMBED_BYTES)
    return Media(_element(f"data:{kind};base64,{base64.b64encode(content).decode()}"), "data:")


def served_video(address: str, name: str) -> Media:
    """Return the video element of a page whose server has the video, too.

    Args:
        address: address of the video, relative to the page's.
        name: name of the video, for people.
    """
    remedy = "sent with preview=true, it gets a copy that browsers play"
    return Media(_element(address), "'self'", printable(name), remedy)


def require_embeddable(video: Path) -> None:
    """Check that a video that browsers play is small enough to be put into a page (InputError: it is not)."""
    size = video.stat().st_size
    if size > EMBED_BYTES and is_played(video):
        raise InputError(
            f"{video}: got {file_size(size)}, expected at most {file_size(EMBED_BYTES)} to be in a page; "
            "leave out --embed (embed=False), so that the page links to it, or make it smaller"
        )


def _element(address: str) -> str:
    return f'<video id="video" controls playsinline preload="metadata" src="{escape(address)}"></video>'


def _address(video: Path, page: Path) -> str:
    """Return the address of a video relative to a page; absolute where there is none, as on another drive."""
    target = video.resolve()
    try:
        relative = Path(os.path.relpath(target, page.parent.resolve())).as_posix()
    except ValueError:
        return target.as_uri()
    return quote(os.fsencode(relative))
