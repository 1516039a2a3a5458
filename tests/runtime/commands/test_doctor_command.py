"""`afsd doctor`, `afsd completion`, the help, and what -v and -q print."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from runtime import cli
from runtime.commands import doctor
from runtime.commands.doctor import Part, examine
from tests.tiny import write_tiny_onnx
from tests.videos import write_video


def test_what_is_here_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    states = {entry["name"]: entry for entry in found["findings"]}
    assert states["numpy"]["state"] == "ok"
    assert states["numpy"]["facts"] == np.__version__
    assert "CPU" in states["onnxruntime"]["facts"]
    assert "h264" in states["av"]["facts"]
    assert found["machine"]["cores"] >= 1
    assert cli.main(["doctor"]) == 0
    assert "numpy" in capsys.readouterr().out


def test_what_is_missing_or_broken_comes_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = examine(Part("nowhere", "no_such_module", "openvino", "nothing"))
    assert (missing.state, missing.remedy) == (
        "missing", "pip install '.[openvino]' in a clone of this project, or pip install nowhere",
    )  # fmt: skip

    def fail(_: object) -> str:
        raise RuntimeError("no driver\nat all")

    broken = examine(Part("numpy", "numpy", "", "everything", fail))
    assert (broken.state, broken.remedy) == ("broken", "no driver at all")
    module = ModuleType("lacking")
    monkeypatch.setitem(sys.modules, "lacking", module)
    assert examine(Part("lacking", "lacking", "", "x", lambda _: "devices A")).facts == "devices A"


def test_every_library_comes_with_the_extra_that_brings_it() -> None:
    """By pyproject.toml: each extra has the library, and no extra has those that are installed alone."""
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"] | {"": project["dependencies"]}
    brings = {name: {re.split(r"[\[<>=]", one)[0].lower() for one in wanted} for name, wanted in extras.items()}
    for part in doctor.PARTS:
        if part.extra == doctor.ALONE:
            assert not any(part.name.lower() in names for extra, names in brings.items() if extra != "dev"), part.name
        else:
            assert part.name.lower() in brings[part.extra], part.name
    shown = {part.name.lower() for part in doctor.PARTS}
    assert shown >= {
        "shtab",
        "safetensors",
        "pandas",
        "tensorboardx",
        "wandb",
        "fiftyone",
        "ray",
        "starlette",
        "uvicorn",
        "prometheus-client",
    }


def test_a_library_that_starts_services_is_only_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    assert examine(Part("numpy", "numpy", "", "x", is_tried=False)).facts == np.__version__


class FakeDriver:
    """Answers as libcuda does: numbers through pointers, and a status."""

    def __init__(self, status: int = 0, count: int = 1) -> None:
        self._status, self._count = status, count

    def cuInit(self, _: int) -> int:  # noqa: N802
        return self._status

    def cuDriverGetVersion(self, answer: Any) -> int:  # noqa: N802
        answer._obj.value = 12080
        return 0

    def cuDeviceGetCount(self, answer: Any) -> int:  # noqa: N802
        answer._obj.value = self._count
        return 0

    def cuDeviceGet(self, answer: Any, number: int) -> int:  # noqa: N802
        answer._obj.value = number
        return 0

    def cuDeviceGetName(self, text: Any, _: int, device: Any) -> int:  # noqa: N802
        text.value = b"NVIDIA H200"
        return 0

    def cuGetErrorName(self, status: int, answer: Any) -> int:  # noqa: N802
        answer._obj.value = b"CUDA_ERROR_NO_DEVICE" if status == 100 else None
        return 0


@pytest.mark.parametrize(
    ("driver", "state", "facts"),
    [
        (FakeDriver(), "ok", "CUDA 12.8 or older; NVIDIA H200"),
        (FakeDriver(count=0), "broken", "CUDA 12.8 or older; no GPU"),
        (FakeDriver(100), "broken", "cuInit gives CUDA_ERROR_NO_DEVICE"),
        (FakeDriver(3), "broken", "cuInit gives error 3"),
    ],
)
def test_the_driver_is_asked(driver: FakeDriver, state: str, facts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda name: driver)
    found = doctor.examine_driver()
    assert (found.state, found.facts) == (state, facts)
    assert bool(found.remedy) == (state != "ok")


@pytest.mark.parametrize(("tool", "state"), [(None, "missing"), ("/usr/bin/nvidia-smi", "broken")])
def test_a_tool_without_its_driver_is_no_driver(tool: str | None, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(doctor.ctypes, "CDLL", fail)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: tool)
    found = doctor.examine_driver()
    assert found.state == state
    assert ("cannot open shared object file" in found.facts) == (state == "broken")


def test_without_any_engine_the_status_is_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "PARTS", (Part("onnxruntime", "no_such_module", "", "running .onnx files"),))
    assert cli.main(["doctor"]) == 2
    said = capsys.readouterr()
    assert "onnxruntime (running .onnx files): pip install onnxruntime" in said.out
    assert said.err.splitlines() == ["afsd: error: no library that runs a model is here; install one of those above"]


def test_the_help_groups_all_verbs_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    said = capsys.readouterr().out
    verbs = [name for name, _ in cli.find_verbs()]
    firsts = [line.split()[0] for line in said.splitlines() if line.startswith("  ") and line[2] != " "]
    assert sorted(name for name in firsts if not name.startswith("-")) == sorted(set(verbs))
    for title in cli.VERBS:
        assert f"\n{title}:\n" in said
    assert "\nmore:" not in said


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_a_script_that_the_shell_takes(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "evaluate" in script
    assert "--write-threshold" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_v_and_q(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, clip = str(write_tiny_onnx(tmp_path / "m.onnx", None)), str(write_video(tmp_path / "a.mp4", frames=40))
    assert cli.main(["detect", model, clip, "-v"]) == 0
    assert "m.onnx: runs in onnxruntime" in capsys.readouterr().err
    images = tmp_path / "images"
    images.mkdir()
    for k in range(3):
        cv2.imwrite(str(images / f"{k}.png"), np.zeros((24, 32, 3), np.uint8))
    assert cli.main(["detect", model, str(images)]) == 0
    assert "no frame rate is given" in capsys.readouterr().err
    assert cli.main(["-q", "detect", model, str(images)]) == 0
    assert capsys.readouterr().err == ""
    assert cli.main(["detect", model, str(images), "-q"]) == 0
    assert capsys.readouterr().err == ""
