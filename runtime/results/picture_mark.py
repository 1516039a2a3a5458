"""Mark the PNG files of this project, so that they can be told from those of others."""

from __future__ import annotations

import zlib

MARK = b"Software\0afsd"
"""Keyword and text of the mark, a text chunk of PNG."""
_START = 33
"""Bytes of a PNG's signature and its first chunk, IHDR; a text chunk may follow."""


def mark_png(png: bytes) -> bytes:
    """Return a PNG with the mark as its second chunk."""
    return png[:_START] + _CHUNK + png[_START:]


def is_picture(content: bytes) -> bool:
    """Return whether the content of a file is a PNG with the mark."""
    return content[_START : _START + len(_CHUNK)] == _CHUNK


def _make_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of PNG: length, kind, data and their CRC-32."""
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


_CHUNK = _make_chunk(b"tEXt", MARK)
PICTURE_START = _START + len(_CHUNK)
"""Bytes of a file's beginning from which it is known whether it has the mark."""
