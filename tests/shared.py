"""Data beside the repository that is not part of the project: annotations and features of data sets, real videos."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared(relative: str) -> Path:
    """Return the path ../shared/<relative> as seen from the repository root; skip the test when it is not there."""
    path = ROOT.parent / "shared" / relative
    if not path.exists():
        folder = "/".join(Path(relative).parts[:2])
        pytest.skip(f"needs ../shared/{folder}, data of others that the project does not ship (see README)")
    return path
