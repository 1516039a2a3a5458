"""Write files atomically, and read and write JSON with one-line errors.

To be written atomically, a file gets a temporary name in its folder and is then renamed.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

from runtime.common import limits
from runtime.common.temporaries import sweep, temporary_file
from runtime.common.text import one_line, public_url, quote
from runtime.errors import AfsdError, InputError

PathLike = str | os.PathLike[str]

TRIAL_BYTES = 4096
"""Bytes that a folder for results must take before the work begins."""
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_digests: ContextVar[dict[Path, str] | None] = ContextVar("afsd_written_digests", default=None)
_URL = re.compile("[A-Za-z][A-Za-z0-9+.-]+:/")
"""Beginning of a URL, also as a path has it, in which two slashes are one."""
GZIP = b"\x1f\x8b"
"""First bytes of a gzip file."""


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, else remove it.

    The temporary name is never longer than a final one of more than 16 characters. Missing parent folders are made. An
    older file at `path` stays whole until the rename, and after it the new one is on the disk: file and folder are
    synchronised with it. What dead processes left in the folder is swept by `require_writable_folder`.

    Raises:
        OSError: the folder cannot be made, the file cannot be written or renamed.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        target.lstat()  # raises for a name that is too long, before the file is written
    with temporary_file(target.parent, target.suffix) as temporary:
        try:
            yield temporary
            synchronise(temporary)
            if (digests := _digests.get()) is not None:  # afterwards it may be another process's
                digests[target] = file_sha256(temporary)
            temporary.replace(target)
            synchronise(target.parent)
        except OSError as error:
            if error.filename in (None, str(temporary)):  # a full disk names no file
                error.filename = str(target)
            raise


@contextmanager
def written_digests() -> Iterator[dict[Path, str]]:
    """Collect the SHA-256 of each file that `atomic_path` writes in the block, as it was before it had its name.

    A file that is read after it was written may be another process's that wrote it, too.
    """
    digests: dict[Path, str] = {}
    token = _digests.set(digests)
    try:
        yield digests
    finally:
        _digests.reset(token)


def synchronise(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk; a system without that does nothing.

    Raises:
        OSError: the file cannot be written, as on a full network drive.
    """
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot
            raise
    finally:
        os.close(descriptor)


def require_writable_folder(folder: PathLike, advice: str = "choose another folder") -> None:
    """Make an output folder, check that a file can be written there, and sweep what dead processes left in it.

    Call it before the work whose results will lie there.

    Raises:
        InputError: the path is a file or a URL, or the folder cannot be made or written to, or its disk is full.
    """
    place = Path(folder)
    if _URL.match(str(place)):
        raise InputError(
            f"{public_url(str(folder))}: got a URL, expected a folder of this machine (afsd detect alone writes into "
            f"object stores); {advice}"
        )
    try:
        place.mkdir(parents=True, exist_ok=True)
        with temporary_file(place) as trial:
            trial.write_bytes(bytes(TRIAL_BYTES))
            synchronise(trial)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{place}: got a file where a folder is needed for the results; {advice}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(f"{place}: the results cannot be written there ({reason}); {advice}") from None
    sweep(place)


def write_text(path: PathLike, text: str) -> None:
    """Write text atomically, as UTF-8, with the same bytes on every system.

    Bytes of a file's name that are no text become escapes such as \\udcff, from which JSON gives the name back.
    """
    with atomic_path(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def read_json(path: PathLike, what: str, error: type[AfsdError]) -> Any:
    """Read a JSON file.

    Args:
        path: the file, UTF-8, packed with gzip or not.
        what: names its content in errors, as in "description of a feature set".
        error: type that is raised.

    Raises:
        AfsdError: of the type `error`: file not found, unreadable, not JSON, or a key that is there twice in an object.
    """
    try:
        return json.loads(read_text(path), object_pairs_hook=_require_unique_keys)
    except FileNotFoundError:
        raise error(f"{path}: file not found; expected a {what}") from None
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}); expected a {what}") from None
    except (ValueError, RecursionError) as problem:  # a UnicodeDecodeError too
        raise error(f"{path}: not JSON ({one_line(problem)}); expected a {what}") from None


def write_json(path: PathLike, content: object) -> None:
    """Write JSON atomically: UTF-8, letters of all alphabets as they are, a newline at the end."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def is_file(path: Path) -> bool:
    """Return whether a path is a file; of a name that is too long for the file system False, where pathlib raises."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def exists(path: Path) -> bool:
    """Return whether a path is there, also as a pipe or a device; False for a name that is too long."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; False for a name that is too long, where pathlib raises."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; a key given twice is an error, since the first one would be lost without a word."""
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"{quote(twice)} is there twice; keep one of the two")
    return content


def read_text(path: PathLike, largest: int | None = None) -> str:
    """Read a UTF-8 text without the byte order mark that Windows puts before it.

    A file of gzip, known by its first bytes whatever its name, is unpacked.

    Args:
        path: the file.
        largest: most bytes, unpacked; None: `limits.TEXT_BYTES`.

    Raises:
        OSError: it cannot be read or unpacked, is no file but a pipe or device, or is too large.
        UnicodeDecodeError: not UTF-8.
    """
    largest = limits.TEXT_BYTES if largest is None else largest
    content = read_bytes(path, largest)
    if content.startswith(GZIP):
        try:
            with gzip.open(io.BytesIO(content)) as packed:
                content = packed.read(largest + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise OSError(errno.EIO, f"a gzip file that is damaged or cut off ({error})", str(path)) from None
        _require_size(path, len(content), largest)
    return content.decode("utf-8-sig")


def read_bytes(path: PathLike, largest: int) -> bytes:
    """Read a file of at most `largest` bytes (OSError: see `open_file`; it is larger)."""
    with open_file(path) as file:
        _require_size(path, os.fstat(file.fileno()).st_size, largest)
        content = file.read(largest + 1)
    _require_size(path, len(content), largest)  # it may have grown, and files of /proc have no size
    return content


def open_file(path: PathLike) -> BinaryIO:
    """Open a file for reading; a pipe, socket or device is none, and reading it could wait or go on for ever.

    Raises:
        OSError: not found, not readable, or no file.
    """
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISREG(mode):
            number = os.open(path, _OPEN_FLAGS)
            mode = os.fstat(number).st_mode  # it may be another one by now
            file = open(number, "rb")  # noqa: PTH123, SIM115 — an open file
            if stat.S_ISREG(mode):
                return file
            file.close()
    except ValueError:  # a zero byte in the name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    raise OSError(errno.EINVAL, f"{describe_mode(mode)}, no file", str(path))


def describe_mode(mode: int) -> str:
    """Return what a path is, by `st_mode`: "a file", "a folder", "a pipe" …"""
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _require_size(path: PathLike, size: int, largest: int) -> None:
    if size > largest:
        raise OSError(errno.EFBIG, f"it holds more than {largest:,} bytes, the most that is read", str(path))


def text_suffix(path: PathLike) -> str:
    """Return the suffix that names a text's format, in small letters: ".json" of x.json and of x.json.gz."""
    path = Path(path)
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
