"""Read a file of another tool once, as text, JSON or XML, whatever asks for it."""

from __future__ import annotations

import io
import re
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from runtime.common.files import read_json, read_text, text_suffix
from runtime.common.text import one_line
from runtime.errors import AnnotationError

MAX_XML_DEPTH = 200
"""Deepest nesting of elements; files of annotation tools have fewer than ten levels."""
PARQUET = ".parquet"
"""Suffix of tables that this project writes and does not read."""
_ILLEGAL = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, and the carriage return, which readers turn into a line feed."""


class Document:
    """Is a file that is looked at by the functions that recognise formats, and read by the one of its format."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.suffix = text_suffix(path)
        self.stem = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).stem

    @cached_property
    def text(self) -> str:
        """The content as text (AnnotationError: the file cannot be read, or is not UTF-8)."""
        if self.suffix == PARQUET:
            raise AnnotationError(
                f"{self.path}: got Parquet, expected JSON, JSON lines or a table; take detections.jsonl of the same "
                "folder, which afsd detect --format jsonl writes"
            )
        try:
            return read_text(self.path)
        except FileNotFoundError:
            raise AnnotationError(
                f"{self.path}: file not found; expected a file of annotations or detections"
            ) from None
        except OSError as error:
            raise AnnotationError(f"{self.path}: cannot be read ({error.strerror or error})") from None
        except UnicodeDecodeError as error:
            raise AnnotationError(f"{self.path}: cannot be read as text ({error}); save it as UTF-8") from None

    @cached_property
    def looks_like_json(self) -> bool:
        """Whether the content begins as JSON does, and is not a line of JSON after the other."""
        return self.suffix != ".jsonl" and self.text.lstrip()[:1] in ("{", "[")

    @cached_property
    def json(self) -> Any:
        """The content as JSON (AnnotationError: it is none, or has a key twice); None if it does not begin as JSON."""
        return read_json(self.path, "file of annotations", AnnotationError) if self.looks_like_json else None

    @cached_property
    def xml(self) -> ElementTree.Element | None:
        """The root of the content as XML (AnnotationError: it is damaged); None if it does not begin as XML."""
        if not self.text.lstrip().startswith("<"):
            return None
        if "<!DOCTYPE" in self.text or "<!ENTITY" in self.text:
            raise AnnotationError(f"{self.path}: declares entities, which no annotation tool writes; not read")
        depth = 0
        try:
            events: Any = ElementTree.iterparse(io.StringIO(self.text), ("start", "end"))
            for event, _ in events:
                depth += 1 if event == "start" else -1
                if depth > MAX_XML_DEPTH:
                    raise AnnotationError(f"{self.path}: elements are nested more than {MAX_XML_DEPTH} deep; not read")
            root: ElementTree.Element = events.root
            return root
        except (ElementTree.ParseError, ValueError) as error:  # ValueError: a declared encoding that is unknown
            raise AnnotationError(f"{self.path}: not XML ({one_line(error)})") from None


def xml_text(text: str) -> str:
    """Return text that XML can hold: characters that it cannot become escapes such as \\u0000."""
    return _ILLEGAL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def to_xml(root: ElementTree.Element) -> str:
    """Return an element and those in it as the text of an XML file, indented."""
    ElementTree.indent(root, " ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'
