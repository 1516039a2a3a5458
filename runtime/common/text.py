"""Make text fit to be shown: control characters escaped, one line, no passwords of URLs; count things in words."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from itertools import accumulate
from unicodedata import combining, east_asian_width

from runtime.common import limits

_CONTROLS = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,
    *range(0x200E, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
)
"""Characters that move the cursor, begin a line, turn the direction of writing or cannot be seen."""
ESCAPES = {code: f"\\u{code:04x}" for code in _CONTROLS}
"""Control character → its escape, which JSON reads back."""
LINE_ESCAPES = {code: text for code, text in ESCAPES.items() if code not in (0x09, 0x0A)}
"""The same for text of several lines, whose tabs and line feeds stay."""

_URL = re.compile(r"""([A-Za-z][A-Za-z0-9+.-]+:/{1,3})((?:[^\s@]*@)?[^\s'"<>]*)""")  # one slash: taken for a path
_SECRET = re.compile(
    r"(?i)\b(pass(?:word|wd)?|pwd|token|secret|signature|sig|auth|credential|access|api_?key|key)=[^&;,/\s]*"
)


NAMED = 3
"""Number of names that a remark has, unless it says otherwise."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 video", "2 videos", "3 classes" where the plural is given."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def some(names: Iterable[str], most: int = NAMED) -> str:
    """Return the first names, and how many more there are: "a, b, c and 4 more"."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def printable(text: str) -> str:
    r"""Return text with control characters as escapes such as \u001b, so that it neither moves nor hides anything."""
    return text.translate(ESCAPES)


def without_surrogates(text: str) -> str:
    r"""Return text that can be encoded: JSON may name \ud800, and names of files have such for bytes beyond UTF-8."""
    return text.encode(errors="replace").decode()


def one_line(value: object) -> str:
    """Return the text of a value, such as an error of a library, as one printable line without secrets of URLs.

    Of a line longer than `limits.MESSAGE_LETTERS` the middle is left out.
    """
    line, half = printable(" ".join(without_secrets(str(value)).split())), limits.MESSAGE_LETTERS // 2
    return line if len(line) <= 2 * half else f"{line[:half]} … {line[-half:]}"


def cut_to_columns(text: str, columns: int) -> str:
    """Return the beginning of a text that fits into so many columns of a terminal, with an ellipsis if it was cut.

    Letters of East Asia and pictures take two columns; marks on letters take none.
    """
    if len(text) * 2 <= columns:
        return text
    widths = [0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text]
    if sum(widths) <= columns:
        return text
    taken = list(accumulate(widths))
    return text[: sum(width < columns for width in taken)] + "…" * (columns > 0)


def quote(value: object) -> str:
    """Return a value as it is written in Python, for messages: short, whatever its size and depth.

    `repr` of lists within lists may take for ever or fail, and Python refuses to print integers of thousands of digits.
    """
    return _QUOTE.repr(value)


class _Quote(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxlong, self.maxother = 3, 120, 40, 120

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() < 1000 else f"an integer of {x.bit_length()} bits"


_QUOTE = _Quote()


def without_secrets(text: str) -> str:
    """Return text without the user names, passwords, queries and fragments of the URLs in it."""
    return _URL.sub(lambda found: found[1] + _public_part(found[2]), text) if ":/" in text else text


def public_url(url: str) -> str:
    """Return one URL without what may be secret, as `without_secrets` does, also if it has spaces in it."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{_public_part(rest)}"


def _public_part(rest: str) -> str:
    """Return what follows "scheme://" without what may be secret; a query becomes "?…".

    A password may hold / ? and # unescaped: then what stands before the last @ goes too.
    """
    host, mark, path = _split_host(rest)
    if "@" not in host and "@" in path and ":" in host and not host.rpartition(":")[2].isdecimal():
        host, mark, path = _split_host(rest.rpartition("@")[2])
    host, whole = host.rpartition("@")[2], mark + path
    public = re.split(r"[?#]", whole, maxsplit=1)[0]
    hidden = "?…" if "?" in whole else ""
    return host + _SECRET.sub(lambda found: f"{found[1]}=…", public) + hidden


def _split_host(rest: str) -> tuple[str, str, str]:
    end = next((index for index, letter in enumerate(rest) if letter in "/?#"), len(rest))
    return rest[:end], rest[end : end + 1], rest[end + 1 :]
