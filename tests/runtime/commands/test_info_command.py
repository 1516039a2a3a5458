"""`afsd info`: what a model is, in words and as JSON, and whether it is whole."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from runtime.cli import main
from runtime.commands import info
from tests.fake_tensorrt import write_tiny_plan
from tests.old_artifacts import write_old_onnx
from tests.tiny import tiny_spec, write_tiny_onnx, write_tiny_openvino


def test_what_an_onnx_file_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_onnx(tmp_path / "tiny.onnx", tiny_spec(checkpoint_sha256="abc", multiply_adds=1234))
    assert main(["info", str(path), "--verify"]) == 0
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split(None, 1)[1] for line in said.splitlines()}
    assert rows["family"] == "afsd"
    assert rows["classes"] == "2: jump, throw"
    assert rows["window"] == "16 frames every 8"
    assert rows["frames"] == "12×14 pixels, cropped 8×10"
    assert rows["multiply_adds"] == "1,234"
    assert rows["made_from"] == "abc"
    assert rows["verified"] == "yes"
    assert rows["files"] == f"tiny.onnx {path.stat().st_size:,}"
    assert path.read_bytes().endswith(rows["sha256"].encode())


@pytest.mark.parametrize("kind", ["openvino", "tensorrt"])
def test_models_of_two_files_as_json(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    openvino = kind == "openvino"
    path = write_tiny_openvino(tmp_path / "m.xml") if openvino else write_tiny_plan(tmp_path / "m.engine")
    assert main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["files"]) == ({"m.xml", "m.bin"} if openvino else {"m.engine", "m.json"})
    assert (facts["fps"], facts["verified"]) == (10.0, "no, --verify does")
    assert len(facts["sha256"]) == 64
    assert facts["build"].get("precision") == (None if openvino else "fp16")
    weights = tmp_path / ("m.bin" if openvino else "m.engine")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert main(["info", str(path)]) == 0
    assert main(["info", str(path), "--verify"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is damaged or was changed after its export" in line


def test_an_old_model_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write_old_onnx(tmp_path / "old.onnx"))
    assert main(["info", path, "--verify"]) == 2  # a script must not take it for whole
    said = capsys.readouterr()
    warning, error = said.err.splitlines()
    assert warning.startswith("afsd: warning: ")
    assert "of an older release, without a digest" in warning
    assert "carries no digest, so nobody can tell whether it is whole; export it again" in error
    assert "no digest: a model of an older release" in said.out
    assert main(["info", path]) == 0


def test_a_model_is_verified_unless_told_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_onnx(tmp_path / "tiny.onnx", None)
    content = bytearray(path.read_bytes())
    content[content.index(b"loc_w") + 20] ^= 1
    path.write_bytes(content)
    assert main(["detect", str(path), str(tmp_path / "gone.mp4")]) == 2
    assert "tiny.onnx: is damaged or was changed after its export" in capsys.readouterr().err
    assert main(["detect", str(path), str(tmp_path / "gone.mp4"), "--no-verify"]) == 2
    assert "is damaged" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.onnx", "file not found; expected a model"),
        ("video.mp4", "not a model; expected a file ending in .onnx, .xml, .engine, .plan"),
        ("text.onnx", "not an ONNX file, or one that is damaged or cut short"),
        ("text.xml", "holds no ModelSpec"),
        ("text.engine", "its sidecar text.json is missing"),
    ],
)
def test_other_files(name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name.startswith("text"):
        (tmp_path / name).write_text("text")
    assert main(["info", str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_files_of_other_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = {"lost": EntryPoint("lost", "no_such_package:describe", "afsd.artifacts")}
    monkeypatch.setattr(info, "entry_points", lambda group, name: [entries[name]] if name in entries else [])
    (tmp_path / "a.lost").touch()
    assert main(["info", str(tmp_path / "a.lost")]) == 2
    assert "needs no_such_package, which is not installed: pip install no_such_package\n" in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_what_a_checkpoint_is(suffix: str, verify: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from tests.training.small import CLASSES, save_small
    from training.checkpoints.describe import describe_checkpoint
    from training.checkpoints.files import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(save_small(tmp_path / "small.ckpt"))
    path = tmp_path / f"again{suffix}"
    save_checkpoint(checkpoint, path)
    facts: dict[str, Any] = describe_checkpoint(path, verify=verify)
    assert facts["classes"] == list(CLASSES)
    assert facts["weights"] == sum(value.numel() for value in checkpoint.weights.values())
    assert facts["sha256"] == load_checkpoint(path).sha256
    assert facts["verified"] == ("yes" if verify else "no, --verify does")
