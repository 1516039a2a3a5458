"""Take live input: frames by WebSocket, or a container by a request whose body has no end yet."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from runtime.common import limits
from runtime.common.mappings import to_mapping
from runtime.common.ranges import FramesPerSecond, Pixels, Seconds, require_in_range
from runtime.common.text import quote
from runtime.errors import InputError
from runtime.service.intake.names import shown_name
from runtime.service.intake.receiving import read_in_time
from runtime.service.job_options import JobOptions, read_options, read_words
from runtime.service.options import ServiceOptions
from runtime.service.refusals import RefusedError
from runtime.service.workers.pool import STOP_S, Pool
from runtime.service.workers.process import WorkerProcess
from runtime.service.workers.worker import Message

CONTAINER = "container"
FORMATS = ("rgb24", "jpeg", "png")
"""Formats of a WebSocket's messages."""
OWN = frozenset({"format", "width", "height", "fps", "settle_s", "name"})
"""Keys of the first message that are no options of detection."""
MOST_TEXT = 64 * 1024
"""Most letters of a message of text; JSON of 32 MiB would take a gigabyte, and the event loop for seconds."""
HANG_S = 60.0
"""Longest time for which a worker that has something to do may neither take a frame nor say anything; then it hangs."""
LOOK_S = 0.5
"""Seconds between two looks whether a worker hangs."""
MOST_UNREAD = 256
"""Most events that wait for a client to read them."""
CLOSED_WELL, CLOSED_RESTART, CLOSED_REFUSED, CLOSED_FAILED = 1000, 1012, 1008, 1011
"""Codes with which a WebSocket is closed (RFC 6455, section 7.4; RFC 6455's registry)."""

Say = Callable[[Message], Awaitable[None]]
Gone = Callable[[], Awaitable[object]]
"""Function that returns once the client of an input is gone; called when all of its frames have come."""


class LinesResponse(Response):  # type: ignore[misc]  # the library has no types here
    """Answers with lines as they come, while the body of the request is still read by others."""

    media_type = "application/x-ndjson"

    def __init__(self, lines: AsyncGenerator[str], patience: float) -> None:
        """Take the lines, and the seconds for which a client may not read."""
        super().__init__(headers={"Connection": "close"})
        self._lines, self._patience = lines, patience
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines (ClientDisconnect: the client reads nothing)."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._lines):
            async for line in self._lines:
                try:
                    async with asyncio.timeout(self._patience):
                        await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
                except TimeoutError:
                    raise ClientDisconnect from None
        await send({"type": "http.response.body", "body": b""})


class _Debt:
    """Watches that a worker which owes something, since it has frames or was asked to end, takes or says something."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._longest, self._last = HANG_S, False

    def begin(self, longest: float | None = None) -> None:
        """Note that the worker owes something now; with `longest`, an end within so many seconds, whatever it says."""
        self._since, self._last = time.monotonic(), longest is not None
        self._longest = HANG_S if longest is None else longest

    def pay(self) -> None:
        """Note that the worker owes nothing."""
        if not self._last:
            self._since = None

    def note(self) -> None:
        """Note that the worker has said something."""
        if self._since is not None and not self._last:
            self._since = time.monotonic()

    @property
    def is_overdue(self) -> bool:
        """Whether the worker hangs."""
        return self._since is not None and time.monotonic() - self._since > self._longest


class LiveInputs:
    """Holds the live inputs that are open."""

    def __init__(self, pool: Pool, options: ServiceOptions) -> None:
        """Take the pool whose workers run them."""
        self._pool, self._options = pool, options
        self.stopping = asyncio.Event()
        """Set when the service stops: inputs end where they are."""

    async def serve_socket(self, socket: WebSocket) -> None:
        """Serve one WebSocket to its end."""
        await socket.accept()

        async def say(message: Message) -> None:
            with suppress(WebSocketDisconnect, RuntimeError):  # of a client that is gone, as the next frame shows
                async with asyncio.timeout(self._options.patience):  # one that reads nothing is given up
                    await socket.send_text(json.dumps(message))

        async def gone() -> None:
            while (await socket.receive())["type"] != "websocket.disconnect":
                pass

        code = CLOSED_WELL
        try:
            task = self._read_hello(await self._first(socket))
            worker = await self._pool.take_live()
            code = await self._run(worker, task, self._messages(socket, task["format"]), say, gone)
        except RefusedError as refusal:
            code = CLOSED_REFUSED
            await say({"event": "refused", "status": refusal.status, "reason": refusal.reason})
        except (WebSocketDisconnect, TimeoutError):
            return
        with suppress(WebSocketDisconnect, RuntimeError):
            await socket.close(code)

    async def serve_body(self, request: Request) -> Response:
        """Serve a container in the body of a request; the answer has an event in each line while the body comes."""
        values = dict(request.query_params)
        own: dict[str, str] = {name: values.pop(name) for name in OWN & values.keys()}
        try:
            options = read_words(values, OWN)
            numbers: dict[str, float] = {name: float(own[name]) for name in ("fps", "settle_s") if name in own}
            check_rates(numbers)
        except ValueError as error:
            raise RefusedError(400, str(error)) from None
        task = self._task(options, numbers) | {"format": CONTAINER, "name": shown_name(own.get("name", "live"))}
        worker = await self._pool.take_live()
        said: asyncio.Queue[Message | None] = asyncio.Queue(MOST_UNREAD)

        async def run() -> None:
            try:
                await self._run(worker, task, self._pieces(request), said.put, request.receive)
            except Exception:  # which `lines` raises again
                await said.put(None)
                raise
            await said.put(None)

        async def lines() -> AsyncGenerator[str]:
            running = asyncio.create_task(run())
            try:
                while (message := await said.get()) is not None:
                    yield json.dumps(message) + "\n"
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running

        return LinesResponse(lines(), self._options.patience)

    def _task(self, options: JobOptions, numbers: dict[str, float]) -> Message:
        score = self._options.score if options.score is None else options.score
        return {
            "score": self._pool.model["threshold"] if score is None else score,
            "options": to_mapping(options),
            "fps": numbers.get("fps"),
            "settle_s": numbers.get("settle_s"),
            "max_seconds": None,
        }

    async def _first(self, socket: WebSocket) -> object:
        """Return the first message of a WebSocket (RefusedError: it is no JSON, or does not come)."""
        try:
            async with asyncio.timeout(self._options.patience):
                text = await socket.receive_text()
            if len(text) > MOST_TEXT:
                raise RefusedError(413, f"the first message is longer than {MOST_TEXT:,} letters")
            return json.loads(text)
        except TimeoutError:
            raise RefusedError(408, f"no first message in {self._options.patience:g} s") from None
        except (KeyError, ValueError, RecursionError):
            raise RefusedError(
                400, 'the first message is no JSON text; send {"format", "width", "height", "fps"}'
            ) from None

    def _read_hello(self, hello: object) -> Message:
        """Return the task that the first message describes (RefusedError: it is none)."""
        if not isinstance(hello, dict):
            raise RefusedError(400, "the first message: expected an object with format, width, height and fps")
        own = {name: hello[name] for name in OWN & hello.keys()}
        try:
            options = read_options({name: value for name, value in hello.items() if name not in OWN}, OWN)
            if own.get("format") not in FORMATS:
                raise InputError(f"format: got {quote(own.get('format'))}, expected one of {', '.join(FORMATS)}")
            for side in ("width", "height"):
                require_in_range(side, own.get(side), Pixels)
            check_rates(own)
        except ValueError as error:
            raise RefusedError(400, str(error)) from None
        if own["width"] * own["height"] > limits.IMAGE_PIXELS:
            raise RefusedError(400, f"width, height: expected at most {limits.IMAGE_PIXELS:,} pixels in all")
        if own["format"] == "rgb24" and own["width"] * own["height"] * 3 > self._options.max_message:
            raise RefusedError(
                413, f"one frame is larger than {self._options.max_message:,} bytes; send smaller ones, or JPEG"
            )
        return self._task(options, own) | {name: own[name] for name in ("format", "width", "height")} | {"name": "live"}

    async def _messages(self, socket: WebSocket, form: str) -> AsyncIterator[bytes]:
        """Yield the frames of a WebSocket until it says that this is the end.

        Raises:
            RefusedError: another message, or none for too long.
            WebSocketDisconnect: it is gone.
        """
        while True:
            try:
                async with asyncio.timeout(self._options.patience):
                    message = await socket.receive()
            except TimeoutError:
                raise RefusedError(408, f"no message in {self._options.patience:g} s") from None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1006))
            data = message.get("bytes")
            if data is None:
                if _is_end(message.get("text")):
                    return
                raise RefusedError(400, 'expected bytes of frames, or the text {"event": "end"}')
            yield data

    async def _pieces(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the body of a request; a live one may be slow, but not silent."""
        async for data in read_in_time(request, self._options, slowest=0):
            yield data

    async def _run(
        self, worker: WorkerProcess, task: Message, frames: AsyncIterator[bytes], say: Say, gone: Gone
    ) -> int:
        """Run a live input and return the code with which a WebSocket is closed."""
        usable, code, debt = False, CLOSED_FAILED, _Debt()
        feeding: asyncio.Task[str] | None = None
        watching: asyncio.Task[None] | None = None
        try:
            while not worker.messages.empty():
                worker.messages.get_nowait()
            worker.send("live", **task)
            model = self._pool.model
            await say(
                {"event": "ready", "model": model["model"], "classes": model["classes"], "score": task["score"],
                 "window_s": model["window_s"]}
            )  # fmt: skip
            feeding = asyncio.create_task(self._feed(worker, frames, debt))
            watching = asyncio.create_task(_see_off(feeding, gone, debt))
            while True:
                message = await _hear(worker, debt)
                if message is None:
                    await say({"event": "failed", "reason": await self._why_gone(worker, feeding, debt)})
                    break
                kind = message["event"]
                if kind == "broken":
                    feeding.cancel()
                    continue
                if kind == "cancelled":
                    usable = True
                    reason = await feeding
                    if reason:
                        await say({"event": "failed", "reason": reason})
                    break
                if kind == "ended":
                    usable, code = True, CLOSED_RESTART if self.stopping.is_set() else CLOSED_WELL
                    self._pool.video_seconds += message["video_seconds"]
                    await say(message | ({"reason": "the service is stopping"} if self.stopping.is_set() else {}))
                    break
                await say({key: value for key, value in message.items() if key != "spent"})
                if kind == "failed":
                    usable = not message.get("spent")
                    break
            return code
        finally:
            for task_ in (watching, feeding):
                if task_ is not None and not task_.done():
                    task_.cancel()
            if not usable:
                worker.kill()
            await asyncio.gather(*(one for one in (watching, feeding) if one is not None), return_exceptions=True)
            await asyncio.shield(self._pool.give_live(worker, usable))

    async def _why_gone(self, worker: WorkerProcess, feeding: asyncio.Task[str], debt: _Debt) -> str:
        """Return why an input ended whose worker is gone."""
        if feeding.done() and not feeding.cancelled() and (reason := await feeding):
            return reason
        if debt.is_overdue:
            return f"the decoder or the engine hangs: nothing came of it in {HANG_S:g} s"
        return f"the decoder or the engine crashed ({await worker.fate()})"

    async def _feed(self, worker: WorkerProcess, frames: AsyncIterator[bytes], debt: _Debt) -> str:
        """Hand frames to the worker as fast as it takes them, and then the end of them.

        Returns the reason for which the input was given up; empty: it ended well.
        """
        stopping = asyncio.create_task(self.stopping.wait())
        reason, last = "", "end"
        try:
            while True:
                coming = asyncio.ensure_future(anext(frames, None))
                await asyncio.wait({coming, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
                    break
                if (data := coming.result()) is None:
                    break
                debt.begin()
                await asyncio.shield(worker.send_data(data))
                debt.pay()
        except RefusedError as refusal:
            reason, last = refusal.reason, "cancel"
        except (WebSocketDisconnect, ClientDisconnect):
            reason, last = "the client is gone", "cancel"
        finally:
            stopping.cancel()
            worker.send(last)  # behind what is still on its way
            debt.begin(None if last == "end" else STOP_S)
        return reason


async def _hear(worker: WorkerProcess, debt: _Debt) -> Message | None:
    """Wait for the next message of a worker; None: it is gone, or hung and was ended."""
    while True:
        try:
            async with asyncio.timeout(LOOK_S):
                message = await worker.messages.get()
        except TimeoutError:
            if debt.is_overdue:
                worker.kill()
        else:
            if message is not None:
                debt.note()
            return message


async def _see_off(feeding: asyncio.Task[str], gone: Gone, debt: _Debt) -> None:
    """Notice that a client goes away whose frames have all come: nobody wants what is still found in them."""
    if not await feeding:
        await gone()
        debt.begin(STOP_S)


def _is_end(text: object) -> bool:
    try:
        said: Any = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("event") == "end"


def check_rates(values: dict[str, Any]) -> None:
    """Check the rates among a client's values (InputError: one is out of its range)."""
    require_in_range("fps", values.get("fps"), FramesPerSecond | None)
    require_in_range("settle_s", values.get("settle_s"), Seconds | None)
