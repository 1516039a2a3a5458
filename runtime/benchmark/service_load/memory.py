"""Watch the memory of the service and of its workers."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from runtime.service.metrics import resident


class Memory(threading.Thread):
    """Watches the resident memory of a process and of its children."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.stopped = threading.Event()
        self.peak = (0, 0)
        """Most bytes of the service, and of its workers."""

    def now(self) -> tuple[int, int]:
        """Return the bytes of the service, and of its workers."""
        children = Path(f"/proc/{self._pid}/task").glob("*/children")
        pids = [int(word) for path in children for word in path.read_text(encoding="ascii").split()]
        return resident(self._pid), sum(map(resident, pids))

    def run(self) -> None:
        """Watch (the thread's body)."""
        while not self.stopped.wait(0.1):
            with suppress(OSError):
                own, workers = self.now()
                self.peak = max(self.peak[0], own), max(self.peak[1], workers)
