"""Mark a written file where its format has a place for that, so that it is known, later, as unchanged since.

The mark holds the digest of the rest. A file that a person or a tool has changed has no mark, or that of another text,
and is never taken for what was written. Formats without such a place, as tables and plain subtitles, have no mark.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

Kind = Literal["json", "xml", "vtt", "edl"]
"""Where the mark is: the last key of a JSON object, a comment behind the root of XML, a note of WebVTT, a comment of an
edit decision list."""
DIGITS = 32
"""Hexadecimal digits of a mark."""


@dataclass(frozen=True)
class _Mark:
    """Says how the end of a text becomes one with a mark."""

    plain: str
    """End of a text without a mark."""
    marked: str
    """That end with a mark, whose digits are at {}."""


MARKS: dict[Kind, _Mark] = {
    "json": _Mark("\n}\n", ',\n "afsd": "sha256 {}"\n}}\n'),
    "xml": _Mark("", "<!-- afsd sha256 {} -->\n"),
    "vtt": _Mark("", "\nNOTE afsd sha256 {}\n"),
    "edl": _Mark("", "* AFSD SHA256 {}\n"),
}


def add_mark(text: str, kind: Kind) -> str:
    """Return a text with its mark at the end; as it is if it does not end as the kind does."""
    mark = MARKS[kind]
    if not text.endswith(mark.plain):
        return text
    return text.removesuffix(mark.plain) + mark.marked.format(_digest(text.encode(errors="backslashreplace")))


def is_unchanged(content: bytes, kind: Kind) -> bool:
    """Return whether the content of a file is a text with its mark, as it was written."""
    mark = MARKS[kind]
    before, after = (re.escape(part.encode()) for part in mark.marked.format("\0").split("\0"))
    found = re.search(rb"%b([0-9a-f]{%d})%b\Z" % (before, DIGITS, after), content)
    return found is not None and found[1].decode() == _digest(content[: found.start()] + mark.plain.encode())


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:DIGITS]
