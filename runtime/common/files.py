"""Files appear whole or not at all, written under a temporary name and renamed; texts are read packed or not."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, it is renamed to `path`, else removed.

    The temporary name keeps the suffix, since some writers choose the format by it. Missing parent folders are
    made. An older file at `path` stays untouched until the rename.

    Raises:
        OSError: the folder cannot be made, or the file cannot be renamed.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}-{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


PathLike = str | os.PathLike[str]


def read_text(path: PathLike) -> str:
    """Read a UTF-8 text; a file of gzip, known by its first bytes whatever its name, is unpacked.

    Raises:
        OSError: it cannot be read or unpacked.
        UnicodeDecodeError: not UTF-8.
    """
    content = Path(path).read_bytes()
    if content.startswith(GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise OSError(errno.EIO, f"a gzip file that is damaged or cut off ({error})", str(path)) from None
    return content.decode("utf-8")


GZIP = b"\x1f\x8b"
"""First bytes of a file of gzip."""


def text_suffix(path: PathLike) -> str:
    """Return the suffix that names a text's format, in small letters: ".json" of x.json and of x.json.gz."""
    path = Path(path)
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
