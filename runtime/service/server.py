"""Run the service: bind, open the workers, answer until it is stopped, and end without losing a word."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from runtime.common.temporaries import scratch_folder
from runtime.common.text import counted, one_line
from runtime.errors import EngineError, InputError
from runtime.service.admission import HEADER_BYTES, MOST_CONNECTIONS
from runtime.service.jobs import WAITING, Job, JobStore
from runtime.service.options import ServiceOptions
from runtime.service.routes import Routes
from runtime.service.workers.pool import STOP_S, Pool
from runtime.service.workers.worker import Message, Models

HEADER_S = 10.0
"""Seconds in which the headers of a request must come, and the rest of a body that nobody reads."""
KEEP_ALIVE_S = 15
"""Seconds for which an idle connection is kept."""
SPARE_CONNECTIONS = 64
"""Connections beyond those of clients, for who watches the service; those beyond them are closed unseen."""
EXPIRE_EVERY_S = 1.0
"""Seconds between two looks for jobs that have expired."""
READ_S = 5.0
"""Longest wait of a stopping service for clients to see how their jobs ended."""
LOOKS = 8
"""Looks at a connection in the time for which its client may not read."""
UNSENT_BYTES = 1 << 17
"""Bytes that the system keeps to be sent: of more, one would not see for long that a slow client reads."""
MOST_PIECES = 4096
"""Most pieces of a message of a WebSocket."""
POLL_S = 0.05
LAST_ANSWERS_S = 3
"""Seconds that the last answers may take."""


class TimedProtocol(H11Protocol):  # type: ignore[misc]  # the library has no types here
    """Speaks HTTP/1.1, and ends connections whose headers do not come and those whose clients read no answers."""

    def __init__(self, *arguments: Any, options: ServiceOptions, **more: Any) -> None:
        """Take the options, which have the longest silence of a client."""
        super().__init__(*arguments, **more)
        self._options = options
        self._waiting: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._unread_since: float | None = None

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS + SPARE_CONNECTIONS:
            transport.abort()
            return
        self._look()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # a body that is no HTTP any more, of which the answer has begun
            self.transport.abort()
            return
        self._watch()

    def on_response_complete(self) -> None:
        """See `H11Protocol`; a body that goes on behind its answer, as of a GET, gets a time, too."""
        super().on_response_complete()
        if self._is_unread:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._unwatch()
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._unread_since = None
        super().resume_writing()

    def _look(self) -> None:
        """Look again and again whether the client reads, and abort the connection of one that does not.

        To close it would not do: what is not read is then still kept.
        """
        transport, now, patience = self.transport, self.loop.time(), self._options.patience
        speaker = transport.get_protocol()
        if speaker is None:  # lost
            return
        own = speaker is self or transport.is_closing()  # a WebSocket that is open has its own times
        if not (own and transport.get_write_buffer_size()):
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since > patience:
            transport.abort()
            return
        self._looking = self.loop.call_later(patience / LOOKS, self._look)

    @property
    def _is_unread(self) -> bool:
        """Whether a request was answered whose body still comes."""
        return self.cycle is not None and self.cycle.response_complete and self.conn.their_state is h11.SEND_BODY

    def _watch(self) -> None:
        """Start the clock while no request has begun or a body comes for nobody, and stop it once that is over."""
        if self.conn.their_state is not h11.IDLE and not self._is_unread:
            self._unwatch()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEADER_S, self._give_up)

    def _unwatch(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        if (self.conn.their_state is h11.IDLE or self._is_unread) and not self.transport.is_closing():
            self.transport.close()


class BoundedSocketProtocol(WebSocketsSansIOProtocol):  # type: ignore[misc]  # the library has no types here
    """Speaks WebSocket, and keeps little for clients that send pings and read nothing, or messages of crumbs."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        """See `WebSocketsSansIOProtocol`."""
        super().__init__(*arguments, **more)
        self.frames: list[bytes] = []
        self._held = b""

    def handle_ping(self) -> None:
        """Answer a ping; while the client reads nothing, the last one alone, as soon as it does (RFC 6455, 5.5.3)."""
        answer = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(answer)
        else:
            self._held = answer or self._held

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().resume_writing()
        answer, self._held = self._held, b""
        if answer and not self.transport.is_closing():
            self.transport.write(answer)

    def handle_cont(self, event: Any) -> None:
        """Take a further piece of a message (RFC 6455, 7.4.1: 1009, too big, where they are too many)."""
        if self.close_sent:
            return
        super().handle_cont(event)
        if len(self.frames) > MOST_PIECES:
            self.frames = []
            self.conn.fail(1009, f"a message in more than {MOST_PIECES} pieces")
            self.handle_parser_exception()


class _Server(uvicorn.Server):  # type: ignore[misc]  # the library has no types here
    """Leaves the signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Any:
        """See `uvicorn.Server`."""
        yield


@dataclass(frozen=True)
class Running:
    """Says where a service runs, once it does."""

    address: str
    """Its address, as in http://127.0.0.1:8000."""
    model: Message
    """What the worker tells of the model."""


class Service:
    """Holds a service; `stop` and `kill` may be called from any thread and from a signal handler."""

    def __init__(self, models: Models, options: ServiceOptions, say: Callable[[str], object] = lambda _: None) -> None:
        """Take the models and options; nothing runs before `run`. `say` is called with what is ended at the stop."""
        self._models, self.options, self._say = models, options, say
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._pool: Pool | None = None
        self._folder: Any = None
        self._stack = ExitStack()
        self._stopped_early = False
        self.connections: Collection[Any] = ()
        """Connections that are open."""

    def run(self, started: Callable[[Running], object]) -> None:
        """Run until `stop`, and call `started` once requests are answered.

        Raises:
            InputError: the address cannot be bound.
            EngineError: the engine cannot be opened, or later no worker could be for too long.
        """
        with self._stack:
            bound = self._stack.enter_context(bind(self.options.host, self.options.port))
            self._make_folder()
            asyncio.run(self._run(bound, started))

    def _make_folder(self) -> Path:
        """Make a folder for the files of jobs, which is removed when the service ends."""
        self._folder = self._stack.enter_context(scratch_folder())
        return Path(self._folder)

    def stop(self) -> None:
        """Take nothing new, let running jobs end for the grace, then cancel them, and return from `run`."""
        self._stopped_early = True
        if self._loop is not None and self._stop is not None:
            with suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(self._stop.set)

    def kill(self) -> None:
        """End the workers and remove all files at once, and say so; the process is about to end."""
        if self._pool is not None:
            self._pool.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._say("ended at once: jobs that ran are cut off, all videos and results are removed")

    async def _run(self, bound: socket.socket, started: Callable[[Running], object]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        store = JobStore(self._folder, self.options, self._make_folder)
        pool = self._pool = Pool(self._models, self.options, store)
        routes = None
        try:
            stopping = asyncio.create_task(self._stop.wait())
            opening = asyncio.create_task(pool.start())
            await asyncio.wait({stopping, opening}, return_when=asyncio.FIRST_COMPLETED)
            if self._stopped_early:
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
                self._say("stopped before the model was open")
                return
            opening.result()
            routes = Routes(self.options, store, pool)
            server = _Server(self._config(routes))
            self.connections = routes.app.connections = server.server_state.connections
            serving = asyncio.create_task(server.serve([bound]))
            expiring = asyncio.create_task(_expire(store))
            lost = asyncio.create_task(_wait_for_loss(pool))
            while not server.started and not serving.done():
                await asyncio.sleep(POLL_S / 5)
            if server.started:
                started(Running(_address(bound), pool.model))
            await asyncio.wait({serving, stopping, lost}, return_when=asyncio.FIRST_COMPLETED)
            await self._drain(store, pool, routes)
            server.should_exit = True
            await serving
            expiring.cancel()
            if lost.done() and not stopping.done():
                raise EngineError(lost.result())
            lost.cancel()
        finally:
            await pool.close()
            if routes is not None:
                routes.close()

    def _config(self, routes: Routes) -> uvicorn.Config:
        for library in ("uvicorn", "python_multipart"):  # refusals are answers, not news
            logging.getLogger(library).setLevel(logging.CRITICAL)
        return uvicorn.Config(
            routes.app,
            http=partial(TimedProtocol, options=self.options),
            ws=BoundedSocketProtocol,
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=HEADER_BYTES,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=LAST_ANSWERS_S,
            ws_max_size=self.options.max_message,
            ws_per_message_deflate=False,
            ws_ping_interval=None,  # while frames wait for the network no answer to a ping would be read
            ws_ping_timeout=None,
        )

    async def _drain(self, store: JobStore, pool: Pool, routes: Routes) -> None:
        """Take nothing new; end what waits now, what runs within the grace, and let clients see how it ended."""
        routes.draining = True
        routes.live.stopping.set()
        before = Counter(store.outcomes)
        waiting = [job for job in store if job.state in WAITING]
        for job in waiting:
            store.cancel(job, "the service was stopped before the job began; send it again")
        self._say(
            f"stopping: {counted(pool.busy, 'job')} may run on for {self.options.grace:g} s; ended now: "
            f"{counted(len(waiting), 'waiting job')}, {counted(pool.live, 'live input')}; a second signal ends all"
        )
        begun = time.monotonic()
        end = begun + self.options.grace
        while pool.busy or pool.live or any(job.state == "fetching" for job in store):
            if time.monotonic() > end:
                for job in store:
                    store.cancel(job, "the service was stopped while the job ran; send it again")
                end += STOP_S + 1
                if end < time.monotonic():
                    break
            await asyncio.sleep(POLL_S)
        ended, done = store.outcomes - before, sum(job.state == "done" for job in store)
        self._say(
            f"stopped: jobs since the signal: {ended['done']} done, {ended['failed']} failed, {ended['cancelled']} "
            f"cancelled; removed: all videos, the results of {counted(done, 'job')}"
        )
        end = time.monotonic() + READ_S
        while time.monotonic() < end and any(_is_awaited(job, begun) for job in store):
            await asyncio.sleep(POLL_S)


def _is_awaited(job: Job, begun: float) -> bool:
    """Return whether a job ended so shortly before a moment, or after it, that its client will still ask for it."""
    return job.ended and not job.seen and job.moments[job.state] > begun - READ_S


async def _expire(store: JobStore) -> None:
    while True:
        await asyncio.sleep(EXPIRE_EVERY_S)
        await store.expire()


async def _wait_for_loss(pool: Pool) -> str:
    """Wait until there has been no worker for too long, and return what to say then."""
    while not pool.lost:
        await asyncio.sleep(EXPIRE_EVERY_S)
    return (
        f"no worker has been open for {pool.seconds_without_worker:.0f} s, so the service ends; its supervisor starts "
        f"it again (the last attempt: {pool.failure or 'not over yet'})"
    )


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address (InputError: it cannot be)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # which connections inherit
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        bound.bind((host, port))
    except (OSError, OverflowError, UnicodeError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(
            f"--host {host} --port {port}: cannot be bound ({reason}); give a free port of this machine"
        ) from None
    return bound


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
