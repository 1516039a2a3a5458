"""Lock the records of a folder while they are read and written, since several processes may add to one folder."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from runtime.common.log import LOGGER
from runtime.common.temporaries import LOCK
from runtime.common.text import one_line
from runtime.errors import InputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PATIENCE_S = 60.0
"""Time after which a process gives up: records are written in milliseconds."""
POLL_S = 0.02
NAMING_POLLS = 5
SWEEP_S = 0.2
"""Seconds to wait in any case: a process that sweeps the folder holds the lock of a dead one for a moment."""
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
"""Errors of the system for a lock that another process holds."""

_NO_FILE = (errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO)
"""Errors of the system for opening what is a link, a folder, or a socket."""


@contextmanager
def lock_folder(folder: Path, verb: str, wait_s: float | None = None) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is missing; wait while another process holds the lock.

    The system's lock on a file ends with its process, however that ends. The file names the process, and is removed.

    Args:
        folder: the folder.
        verb: name of the command that holds the lock, for the message in another process.
        wait_s: seconds to wait for the lock; None: `PATIENCE_S`, for records, which are written in milliseconds.

    Raises:
        InputError: another process has held the lock for that time.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    file = _acquire(path, PATIENCE_S if wait_s is None else wait_s)
    try:
        file.write(f"{verb}, process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            path.unlink()
        file.close()


@contextmanager
def hold_file(file: IO[Any]) -> Iterator[None]:
    """Hold the lock of an open file while it is changed, where the system has such locks; wait for other processes."""
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
    yield  # closing the file ends the lock


def _acquire(path: Path, wait_s: float) -> IO[str]:
    """Open the lock file with the lock held."""
    patience = time.monotonic() + max(wait_s, SWEEP_S)
    while True:
        file = _open(path)
        if _try_lock(file, path) and _is_current(file, path):
            file.truncate(0)
            return file
        file.close()
        if time.monotonic() > patience:
            held = f" for more than {wait_s:g} s" if wait_s else ""
            raise InputError(f"{path.parent}: in use by {_holder(path)}{held}; wait for it, or end it")
        time.sleep(POLL_S)


def _open(path: Path) -> IO[str]:
    """Open the lock file, and nothing else that has its name: what a link leads to would be written over.

    Raises:
        InputError: a link, folder, pipe or device is there.
        OSError: the file cannot be made.
    """
    further = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    number = None
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | further, 0o666)
        if stat.S_ISREG(os.fstat(number).st_mode):
            return os.fdopen(number, "a+", encoding="utf-8")
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
    if number is not None:
        os.close(number)
    raise InputError(f"{path}: no file, where the lock of the folder is to be; remove it")


def _try_lock(file: IO[str], path: Path) -> bool:
    try:
        if sys.platform == "win32":
            file.seek(0x7FFFFFFF)  # beyond the text, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        _warn_unlocked(path.parent, error.strerror)
    return True


def _is_current(file: IO[str], path: Path) -> bool:
    """Return whether the file has still its name: the process before may have removed it since it was opened."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """Return what the lock file says of its process, which writes it just after it has the lock."""
    for _ in range(NAMING_POLLS):
        with suppress(OSError, ValueError):
            if text := path.read_text(encoding="utf-8"):
                return one_line(text)
        time.sleep(POLL_S)
    return "another process"


@lru_cache
def _warn_unlocked(folder: Path, reason: str) -> None:
    LOGGER.warning(f"{folder}: the file system has no locks ({reason}); let one process at a time write there")
