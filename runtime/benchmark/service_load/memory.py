"""Watch the memory of the service and of its workers."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from runtime.benchmark.service_load.judging import Usage
from runtime.service.metrics import resident


class Memory(threading.Thread):
    """Watches the resident memory of a process and of its children."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.stopped = threading.Event()
        self.peak = Usage(0, 0)
        """Most of the service, and most of its workers."""

    def now(self) -> Usage:
        """Return the memory as it stands."""
        children = Path(f"/proc/{self._pid}/task").glob("*/children")
        pids = [int(word) for path in children for word in path.read_text(encoding="ascii").split()]
        return Usage(resident(self._pid), sum(map(resident, pids)))

    def run(self) -> None:
        """Watch (the thread's body)."""
        while not self.stopped.wait(0.1):
            with suppress(OSError):
                now = self.now()
                self.peak = Usage(max(self.peak.service, now.service), max(self.peak.workers, now.workers))
