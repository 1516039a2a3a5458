"""Refuse requests: a status, and one line that says what was got and what to do."""

from __future__ import annotations

from collections.abc import Mapping

from runtime.common.text import one_line, without_surrogates


class RefusedError(Exception):
    """Ends a request with a status and a reason."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        """Take the status, the reason and further headers of the answer."""
        super().__init__(without_surrogates(one_line(reason)))
        self.status, self.headers = status, dict(headers or {})

    @property
    def reason(self) -> str:
        """The reason, one line."""
        return str(self)
