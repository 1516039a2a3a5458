"""The small network as a placement, and windows to run it on."""

from __future__ import annotations

import onnx
import pytest

from calibration.quantise.placement import Placement
from calibration.ranges.collect import Inputs
from export.graph.trace import seeded_inputs
from runtime.engines import open_engine
from tests.conftest import Exported


@pytest.fixture(scope="session")
def placement(exported: Exported) -> Placement:
    return Placement(onnx.load(exported.onnx), "small")


@pytest.fixture(scope="session")
def windows(exported: Exported) -> list[Inputs]:
    spec = open_engine(exported.onnx).spec
    return [seeded_inputs(spec, seed, 1) for seed in range(3)]


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are judged in ONNX Runtime, which needs no seconds to convert each of them."""
    for module in ("calibration.calibrate", "calibration.judging.judge"):
        monkeypatch.setattr(f"{module}.has_openvino", lambda: False)
