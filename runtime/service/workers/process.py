"""Hold the service's end of one worker: its process, and the messages that it sends."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from runtime.errors import EngineError
from runtime.service.workers.worker import LARGEST_MESSAGE, Message, Models, run_worker

OPEN_S = 600.0
"""Longest wait in seconds for a worker's engines; TensorRT and OpenVINO may compile them first."""
END_S = 5.0
"""Seconds that a process which was killed may take to go."""


def _finished() -> Future[None]:
    done: Future[None] = Future()
    done.set_result(None)
    return done


class WorkerProcess:
    """Holds one worker; for the event loop's thread.

    What is sent goes through a thread, in order: a worker in a long call reads nothing, and a full line would stop the
    event loop, and with it all clients.
    """

    def __init__(self, models: Models, memory: int) -> None:
        """Start the process, whose engines are open once `opened` returns."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=run_worker, args=(theirs, models, memory), name="afsd-worker", daemon=True
        )
        self._process.start()
        theirs.close()
        self._loop = asyncio.get_running_loop()
        self.messages: asyncio.Queue[Message | None] = asyncio.Queue()
        """What the worker says; None: it is gone."""
        self._thread = threading.Thread(target=self._read, name="afsd-worker-messages", daemon=True)
        self._thread.start()
        self._sender = ThreadPoolExecutor(1, "afsd-worker-sender")

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid or 0

    @property
    def gone(self) -> bool:
        """Whether the process has ended."""
        return not self._process.is_alive()

    async def opened(self) -> Message:
        """Wait until the engines are open and return what the worker tells of the model.

        Raises:
            EngineError: they cannot be opened; the process is gone.
        """
        message: Message | None = None
        reason = f"the engine is not open after {OPEN_S:g} s"
        with suppress(TimeoutError):
            async with asyncio.timeout(OPEN_S):
                message = await self.messages.get()
                if message is not None and message["event"] == "ready":
                    return message
                reason = f"the worker ended while it opened the engine ({await self.fate()})"
        await self.close()
        raise EngineError(message["reason"] if message else reason)

    def send(self, do: str, **data: Any) -> None:
        """Send a message, without waiting for it; one to a worker that is gone is lost, which `messages` say."""
        self._send(json.dumps({"do": do, **data}).encode())

    async def send_data(self, data: bytes) -> None:
        """Send bytes to a live input, and wait until they are on the line, of which the worker reads as it needs."""
        self.send("data")
        await asyncio.wrap_future(self._send(data))

    def _send(self, content: bytes) -> Future[None]:
        try:
            return self._sender.submit(self._write, content)
        except RuntimeError:  # closed
            return _finished()

    def _write(self, content: bytes) -> None:
        with suppress(OSError, ValueError):
            self._connection.send_bytes(content)

    async def fate(self) -> str:
        """Say how the process ended."""
        await asyncio.to_thread(self._process.join, END_S)
        code = self._process.exitcode
        return "it hangs" if code is None else f"signal {-code}" if code < 0 else f"exit status {code}"

    def kill(self) -> None:
        """End the process at once."""
        with suppress(OSError, ValueError):
            self._process.kill()

    async def close(self) -> None:
        """End the process and release what it has here."""
        self.kill()
        await asyncio.to_thread(self._process.join, END_S)
        await asyncio.to_thread(self._thread.join, END_S)
        self._sender.shutdown(wait=False)
        with suppress(OSError):
            self._connection.close()

    def _read(self) -> None:
        """Hand the messages to the event loop (the thread's body)."""
        with suppress(EOFError, OSError, ValueError, RuntimeError):  # RuntimeError: the loop is closed
            while True:
                message = json.loads(self._connection.recv_bytes(LARGEST_MESSAGE))
                self._loop.call_soon_threadsafe(self.messages.put_nowait, message)
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.messages.put_nowait, None)
