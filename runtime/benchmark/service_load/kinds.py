"""Name the kinds of requests that a study sends."""

from __future__ import annotations

SHARES = {
    "video": 0.47, "form": 0.1, "address": 0.05, "cancelled": 0.12, "name": 0.03, "type": 0.03, "declared huge": 0.03,
    "huge": 0.02, "slow body": 0.02, "slow head": 0.02, "truncated": 0.03,
    "playlist": 0.03, "no video": 0.03, "gone": 0.02,
}  # fmt: skip
"""Kinds of requests, with their shares."""
