"""Name what clients send: a name that is shown, never one that is opened."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from runtime.common.text import ESCAPES, without_surrogates
from runtime.video.sources import VIDEO_SUFFIXES

LONGEST = 120
"""Most letters of a shown name."""
NAMELESS = "video"
"""Name of a video whose client gives none."""


def shown_name(given: str) -> str:
    """Return the last part of a file name of a client, printable and short, to be shown and nothing else."""
    last = re.split(r"[/\\]", given)[-1]
    clean = without_surrogates(last).translate(dict.fromkeys(ESCAPES, "_")).strip(" .")
    if len(clean) > LONGEST:
        suffix = PurePosixPath(clean).suffix[:8]
        clean = clean[: LONGEST - len(suffix)] + suffix
    return clean or NAMELESS


def name_in_url(url: str) -> str:
    """Return the shown name of the file at an address."""
    return shown_name(unquote(urlsplit(url).path))


def known_suffix(name: str) -> str:
    """Return the suffix of a name if it is one of a video, by which FFmpeg tells some formats apart; else none."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in VIDEO_SUFFIXES else ""
