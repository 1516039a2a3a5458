"""Make temporary files and folders that are known for what they are, and sweep those whose process is dead.

A temporary is locked while its process writes it. The system ends the lock with the process, also in another container,
so what can be locked belongs to nobody. Where the file system has no locks, age decides.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
TOKEN = 5
"""Random letters in a temporary name; a name that is taken is drawn again."""
LONGEST_FORMAT = 5
"""Characters of the longest suffix that a temporary name keeps (.json, .onnx), since some writers choose the format by
it. With it the name has 16 characters at most: no file system that takes the final name refuses the temporary one."""
NAME = re.compile(rf"\.afsd-[{LETTERS}]{{{TOKEN}}}(\.\w{{1,{LONGEST_FORMAT - 1}}})?", re.ASCII)
"""Form of all temporary names."""
LOCK = ".lock"
"""Name of a folder's lock file."""
LOCK_MARK = b"afsd "
"""First bytes of a lock file, which names the command that holds it."""
ABANDONED_S = 86400.0
"""Age in seconds from which a temporary without a lock is taken for a dead process's, where there are no locks."""
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@contextmanager
def temporary_file(folder: Path, suffix: str = "") -> Iterator[Path]:
    """Yield the path of a new empty file in a folder; when the block ends, the file is removed if it is still there.

    Args:
        folder: an existing folder.
        suffix: kept if it has at most `LONGEST_FORMAT` characters.

    Raises:
        OSError: the folder cannot be written to.
    """
    suffix = suffix if NAME.fullmatch(f".afsd-{LETTERS[:TOKEN]}{suffix}") else ""
    path, held = _make(folder, suffix, lambda path: os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()
        if held is not None:
            os.close(held)


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder in `parent` (None: the system's folder for temporary files), removed when the block ends.

    What dead processes left in `parent` is swept first.

    Raises:
        OSError: `parent` cannot be written to.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    place.mkdir(parents=True, exist_ok=True)
    sweep(place)
    path, held = _make(place, "", _make_folder)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if held is not None:
            os.close(held)


def sweep(folder: Path) -> None:
    """Remove the temporaries in a folder that dead processes left there, and their lock; others' are not touched."""
    try:
        entries = [entry for entry in os.scandir(folder) if NAME.fullmatch(entry.name) or _is_our_lock(entry)]
    except OSError:
        return
    for entry in entries:
        with suppress(OSError):  # of another user, or gone by now
            _sweep_one(Path(entry.path), entry.stat(follow_symlinks=False))


def held_by_others(folder: Path, suffix: str) -> list[Path]:
    """Return the temporaries of a suffix in a folder that living processes hold, those of this process too.

    Where the file system has no locks, and on Windows, nobody knows of any.
    """
    try:
        paths = [Path(entry.path) for entry in os.scandir(folder) if NAME.fullmatch(entry.name)]
    except OSError:
        return []
    return sorted(path for path in paths if path.suffix == suffix and _is_held(path))


def _is_held(path: Path) -> bool:
    if sys.platform != "win32":
        with suppress(OSError):  # gone by now
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                return stat.S_ISREG(os.fstat(descriptor).st_mode) and _try_lock(descriptor) is False
            finally:
                os.close(descriptor)
    return False


def _is_our_lock(entry: os.DirEntry[str]) -> bool:
    """Return whether a file is a folder's lock that names a command of this project as its holder."""
    if entry.name != LOCK or not entry.is_file(follow_symlinks=False):
        return False
    with suppress(OSError), open(entry.path, "rb") as file:  # noqa: PTH123 — a path as text
        return file.read(len(LOCK_MARK)) == LOCK_MARK
    return False


def _make(folder: Path, suffix: str, create: Callable[[Path], int]) -> tuple[Path, int | None]:
    """Create a temporary under a new name and lock it; return its path and the descriptor that holds the lock.

    On Windows it is not held, since an open file cannot be renamed there.
    """
    while True:
        token = "".join(secrets.choice(LETTERS) for _ in range(TOKEN))
        path = folder / f".afsd-{token}{suffix}"
        try:
            held = create(path)
        except FileExistsError:
            continue
        if sys.platform == "win32":
            os.close(held)
            return path, None
        if _try_lock(held) is not False and _is_current(held, path):
            return path, held
        os.close(held)  # swept between its creation and its lock


def _make_folder(path: Path) -> int:
    path.mkdir(mode=0o700)
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # swept already
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
    except PermissionError:  # Windows opens no folders
        return os.open(os.devnull, os.O_RDONLY)


def _sweep_one(path: Path, state: os.stat_result) -> None:
    is_folder = stat.S_ISDIR(state.st_mode)
    if not is_folder and not stat.S_ISREG(state.st_mode):
        return
    if sys.platform == "win32":
        locked = None
    else:
        held = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            locked = _try_lock(held)
            if locked and _is_current(held, path):
                _remove(path, is_folder)
        finally:
            os.close(held)
    if locked is None and time.time() - state.st_mtime > ABANDONED_S:
        _remove(path, is_folder)


def _remove(path: Path, is_folder: bool) -> None:
    if is_folder:
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def _try_lock(descriptor: int) -> bool | None:
    """Lock a file or folder and return True; False if another process holds it, None if there are no locks here."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


def _is_current(descriptor: int, path: Path) -> bool:
    """Return whether an open file has still its name: another process may have removed it since it was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
