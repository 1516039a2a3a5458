"""Nothing of what runs is told to anybody: ONNX Runtime's own reports are off unless the user wants them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT


@pytest.mark.skipif(sys.platform == "win32", reason="reports through the system's own there")
def test_onnx_runtime_reports_nothing_and_keeps_no_number_of_the_machine(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    code = "import runtime.engines.onnx.engine, onnxruntime; onnxruntime.get_available_providers()"
    environment = {key: value for key, value in os.environ.items() if "TELEMETRY" not in key and key != "CI"}
    environment |= {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_a_value_of_the_user_s_own_stays() -> None:
    code = "import runtime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "0"}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True)
    assert run.stdout.strip() == b"0"
