"""Small kernels for the ceilings of the machine: what is tested is what becomes of them, not their size."""

from __future__ import annotations

import pytest

from runtime.benchmark import ceiling


@pytest.fixture(autouse=True)
def _small_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "whole_kernels" not in request.fixturenames:
        monkeypatch.setattr(ceiling, "PRODUCT", (256, 128, 128))
        monkeypatch.setattr(ceiling, "CONVOLUTION", (16, 4, 12))


@pytest.fixture
def whole_kernels() -> None:
    """Kernels of the size that `afsd benchmark` measures with."""
