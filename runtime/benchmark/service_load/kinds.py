"""Name the kinds of requests that a study sends, and the ends that each may have."""

from __future__ import annotations

from dataclasses import dataclass

DONE, FAILED = "202 done", "202 failed"
"""Ends of a job that was taken."""


@dataclass(frozen=True)
class Kind:
    """Holds how often a kind of request is sent, and how it ends if the service is right."""

    share: float
    """Share of all requests."""
    ends: frozenset[str]
    """Allowed ends; any other is wrong."""


def _kind(share: float, *ends: str) -> Kind:
    return Kind(share, frozenset(ends))


KINDS = {
    "video": _kind(0.47, DONE),
    "form": _kind(0.1, DONE),
    "address": _kind(0.05, DONE),
    "cancelled": _kind(0.12, "deleted 204, then 410"),
    "name": _kind(0.03, DONE),
    "type": _kind(0.03, "415"),
    "declared huge": _kind(0.03, "413"),
    "huge": _kind(0.02, "413"),
    "slow body": _kind(0.02, "408"),
    "slow head": _kind(0.02, "closed"),
    "truncated": _kind(0.03, FAILED),
    "playlist": _kind(0.03, FAILED),
    "no video": _kind(0.03, FAILED),
    "gone": _kind(0.02, "went away"),
}
"""Kinds of requests by their names."""
