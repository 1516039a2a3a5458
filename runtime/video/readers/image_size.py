"""Read the size of an image from its header, before anything is decoded."""

from __future__ import annotations

import struct
from collections.abc import Iterator

SOI, START_OF_FRAME = b"\xff\xd8", frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG's first bytes, and its markers that begin a frame (ITU T.81, table B.1)."""
WIDTH, HEIGHT = 256, 257
"""TIFF's tags (TIFF 6.0, section 8)."""


def image_size(content: bytes) -> tuple[int, int] | None:
    """Return the width and height that a PNG, JPEG, WebP, BMP or TIFF declares; None for what is none of them."""
    try:
        return next((size for read in (_png, _jpeg, _webp, _bmp, _tiff) if (size := read(content))), None)
    except struct.error:  # cut off
        return None


def _png(content: bytes) -> tuple[int, int] | None:
    return struct.unpack_from(">II", content, 16) if content.startswith(b"\x89PNG\r\n\x1a\n") else None


def _bmp(content: bytes) -> tuple[int, int] | None:
    if not content.startswith(b"BM"):
        return None
    core = struct.unpack_from("<I", content, 14)[0] == 12  # of OS/2
    width, height = struct.unpack_from("<HH" if core else "<ii", content, 18)
    return abs(width), abs(height)  # upside down where it is negative


def _webp(content: bytes) -> tuple[int, int] | None:
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return None
    kind = content[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", content, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    low, high = struct.unpack_from("<IH", content, 24)  # VP8X: two numbers of 24 bits
    return (low & 0xFFFFFF) + 1, (low >> 24 | high << 8) + 1


def _jpeg(content: bytes) -> tuple[int, int] | None:
    if not content.startswith(SOI):
        return None
    at = 2
    while at < len(content):
        if content[at] != 0xFF:
            return None
        marker, length = struct.unpack_from(">BH", content, at + 1)
        if marker == 0xFF:  # fill bytes
            at += 1
        elif marker in START_OF_FRAME:
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        else:
            at += 2 + length
    return None


def _tiff(content: bytes) -> tuple[int, int] | None:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None:
        return None
    tags = dict(_tags(content, order))
    return (tags[WIDTH], tags[HEIGHT]) if WIDTH in tags and HEIGHT in tags else None


def _tags(content: bytes, order: str) -> Iterator[tuple[int, int]]:
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    for index in range(struct.unpack_from(f"{order}H", content, start)[0]):
        tag, kind, _ = struct.unpack_from(f"{order}HHI", content, start + 2 + 12 * index)
        short = kind == 3
        yield tag, struct.unpack_from(f"{order}{'H' if short else 'I'}", content, start + 10 + 12 * index)[0]
