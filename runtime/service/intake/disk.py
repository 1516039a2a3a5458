"""Count the bytes that jobs keep on the disk, and refuse those beyond the limit."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from runtime.service.options import MIB
from runtime.service.refusals import RefusedError

RESERVE = 256 * MIB
"""Bytes of the disk that are left to others."""


class DiskBudget:
    """Counts bytes against a limit; safe to use from several threads."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Take the folder of the files and the most bytes in it."""
        self._disk, self.limit, self._lock = folder.parent, limit, threading.Lock()
        self.used = 0
        """Bytes that are counted."""

    def take(self, count: int) -> None:
        """Count so many bytes more.

        Raises:
            RefusedError: they are too many, with status 507; none is counted.
        """
        with self._lock:
            if self.used + count > self.limit:
                raise full()
            self.used += count

    def add(self, count: int) -> None:
        """Count so many bytes more that are there already, beyond the limit, too."""
        with self._lock:
            self.used += count

    def give(self, count: int) -> None:
        """Count so many bytes less."""
        with self._lock:
            self.used -= count

    def require_free(self, count: int) -> None:
        """Check that the disk itself has room for so many bytes (RefusedError: it has not)."""
        if shutil.disk_usage(self._disk).free < count + RESERVE:
            raise full()


def full() -> RefusedError:
    """Return the refusal of a request for which there is no room."""
    return RefusedError(
        507, "the service has no room for more videos; delete jobs that are done, or wait until they expire"
    )
