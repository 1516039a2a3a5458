"""Seal a file with a SHA-256 of its own bytes at its end, so that a change of any bit is noticed.

A sealed file ends with fixed bytes, 64 hexadecimal digits, and fixed bytes again; the digits are the SHA-256 of all
other bytes of the file. The seal of an ONNX file is its last entry of `metadata_props` (the order of a protobuf's
fields is free), that of an OpenVINO .xml the last entry of its `rt_info`: neither needs a library to be found, and
other programs read the files as ever.
"""

from __future__ import annotations

import hashlib
import os
import string
from pathlib import Path
from typing import BinaryIO, NamedTuple

from runtime.errors import SpecError

DIGITS = 64
"""Hexadecimal digits of a SHA-256."""

CHUNK = 1 << 20
"""Bytes that are read and hashed at once."""


class Seal(NamedTuple):
    """Holds the bytes of a file's end before and behind the digits."""

    before: bytes
    after: bytes

    @property
    def size(self) -> int:
        """Number of bytes of the whole seal."""
        return len(self.before) + DIGITS + len(self.after)


def _onnx_entry(key: bytes) -> bytes:
    """Return the bytes before the value of an entry of `metadata_props`, field 14 of a ModelProto."""
    head = bytes([0x0A, len(key)]) + key + bytes([0x12, DIGITS])
    return bytes([14 << 3 | 2, len(head) + DIGITS]) + head


ONNX_DIGEST_KEY = "afsd_sha256"
"""Key of the digest in `metadata_props`."""
ONNX_SEAL = Seal(_onnx_entry(ONNX_DIGEST_KEY.encode()), b"")


def write_seal(path: Path, seal: Seal) -> str:
    """Append a seal to a file and return its digest."""
    with path.open("r+b") as stream:
        digest = _hash(stream, stream.seek(0, os.SEEK_END))
        digest.update(seal.before + seal.after)
        found = digest.hexdigest()
        stream.seek(0, os.SEEK_END)
        stream.write(seal.before + found.encode() + seal.after)
    return found


def read_seal(path: Path, seal: Seal) -> str | None:
    """Return the digest that a file's seal holds, unverified; None where the file does not end with a seal."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size < seal.size:
            return None
        stream.seek(size - seal.size)
        tail = stream.read()
    digits = tail[len(seal.before) : len(seal.before) + DIGITS]
    whole = tail.startswith(seal.before) and tail[len(seal.before) + DIGITS :] == seal.after
    return digits.decode() if whole and set(digits) <= set(string.hexdigits.lower().encode()) else None


def verify_seal(path: Path, seal: Seal) -> None:
    """Compare the digest of a sealed file with its bytes (SpecError: they differ)."""
    stored = read_seal(path, seal)
    with path.open("rb") as stream:
        digest = _hash(stream, stream.seek(0, os.SEEK_END) - DIGITS - len(seal.after))
    digest.update(seal.after)
    if digest.hexdigest() != stored:
        raise damaged(path, digest.hexdigest(), stored or "none")


def damaged(path: Path, found: str, stored: str, where: str = "it") -> SpecError:
    """Return the error of a file whose SHA-256 is not the one that `where` holds."""
    return SpecError(
        f"{path}: is damaged or was changed after its export: its SHA-256 is {found[:12]}…, {where} says "
        f"{stored[:12]}…; copy the model again, or export it again"
    )


def _hash(stream: BinaryIO, length: int) -> hashlib._Hash:
    """Hash the first `length` bytes of a file."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    stream.seek(0)
    while length > 0 and (count := stream.readinto(buffer[: min(CHUNK, length)])):  # type: ignore[attr-defined]
        digest.update(buffer[:count])
        length -= count
    return digest
