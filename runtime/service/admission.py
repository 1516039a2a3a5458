"""Let requests in: names of the service, pages of other sites, the token, errors, and the headers of every answer."""

from __future__ import annotations

import hmac
import ipaddress
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Collection
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.common.text import without_secrets
from runtime.service.answers import RefusedResponse
from runtime.service.options import ServiceOptions
from runtime.service.refusals import RefusedError

COOKIE = "afsd_token"
"""Cookie of a browser that has given the token."""
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/v1/login"})
"""Paths that need no token: they show nothing of the jobs."""
ASSETS = "/assets/"
MONITORED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are answered when all connections are taken: they say so."""
MOST_CONNECTIONS = 512
"""Most connections of which requests are answered."""
SAFE_METHODS = frozenset({"GET", "HEAD"})
HEADER_BYTES = 16 * 1024
"""Most bytes of the headers of a request."""
CLOSE = {"Connection": "close"}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every answer that has none of its own."""


class Admission:
    """Wraps the service's routes: refuses what may not come in, and answers what goes wrong."""

    def __init__(self, app: ASGIApp, options: ServiceOptions, draining: Callable[[], bool]) -> None:
        """Take the routes; `draining` says whether the service takes nothing new any more."""
        self._app, self._options, self._draining = app, options, draining
        self._hosts = {"localhost", options.host.lower(), *(name.lower() for name in options.hosts)}
        self.answers: Counter[int] = Counter()
        """Number of answers by status."""
        self.connections: Collection[Any] = ()
        """Connections that are open, as the server has them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            return
        started = False
        whole = False

        async def noted() -> Message:
            nonlocal whole
            message = await receive()
            whole = whole or (message["type"] == "http.request" and not message.get("more_body"))
            return message

        async def counted(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self.answers[message["status"]] += 1
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self.check(scope)
            await self._app(scope, noted, counted)
        except ClientDisconnect:
            return
        except (RefusedError, HTTPException) as error:
            refusal = _of_router(error) if isinstance(error, HTTPException) else error
            if not started:
                await self._refuse(refusal, whole, scope, receive, counted)
        except Exception:
            print(without_secrets(traceback.format_exc()), file=sys.stderr, flush=True)
            if not started:
                refusal = RefusedError(500, "unforeseen; the service's own log has more")
                await self._refuse(refusal, whole, scope, receive, counted)

    async def _refuse(self, refusal: RefusedError, whole: bool, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a refusal; `whole`: the body of the request was read to its end."""
        if scope["type"] == "websocket":
            self.answers[403] += 1
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.reason[:120]})
            return
        lingers = not whole and scope["method"] not in SAFE_METHODS
        await RefusedResponse(refusal, lingers)(scope, receive, send)

    def check(self, scope: Scope) -> None:
        """Check a request before it reaches a route (RefusedError: it may not)."""
        if len(self.connections) > MOST_CONNECTIONS and scope["path"] not in MONITORED:
            raise RefusedError(
                503,
                f"more than {MOST_CONNECTIONS} connections are open; try again later",
                {"Retry-After": "10", "Connection": "close"},
            )
        headers = Headers(scope=scope)
        require_whole_head(headers)
        host = headers.get("host", "")
        if not self._knows(host):
            raise RefusedError(
                403,
                f"host {host[:100]!r} is no name of this service; reach it by its address, or add --allowed-host NAME",
            )
        acts = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        if acts:
            require_own_site(headers, host)
        path = scope["path"]
        if not (path in OPEN_PATHS or path.startswith(ASSETS)):
            self._require_token(headers)
        if acts and self._draining() and scope.get("method") != "DELETE":
            raise RefusedError(503, "the service is stopping and takes nothing new; try another", {"Retry-After": "30"})

    def _knows(self, host: str) -> bool:
        """Return whether a Host header is a name of this service, or an address in numbers.

        A page of another site that gets its own name to lead here (DNS rebinding) comes with that name.
        """
        name = _host_name(host)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    def _require_token(self, headers: Headers) -> None:
        if self._options.token and not self.has_token(headers):
            raise RefusedError(401, "expected the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})

    def has_token(self, headers: Headers) -> bool:
        """Return whether a request brings the token, in its header or its cookie."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            try:
                morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
            except CookieError:
                return False
            given = morsel.value if morsel is not None else ""
        return is_token(given.strip(), self._options.token)


def _of_router(error: HTTPException) -> RefusedError:
    reasons = {404: "there is no such address; /openapi.json lists them", 405: "the address does not take this method"}
    return RefusedError(error.status_code, reasons.get(error.status_code, error.detail), error.headers)


def is_token(given: str, token: str) -> bool:
    """Return whether a text is the token, in a time that says nothing of it."""
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())


def require_own_site(headers: Headers, host: str) -> None:
    """Check that no page of another site has a browser act here (RefusedError: one does)."""
    origin = headers.get("origin")
    if origin is not None:
        if _place(origin) != host.lower():
            raise RefusedError(403, "the request comes from a page of another site")
    elif headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise RefusedError(403, "the request comes from a page of another site")


def _place(origin: str) -> str:
    """Return host and port in an Origin header; empty if it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def require_whole_head(headers: Headers) -> None:
    """Check what a server behind a proxy must not guess about (RefusedError: the headers are too long, or contradict).

    With both Content-Length and Transfer-Encoding a proxy and this server may see the end of the body at different
    places, and one client's body would be another's request (RFC 9112, section 6.3).
    """
    length = sum(len(name) + len(value) for name, value in headers.raw)
    if length > HEADER_BYTES:
        raise RefusedError(431, f"headers: got {length:,} bytes, expected at most {HEADER_BYTES:,}", CLOSE)
    if "content-length" in headers and "transfer-encoding" in headers:
        raise RefusedError(400, "got both Content-Length and Transfer-Encoding, expected one of them", CLOSE)
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise RefusedError(415, "Content-Encoding: expected none; send the video as it is", CLOSE)


def _host_name(host: str) -> str:
    """Return the name in a Host header, without port and brackets."""
    name: Any = None
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return ""
    return name or ""
