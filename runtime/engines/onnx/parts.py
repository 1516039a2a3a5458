"""Cut one part out of an ONNX file of several, without a protobuf library.

The parts of a streaming network are one graph whose names begin with those of the parts (`runtime.spec.streaming`).
Only protobuf's framing is read: a part's nodes, inputs and outputs are kept as they are, with the weights they read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runtime.engines.onnx.metadata import BYTES, FIXED32, FIXED64, VARINT, read_varint
from runtime.errors import EngineError

GRAPH, METADATA = 7, 14
"""Numbers of fields of a ModelProto."""
NODE, WEIGHT, INPUT, OUTPUT, SHAPES = 1, 5, 11, 12, 13
"""Numbers of fields of a GraphProto."""
NODE_INPUT, NODE_NAME, WEIGHT_NAME, VALUE_NAME = 1, 3, 8, 1
"""Numbers of fields of NodeProto, TensorProto and ValueInfoProto."""

Field = tuple[int, memoryview, memoryview]
"""Number of a field, its content, and its whole encoding."""


def cut_part(path: Path, part: str) -> bytes:
    """Return an ONNX model of the nodes of one part (EngineError: the file is not an ONNX file)."""
    try:
        return _cut(memoryview(path.read_bytes()), f"{part}/".encode())
    except (ValueError, IndexError):
        raise EngineError(f"{path}: not an ONNX file, or a damaged one; copy it again, or export it again") from None


def _cut(model: memoryview, prefix: bytes) -> bytes:
    pieces: list[memoryview | bytes] = []
    for number, content, whole in _fields(model):
        if number == GRAPH:
            graph = _cut_graph(content, prefix)
            pieces += [_key(GRAPH), _number(len(graph)), graph]
        elif number != METADATA:
            pieces.append(whole)
    return b"".join(pieces)


def _cut_graph(graph: memoryview, prefix: bytes) -> bytes:
    fields = list(_fields(graph))
    own: set[int] = set()
    read: set[bytes] = set()
    for index, (number, content, _) in enumerate(fields):
        if number == NODE and _texts(content, NODE_NAME)[0].startswith(prefix):
            own.add(index)
            read.update(_texts(content, NODE_INPUT))
        elif number in (INPUT, OUTPUT) and _texts(content, VALUE_NAME)[0].startswith(prefix):
            own.add(index)
    for index, (number, content, _) in enumerate(fields):
        if (number == WEIGHT and _texts(content, WEIGHT_NAME)[0] in read) or number not in (
            NODE, WEIGHT, INPUT, OUTPUT, SHAPES,
        ):  # fmt: skip
            own.add(index)
    return b"".join(fields[index][2] for index in sorted(own))


def _texts(message: memoryview, wanted: int) -> list[bytes]:
    """Return all values of a field that holds text; [b""] if it is not there."""
    return [bytes(content) for number, content, _ in _fields(message) if number == wanted] or [b""]


def _fields(message: memoryview) -> Iterator[Field]:
    """Yield the fields of a message; a number has no content."""
    position = 0
    while position < len(message):
        begin = position
        key, position = read_varint(message, position)
        wire = key & 7
        start = position
        if wire == VARINT:
            _, position = read_varint(message, position)
            start = position
        elif wire == BYTES:
            length, start = read_varint(message, position)
            position = start + length
        elif wire in (FIXED64, FIXED32):
            position += 8 if wire == FIXED64 else 4
        else:
            raise ValueError("no such wire type")
        if position > len(message):
            raise ValueError("cut short")
        yield key >> 3, message[start:position], message[begin:position]


def _key(number: int) -> bytes:
    return _number(number << 3 | BYTES)


def _number(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
