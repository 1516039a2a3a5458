"""Read and change the metadata of an ONNX file without a protobuf library and without loading the network."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from runtime.errors import EngineError

METADATA_FIELD = 14
"""Number of the field `metadata_props` of a ModelProto, whose entries have a key (1) and a value (2)."""

LARGEST = 1 << 24
"""Most bytes of an entry; a ModelSpec has some 2,000, one with 10,000 classes 300,000."""

COPIED = 1 << 20
"""Bytes that are copied at once."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Protobuf's wire types."""


class _Field(NamedTuple):
    """Holds one field METADATA_FIELD of a file."""

    start: int
    """Position of the field's first byte in the file."""
    end: int
    """Position behind its last byte."""
    content: bytes


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """Read the entries of `metadata_props`; the fields between them, such as the graph, are skipped.

    Raises:
        EngineError: the file is not an ONNX file, or is cut short.
    """
    try:
        with path.open("rb") as stream:
            return dict(_entry(field.content) for field in _fields(stream))
    except (ValueError, IndexError):  # a UnicodeDecodeError too
        raise _damaged(path) from None


def copy_onnx(path: Path, target: Path, entries: dict[str, str], left_out: Collection[str] = ()) -> None:
    """Copy an ONNX file with other entries of `metadata_props`; everything else stays as it is, byte by byte.

    Args:
        path: the file.
        target: the copy, which is written over.
        entries: entries of the copy, in place of those of the same keys.
        left_out: keys of further entries that the copy does not have.

    Raises:
        EngineError: the file is not an ONNX file, or is cut short.
        OSError: the copy cannot be written.
    """
    dropped = {*entries, *left_out}
    with path.open("rb") as source, target.open("wb") as copy:
        try:
            replaced = [field for field in _fields(source) if _entry(field.content)[0] in dropped]
        except (ValueError, IndexError):
            raise _damaged(path) from None
        position = 0
        for field in replaced:
            _copy(source, copy, position, field.start)
            position = field.end
        _copy(source, copy, position, source.seek(0, os.SEEK_END))
        for key, value in entries.items():
            content = _text(1, key) + _text(2, value)
            copy.write(_varint(METADATA_FIELD << 3 | BYTES) + _varint(len(content)) + content)


def _damaged(path: Path) -> EngineError:
    return EngineError(
        f"{path}: not an ONNX file, or one that is damaged or cut short; copy it again, or export it again"
    )


def _fields(stream: BinaryIO) -> Iterator[_Field]:
    """Yield all fields METADATA_FIELD of the message that the file is."""
    size = stream.seek(0, os.SEEK_END)
    position = 0
    while position < size:
        stream.seek(position)
        start = position
        key = _read_varint(stream)
        wire = key & 7
        if wire == VARINT:
            _read_varint(stream)
            position = stream.tell()
            continue
        if wire not in (FIXED64, BYTES, FIXED32) or not key >> 3:
            raise ValueError("no such wire type")
        length = {FIXED64: 8, FIXED32: 4}.get(wire) or (_read_varint(stream) if wire == BYTES else 0)
        position = stream.tell() + length
        if position > size:
            raise ValueError("cut short")
        if key >> 3 == METADATA_FIELD and wire == BYTES:
            if length > LARGEST:
                raise ValueError("no metadata are that large")
            yield _Field(start, position, stream.read(length))


def _copy(source: BinaryIO, copy: BinaryIO, start: int, end: int) -> None:
    """Copy the bytes start … end − 1 of a file."""
    source.seek(start)
    while start < end and (part := source.read(min(COPIED, end - start))):
        copy.write(part)
        start += len(part)


def _text(field: int, text: str) -> bytes:
    content = text.encode()
    return _varint(field << 3 | BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


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
