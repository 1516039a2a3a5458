"""Answer the requests of the service: jobs and what comes of them, live input, the start page, health and metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

import runtime
from runtime.common.console import print_warning
from runtime.common.text import printable, public_url, without_surrogates
from runtime.errors import InputError, VideoError
from runtime.metrics.exposition import expose
from runtime.service.admission import COOKIE, MOST_CONNECTIONS, Admission, is_token
from runtime.service.intake.fetching import Fetch, FetchError, split_url
from runtime.service.intake.multipart import FormReader
from runtime.service.intake.names import known_suffix, name_in_url, shown_name
from runtime.service.intake.receiving import VideoFile, read_in_time, read_small, require_length, too_large
from runtime.service.intake.root import find_again, find_in_root
from runtime.service.job_options import JobOptions, read_options, read_words
from runtime.service.jobs import ENDED, PREVIEW, REPORT, RESULT, Job, JobStore
from runtime.service.live import LiveInputs
from runtime.service.metrics import ServiceMetrics
from runtime.service.openapi import describe_service
from runtime.service.options import MIB, ServiceOptions
from runtime.service.refusals import RefusedError
from runtime.service.workers.pool import Pool
from runtime.video.sources import name_of

MOST_JSON = 64 * 1024
"""Most bytes of a request in JSON."""
MOST_FOLLOWERS = MOST_CONNECTIONS // 2
"""Most clients that follow events at the same time; others still get connections."""
FORM_BYTES = MIB
"""Most bytes of a form around its file."""
MOST_FETCHES = 8
"""Most videos that are fetched at the same time."""
RAW_TYPES = ("application/octet-stream", "application/mxf", "application/mp4", "application/x-matroska", "image/gif")
"""Types of uploads beside video/*."""
PLAIN = "text/plain; charset=utf-8"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the start page, which loads its own files and nothing else."""
REPORT_POLICY = "frame-ancestors 'none'"
"""Added to the policy within a report."""
FILE_POLICY = "default-src 'none'; sandbox"
"""Content-Security-Policy of a client's video, should a browser take it for a page."""
ASSETS = {"start.js": "text/javascript; charset=utf-8", "start.css": "text/css; charset=utf-8"}


class _Application(Starlette):  # type: ignore[misc]  # the library has no types here
    """Finds the route of a request, and leaves errors to `Admission`."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return the router alone, without Starlette's own answers to errors."""
        return self.router


class Routes:
    """Answers requests; for the event loop's thread."""

    def __init__(self, options: ServiceOptions, store: JobStore, pool: Pool) -> None:
        """Take the parts of the service."""
        self._options, self._store, self._pool = options, store, pool
        self.live = LiveInputs(pool, options)
        self._fetchers = ThreadPoolExecutor(MOST_FETCHES, "afsd-fetch")
        self._fetching: set[asyncio.Task[None]] = set()
        self._followers: set[FollowedResponse] = set()
        self.draining = False
        """Whether nothing new is taken."""
        self.app = Admission(self._starlette(), options, lambda: self.draining)
        self._metrics = ServiceMetrics(store, pool, self.app.answers)

    def close(self) -> None:
        """Release the threads."""
        self._fetchers.shutdown(wait=False, cancel_futures=True)

    def _starlette(self) -> Starlette:
        job = "/v1/jobs/{id}"
        return _Application(
            routes=[
                Route("/", self.start_page),
                Route("/assets/{name}", self.asset),
                Route("/v1/login", self.login, methods=["POST"]),
                Route("/v1/model", self.model),
                Route("/v1/jobs", self.create, methods=["POST"]),
                Route(job, self.describe),
                Route(job, self.delete, methods=["DELETE"]),
                Route(f"{job}/result", self.result),
                Route(f"{job}/report", self.report),
                Route(f"{job}/video", self.video),
                Route(f"{job}/events", self.events),
                Route("/v1/live", self.live_body, methods=["POST"]),
                WebSocketRoute("/v1/live", self.live.serve_socket),
                Route("/healthz", self.health),
                Route("/readyz", self.ready),
                Route("/metrics", self.metrics),
                Route("/openapi.json", self.openapi),
            ],
        )

    async def start_page(self, _: Request) -> Response:
        """Answer with the page where a person drops a video."""
        return Response(_asset("start.html"), media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})

    async def asset(self, request: Request) -> Response:
        """Answer with a part of the start page."""
        name = request.path_params["name"]
        if name not in ASSETS:
            raise RefusedError(404, "there is no such page")
        return Response(_asset(name), media_type=ASSETS[name])

    async def login(self, request: Request) -> Response:
        """Give a browser that has the token a cookie, since it sends no header with a video or a report."""
        given = _object(await read_small(request, self._options, MOST_JSON)).get("token")
        if not self._options.token or not isinstance(given, str) or not is_token(given, self._options.token):
            await asyncio.sleep(1.0)  # guessing is slow
            raise RefusedError(401, "not the token of this service")
        answer = Response(status_code=204)
        secure = self._options.behind_tls or request.url.scheme == "https"
        answer.set_cookie(COOKIE, given, httponly=True, samesite="strict", secure=secure)
        return answer

    async def model(self, _: Request) -> Response:
        """Answer with what the model knows, and the limits."""
        options, model = self._options, self._pool.model
        told = {key: model[key] for key in ("model", "classes", "threshold", "demonstration", "fps", "window_s")}
        limits = {
            "max_upload_bytes": options.max_upload,
            "max_seconds": options.max_seconds,
            "max_receive_seconds": options.max_receive,
            "max_processing_seconds": options.max_processing,
            "queue": options.queue,
            "max_live": options.max_live if model["live"] else 0,
            "keep_seconds": options.keep,
            "paths": options.root is not None,
        }
        return JSONResponse(told | {"score": self._score, "version": runtime.__version__, "limits": limits})

    async def create(self, request: Request) -> Response:
        """Make a job of an upload, an address or a path, and answer with 202."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_form = kind == "multipart/form-data"
        if not (kind == "application/json" or is_form or kind.startswith("video/") or kind in RAW_TYPES):
            raise RefusedError(
                415,
                f"Content-Type: got {kind[:80] or 'none'}, expected video/*, application/octet-stream, "
                "multipart/form-data, or application/json",
            )
        if kind == "application/json":
            return await self._create_from_json(request)
        require_length(request, self._options.max_upload + (FORM_BYTES if is_form else 0), self._store)
        values = dict(request.query_params)
        given = values.pop("name", "")
        job = self._store.add(_options(read_words, values), self._score)
        try:
            if is_form:
                await self._receive_form(request, job, values, given)
            else:
                await self._receive(request, job, given)
            self._metrics.received_bytes += job.bytes
        except BaseException:
            await asyncio.shield(self._store.drop(job))
            raise
        self._pool.submit(job)
        return _accepted(job)

    async def _receive(self, request: Request, job: Job, given: str) -> None:
        job.name = job.source = shown_name(given)
        with VideoFile(self._path(job), job, self._store, self._options.max_upload) as file:
            async for data in read_in_time(request, self._options):
                await file.write(data)
            await file.flush()
        _require_content(file)

    async def _receive_form(self, request: Request, job: Job, values: dict[str, str], given: str) -> None:
        form = FormReader(request.headers["content-type"])
        received = 0
        with VideoFile(job.folder / "upload", job, self._store, self._options.max_upload) as file:
            async for data in read_in_time(request, self._options):
                received += len(data)
                if received > self._options.max_upload + FORM_BYTES:  # what is around the file counts, too
                    raise too_large(self._options.max_upload)
                if content := form.feed(data):
                    await file.write(content)
            await file.flush()
        form.finish()
        _require_content(file)
        fields = {name: text for name, text in form.fields.items() if name != "name"} | values
        job.options = _options(read_words, fields)
        job.score = self._score if job.options.score is None else job.options.score
        job.name = job.source = shown_name(given or form.fields.get("name", "") or form.file_name or "")
        (job.folder / "upload").rename(self._path(job))

    async def _create_from_json(self, request: Request) -> Response:
        values = dict(_object(await read_small(request, self._options, MOST_JSON)))
        url, path = values.pop("url", None), values.pop("path", None)
        given = values.pop("name", "")
        if (url is None) == (path is None) or not isinstance(given, str):
            raise RefusedError(400, 'expected {"url": …} or {"path": …}, one of them, and options')
        options = _options(lambda given: read_options(given, ("name", "path", "url")), values)
        if path is not None:
            found = await asyncio.to_thread(find_in_root, self._options.root, path)
            name, source = shown_name(given or found.name), without_surrogates(printable(str(path)))
            job = self._store.add(options, self._score)
            job.name, job.source, job.video, job.named = name, source, found, str(path)
            self._pool.submit(job)
            return _accepted(job)
        split_url(url)
        try:
            name, source = shown_name(given) if given else name_in_url(url), name_of(url)[1]
        except (VideoError, ValueError) as error:
            raise RefusedError(400, f"url: {error}") from None
        job = self._store.add(options, self._score)
        job.name, job.source = name, source
        job.enter("fetching")
        task = asyncio.create_task(self._fetch(job, url))
        self._fetching.add(task)
        task.add_done_callback(self._fetching.discard)
        return _accepted(job)

    async def _fetch(self, job: Job, url: str) -> None:
        """Fetch the video of a job and queue it; its failure is that of the job."""
        disk = self._store.disk

        def count(size: int) -> None:
            disk.require_free(size)
            disk.take(size)
            job.bytes += size

        failure = ""
        try:
            fetch = self._make_fetch(job, url)
            job.wake = fetch.stop
            await asyncio.get_running_loop().run_in_executor(self._fetchers, fetch.run, count)
            self._metrics.received_bytes += job.bytes
        except FetchError as error:
            failure = str(error)
        except RefusedError as refusal:
            failure = refusal.reason
        except OSError as error:
            failure = f"the video cannot be stored ({error.strerror or type(error).__name__})"
        except Exception as error:  # whatever it is, the job ends and gives its place back
            print_warning(f"unforeseen {type(error).__name__} while {public_url(url)} was fetched: {error}")
            failure = f"unforeseen {type(error).__name__}; the service's own log has more"
        job.wake = None
        if not failure and not job.stopping:
            self._pool.submit(job)
            return
        job.enter(*(("cancelled", job.stopping) if job.stopping else ("failed", failure)))
        self._store.note_end(job)
        if job.removed:
            await self._store.clear(job)

    def _make_fetch(self, job: Job, url: str) -> Fetch:
        options = self._options
        return Fetch(
            url, self._path(job), options.max_upload, options.patience, options.max_receive, options.private_urls
        )

    def _path(self, job: Job) -> Path:
        """Return the path of a job's video: of the client's name it has the suffix, if that is one of a video."""
        job.video = job.folder / f"video{known_suffix(job.name)}"
        return job.video

    @property
    def _score(self) -> float:
        """Lowest score of detections for which no job asks."""
        score = self._options.score
        return float(self._pool.model["threshold"]) if score is None else score

    async def describe(self, request: Request) -> Response:
        """Answer with the state of a job."""
        job = self._job(request)
        job.seen = job.seen or job.ended
        return JSONResponse(job.describe())

    async def delete(self, request: Request) -> Response:
        """Cancel a job and remove it."""
        await self._store.remove(self._job(request), "was deleted")
        return Response(status_code=204)

    async def result(self, request: Request) -> Response:
        """Answer with the detections of a job that is done, as `afsd detect --json` prints them."""
        job = self._done(request)
        return JobFile(job.folder / RESULT, media_type="application/json")

    async def report(self, request: Request) -> Response:
        """Answer with the page of a job that is done."""
        job = self._done(request)
        headers = {"Content-Security-Policy": REPORT_POLICY}
        return JobFile(job.folder / REPORT, media_type="text/html; charset=utf-8", headers=headers)

    async def video(self, request: Request) -> Response:
        """Answer with the video of a job, or a range of its bytes."""
        job = self._done(request)
        path = job.folder / PREVIEW if job.preview else job.video
        if job.named is not None and not job.preview:
            path = await asyncio.to_thread(find_again, self._options.root, job.named, job.video)
        if path is None or not path.is_file():
            raise RefusedError(404, "the video is not there any more")
        kind = "video/webm" if job.preview else job.media_type
        headers = {"Content-Security-Policy": FILE_POLICY, "Cache-Control": "private, max-age=600"}
        return JobFile(path, media_type=kind, headers=headers)

    async def events(self, request: Request) -> Response:
        """Answer with the events of a job as they come, behind the one that the client saw last."""
        job = self._job(request)
        seen = request.headers.get("last-event-id") or request.query_params.get("after") or "0"
        if not (seen.isascii() and seen.isdecimal() and len(seen) < 10):
            raise RefusedError(400, "Last-Event-ID: expected the number of an event")
        return FollowedResponse(_follow(job, int(seen)), self._followers)

    async def live_body(self, request: Request) -> Response:
        """Take a container that is still being written, and answer with its events while it comes."""
        return await self.live.serve_body(request)

    async def health(self, _: Request) -> Response:
        """Answer that the service lives, or that it has had no worker for too long."""
        if self._pool.lost:
            raise RefusedError(503, "no worker can be opened")
        return PlainTextResponse("ok\n")

    async def ready(self, _: Request) -> Response:
        """Answer whether jobs are taken and a worker is open."""
        if self.draining:
            raise RefusedError(503, "the service is stopping")
        if not self._pool.ready:
            raise RefusedError(503, "no worker is open")
        return PlainTextResponse("ready\n")

    async def metrics(self, request: Request) -> Response:
        """Answer with the metrics."""
        text, kind = expose(self._metrics, request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": kind})

    async def openapi(self, _: Request) -> Response:
        """Answer with the description of the interface."""
        return JSONResponse(describe_service())

    def _job(self, request: Request) -> Job:
        return self._store.get(request.path_params["id"])

    def _done(self, request: Request) -> Job:
        """Return the job of a request (RefusedError: it is not done)."""
        job = self._job(request)
        job.seen = job.seen or job.ended
        if job.state == "done":
            return job
        if job.ended:
            raise RefusedError(409, f"the job is {job.state}: {job.reason}")
        raise RefusedError(409, f"the job is {job.state}; ask again, or follow {job.url}/events", {"Retry-After": "1"})


class JobFile(FileResponse):  # type: ignore[misc]  # the library has no types here
    """Answers with a file of a job, which may be deleted or expire at this very moment."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file (RefusedError: it is gone)."""
        try:
            await super().__call__(scope, receive, send)
        except (FileNotFoundError, RuntimeError):  # of Starlette's, for a file that it does not find
            if Path(self.path).is_file():
                raise
            raise RefusedError(410, "the files of the job were removed; send it again") from None


class FollowedResponse(StreamingResponse):  # type: ignore[misc]  # the library has no types here
    """Answers with the events of a job, unless too many clients follow events already."""

    def __init__(self, events: AsyncIterator[str], followers: set[FollowedResponse]) -> None:
        """Take the events as text, and the answers that are under way."""
        super().__init__(events, media_type="text/event-stream")
        self._followers = followers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events (RefusedError: too many clients follow some)."""
        if len(self._followers) >= MOST_FOLLOWERS:
            raise RefusedError(
                503, f"{MOST_FOLLOWERS} clients follow events already; ask for the job itself", {"Retry-After": "5"}
            )
        self._followers.add(self)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._followers.discard(self)


async def _follow(job: Job, after: int) -> AsyncIterator[str]:
    """Yield a job's events as text, and a comment after a silence."""
    async for event in job.events.follow(after):
        if event is not None and event.kind in ENDED:  # browsers close at once
            job.seen = True
        yield ": \n\n" if event is None else event.to_sse()


def _accepted(job: Job) -> Response:
    return JSONResponse(job.describe(), 202, headers={"Location": job.url})


def _options(read: Any, values: Mapping[str, Any]) -> JobOptions:
    """Return a client's options (RefusedError: there is a mistake in them)."""
    try:
        options: JobOptions = read(values)
    except InputError as error:
        raise RefusedError(400, str(error)) from None
    return options


def _object(content: bytes) -> dict[str, Any]:
    """Return an object in JSON (RefusedError: it is none)."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RefusedError(400, "expected an object in JSON")
    return value


def _require_content(file: VideoFile) -> None:
    if not file.size:
        raise RefusedError(400, "the video is empty")


def _asset(name: str) -> str:
    return (files("runtime.service") / "assets" / name).read_text(encoding="utf-8")
