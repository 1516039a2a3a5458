"""Put a page together: one file with its own style, script and data, that loads nothing and runs nothing else.

Texts of others, such as labels and names of videos, are only in the data, as JSON, and reach the page as text; the
browser is told by a Content-Security-Policy to run no script and take no style but those whose hashes it names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from runtime.common.files import write_text
from runtime.common.text import printable

PAGE_START = "<!doctype html>\n<!-- afsd report 1 -->\n"
"""First bytes of every page, by which a page is known as this project's."""
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
"""Letters that would end or change a script element, as JSON writes them otherwise."""


def is_page(content: bytes) -> bool:
    """Return whether the content of a file is a page of a report."""
    return content.startswith(PAGE_START.encode())


def write_page(
    path: Path, kind: str, title: str, data: dict[str, Any], media: str = "", media_source: str = ""
) -> None:
    """Write a page atomically.

    Args:
        path: path of the file.
        kind: name of its parts among the assets: "video" or "index".
        title: title of the window; any text.
        data: content for its script, of what JSON holds.
        media: HTML of the video element.
        media_source: where the page may load a video from, as a Content-Security-Policy has it; empty: nowhere.

    Raises:
        OSError: the file cannot be written.
    """
    style = _asset("style.css")
    script = _asset("common.js") + _asset(f"{kind}.js")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        f"media-src {media_source or chr(39) + 'none' + chr(39)}; base-uri 'none'; form-action 'none'"
    )
    page = _fill(
        _asset("page.html"),
        policy=escape(policy),
        title=escape(printable(title)),
        style=style,
        body=_fill(_asset(f"{kind}.html"), media=media),
        data=script_json(data),
        script=script,
    )
    write_text(path, PAGE_START + page)


def script_json(data: object) -> str:
    """Return JSON that is safe within a script element: it holds no tag, comment or entity, whatever its texts are.

    Raises:
        ValueError: NaN or infinity, which JSON lacks.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_ESCAPES)


def _fill(template: str, **parts: str) -> str:
    """Replace each {{name}} of a template once; what is put in is not looked at again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


@cache
def _asset(name: str) -> str:
    return (files("runtime.report") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the hash of an inline script or style as a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
