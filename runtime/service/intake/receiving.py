"""Receive a video in the body of a request: into a file, within limits of size, time and disk."""

from __future__ import annotations

import asyncio
import errno
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from starlette.requests import Request

from runtime.service.intake.disk import full
from runtime.service.jobs import Job, JobStore
from runtime.service.options import MIB, ServiceOptions
from runtime.service.refusals import RefusedError

SLOWEST = 16 * 1024
"""Bytes per second below which a sender is given up."""
BUFFERED = MIB
"""Bytes that are written at a time."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class VideoFile:
    """Writes the video of a job as it comes in, and counts its bytes; a context manager."""

    def __init__(self, path: Path, job: Job, store: JobStore, largest: int) -> None:
        """Make the file (OSError: it cannot be made)."""
        self._file: BinaryIO = path.open("xb")
        self._job, self._store, self._largest = job, store, largest
        self._buffer = bytearray()
        self.size = 0
        """Bytes so far."""

    async def write(self, data: bytes) -> None:
        """Append data (RefusedError: the video is too large, the disk is full, or the service stops)."""
        if self._job.stopping:
            raise RefusedError(503, self._job.stopping, {"Retry-After": "30"})
        self.count(len(data))
        self._buffer += data
        if len(self._buffer) >= BUFFERED:
            await self.flush()

    def count(self, count: int) -> None:
        """Count bytes that are to be written (RefusedError: they are too many)."""
        self.size += count
        if self.size > self._largest:
            raise too_large(self._largest)
        self._store.disk.take(count)
        self._job.bytes += count

    async def flush(self) -> None:
        """Write what is buffered (RefusedError: the disk is full, also by others)."""
        content, self._buffer = bytes(self._buffer), bytearray()
        self._store.disk.require_free(len(content))
        try:
            await asyncio.to_thread(self._file.write, content)
            await asyncio.to_thread(self._file.flush)
        except OSError as error:
            if error.errno in _FULL:
                raise full() from None
            raise

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def too_large(largest: int) -> RefusedError:
    """Return the refusal of a video that is too large."""
    return RefusedError(
        413, f"the video is larger than {largest / MIB:,.0f} MiB, the most that this service takes; cut it"
    )


def require_length(request: Request, largest: int, store: JobStore) -> None:
    """Check the length that a request declares, before anything is read (RefusedError: too large)."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdecimal():
        length = int(declared)
        if length > largest:
            raise too_large(largest)
        store.disk.require_free(length)
        if store.disk.used + length > store.disk.limit:
            raise full()


async def read_in_time(request: Request, options: ServiceOptions, slowest: int = SLOWEST) -> AsyncIterator[bytes]:
    """Yield the body of a request as it comes.

    Args:
        request: the request.
        options: have the longest silence and the longest time.
        slowest: least bytes per second on the whole; 0: any, for any time, as of a live input.

    Raises:
        RefusedError: the sender is silent for too long, or too slow.
        ClientDisconnect: it is gone.
    """
    loop = asyncio.get_running_loop()
    begun, received = loop.time(), 0
    body = request.stream()
    while True:
        allowed = min(options.patience + received / slowest, options.max_receive) if slowest else math.inf
        try:
            async with asyncio.timeout_at(min(begun + allowed, loop.time() + options.patience)):
                data = await anext(body, None)
        except TimeoutError:
            rate = f", {slowest:,} bytes per second, and the whole in {options.max_receive:g} s" if slowest else ""
            raise RefusedError(
                408,
                f"{received:,} bytes came in {loop.time() - begun:.0f} s, expected no silence of {options.patience:g} s"
                f"{rate}; send it again",
            ) from None
        if data is None:
            return
        received += len(data)
        if data:
            yield data


async def read_small(request: Request, options: ServiceOptions, largest: int) -> bytes:
    """Return a small body whole; errors as `read_in_time`, and RefusedError for one that is too large."""
    content = bytearray()
    async for data in read_in_time(request, options):
        content += data
        if len(content) > largest:
            raise RefusedError(413, f"the request is larger than {largest:,} bytes")
    return bytes(content)
