"""Keep the events of a job, and let any number of clients follow them from any point on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

MOST_EVENTS = 20_000
"""Most events of a job; detections beyond them are in its result alone."""
HEARTBEAT_S = 15.0
"""Seconds of silence after which a client is sent a comment, so that nothing between closes the connection."""


@dataclass(frozen=True)
class Event:
    """Holds one event; those of progress have no number, since only the latest counts."""

    kind: str
    data: dict[str, Any]
    number: int | None = None

    def to_sse(self) -> str:
        """Return the event in the form of server-sent events."""
        mark = "" if self.number is None else f"id: {self.number}\n"
        return f"{mark}event: {self.kind}\ndata: {json.dumps(self.data)}\n\n"


class EventLog:
    """Holds the numbered events of a job in order, and its latest progress; used by the event loop's thread alone."""

    def __init__(self) -> None:
        self._entries: list[Event] = []
        self._forgotten = 0
        self.progress: Event | None = None
        self.closed = False
        """Whether the last event is there."""
        self._changed = asyncio.Event()

    def add(self, kind: str, data: dict[str, Any], last: bool = False) -> None:
        """Append an event; `last`: none follows."""
        if self.closed or (len(self._entries) >= MOST_EVENTS and not last):
            return
        self._entries.append(Event(kind, data, len(self._entries) + 1))
        self.closed = last
        self._wake()

    def show(self, data: dict[str, Any]) -> None:
        """Replace the progress."""
        self.progress = Event("progress", data)
        self._wake()

    def forget(self) -> None:
        """Forget all events of a job that has ended, but the last."""
        if self.closed:
            self._forgotten += len(self._entries) - 1
            del self._entries[:-1]

    async def follow(self, after: int = 0) -> AsyncIterator[Event | None]:
        """Yield the events behind number `after` and those to come, until the last; None after a silence."""
        shown: Event | None = None
        while True:
            changed = self._changed
            while after < self._forgotten + len(self._entries):
                after = max(after, self._forgotten) + 1
                yield self._entries[after - self._forgotten - 1]
            if self.closed:
                return
            if self.progress is not shown and self.progress is not None:
                shown = self.progress
                yield shown
                continue
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await changed.wait()
            except TimeoutError:
                yield None

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
