"""Optional data beside the repository: golden arrays, annotations, videos."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared(relative: str) -> Path:
    """The path ../shared/<relative> as seen from the repository root; skips the test when it is not there."""
    path = ROOT.parent / "shared" / relative
    if not path.exists():
        pytest.skip(f"../shared/{relative} is not here")
    return path
