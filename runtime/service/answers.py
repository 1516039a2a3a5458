"""Answer refused requests so that their clients see the answer, also while they are still sending."""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from runtime.service.refusals import RefusedError

LINGER_S = 3.0
"""Seconds for which the rest of a refused upload is read and dropped, so that its sender sees the answer."""


class RefusedResponse(JSONResponse):  # type: ignore[misc]  # the library has no types here
    """Answers a refused request, and closes its connection if the request has a body that nobody will read."""

    def __init__(self, refusal: RefusedError, lingers: bool = False) -> None:
        """Take the refusal; `lingers`: the body of the request is not yet read."""
        headers = refusal.headers | ({"Connection": "close"} if lingers else {})
        super().__init__({"error": refusal.reason}, refusal.status, headers)
        self._lingers = lingers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, then read what the client is still sending, for some seconds."""
        if not self._lingers:
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(LINGER_S):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        break
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})
