"""Read the metadata of an ONNX file without a protobuf library and without loading the network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from runtime.errors import EngineError

METADATA_FIELD = 14
"""Number of the field `metadata_props` of a ModelProto, whose entries have a key (1) and a value (2)."""

LARGEST = 1 << 24
"""Most bytes of an entry; a ModelSpec has some 2,000, one with 10,000 classes 300,000."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Protobuf's wire types."""


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """Read the entries of `metadata_props`; the fields between them, such as the graph, are skipped.

    Raises:
        EngineError: the file is not an ONNX file, or is cut short.
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            return dict(_entry(content) for content in _fields(stream, size))
    except (ValueError, IndexError):  # a UnicodeDecodeError too
        raise EngineError(
            f"{path}: not an ONNX file, or one that is damaged or cut short; copy it again, or export it again"
        ) from None


def _fields(stream: BinaryIO, size: int) -> list[bytes]:
    """Return the contents of all fields METADATA_FIELD of the message that the file is."""
    found = []
    while stream.tell() < size:
        key = _read_varint(stream)
        wire = key & 7
        if wire == VARINT:
            _read_varint(stream)
            continue
        if wire not in (FIXED64, BYTES, FIXED32) or not key >> 3:
            raise ValueError("no such wire type")
        length = {FIXED64: 8, FIXED32: 4}.get(wire) or (_read_varint(stream) if wire == BYTES else 0)
        if stream.tell() + length > size:
            raise ValueError("cut short")
        if key >> 3 == METADATA_FIELD and wire == BYTES:
            if length > LARGEST:
                raise ValueError("no metadata are that large")
            found.append(stream.read(length))
        else:
            stream.seek(length, os.SEEK_CUR)
    return found


def _entry(content: bytes) -> tuple[str, str]:
    """Return key and value of a StringStringEntryProto."""
    texts = {1: "", 2: ""}
    position = 0
    while position < len(content):
        key, position = read_varint(content, position)
        length, position = read_varint(content, position)
        if key & 7 != BYTES or position + length > len(content):
            raise ValueError("not an entry")
        texts[key >> 3] = content[position : position + length].decode()
        position += length
    return texts[1], texts[2]


def read_varint(content: bytes | bytearray | memoryview, position: int) -> tuple[int, int]:
    """Return the number that begins at a position, and the position behind it (ValueError, IndexError: none does)."""
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
        if shift > 63:
            raise ValueError("no varint is that long")


def _read_varint(stream: BinaryIO) -> int:
    digits = bytearray()
    while len(digits) < 10 and (byte := stream.read(1)):
        digits += byte
        if byte[0] < 128:
            return read_varint(digits, 0)[0]
    raise ValueError("not a varint")
