"""`afsd doctor`, `afsd completion`, the help, and what -v and -q print."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

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


def test_every_verb_has_examples_that_parse(capsys: pytest.CaptureFixture[str]) -> None:
    parser = cli.make_parser()
    for verb in {name for name, _ in cli.find_verbs()} - {"demo"}:
        with pytest.raises(SystemExit):
            parser.parse_args([verb, "--help"])
        examples = capsys.readouterr().out.partition("examples:\n")[2]
        assert examples, verb
        for line in examples.splitlines():
            words = line.partition(" > ")[0].partition("   (")[0].split()
            assert words[0] == "afsd"
            parser.parse_args(words[1:])


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
