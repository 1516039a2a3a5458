"""Exchange the names of two files or folders in one step, where the system can."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

AT_FDCWD = -100
"""Linux's number for "paths count from the working folder"."""
RENAME_EXCHANGE = 2
"""Flag of Linux's call `renameat2`."""
_UNABLE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM)
"""Errors of a kernel, a file system or a container that has no such call."""


def exchange(one: Path, other: Path) -> bool:
    """Exchange two paths of one file system: each gets what the other was, and at no moment is either missing.

    Returns:
        False where the system or the file system cannot; nothing is changed then.

    Raises:
        OSError: one of them is missing, or the folder cannot be written to.
    """
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:  # a C library without it
        return False
    rename.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNABLE:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))
