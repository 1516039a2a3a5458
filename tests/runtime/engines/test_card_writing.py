"""A model's card and operating point, written into files that are there: the network stays, byte by byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.engines import open_engine
from runtime.engines.artifact import read_artifact
from runtime.engines.card_writing import require_card_holder, write_card
from runtime.errors import EngineError, SpecError
from runtime.spec.model import ModelSpec
from runtime.spec.model_card import ModelCard, OperatingPoint
from tests.fake_tensorrt import write_tiny_plan
from tests.old_artifacts import write_old_onnx
from tests.tiny import CROP, LENGTH, tiny_spec, write_tiny_onnx, write_tiny_openvino

POINT = OperatingPoint(0.42, 0.5, 0.8, 0.9, 120, judged_on='mine "<>".json, été')
WRITERS = {
    ".onnx": lambda path: write_tiny_onnx(path, None),
    ".xml": write_tiny_openvino,
    ".engine": write_tiny_plan,
}


def add_note(spec: ModelSpec) -> ModelCard:
    return replace(spec.card, note=f"{spec.card.note}<&\n'\"é")


@pytest.mark.parametrize("suffix", WRITERS)
def test_what_is_written_is_read_and_sealed(suffix: str, tmp_path: Path) -> None:
    path = WRITERS[suffix](tmp_path / f"m{suffix}")
    before = read_artifact(path)
    weights = before.weights.read_bytes() if before.weights != path else b""
    for _ in range(2):  # the second time another card and point take their place
        write_card(path, add_note, POINT)
    after = read_artifact(path)  # verifies the digest
    assert after.spec == replace(before.spec, card=ModelCard(note="<&\n'\"é" * 2), operating_point=POINT)
    assert after.sha256 != before.sha256
    assert not weights or before.weights.read_bytes() == weights
    write_card(path, lambda spec: replace(spec.card, note=""), None)
    assert read_artifact(path).spec == before.spec
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in before.files)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_the_network_gives_the_same_numbers(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime" if suffix == ".onnx" else "openvino")
    path = WRITERS[suffix](tmp_path / f"m{suffix}")
    frames = np.random.default_rng(1).integers(0, 256, (1, LENGTH, *CROP, 3), np.uint8)
    inputs: dict[str, Any] = {"frames": frames, "lengths": np.array([LENGTH], np.int32)}
    before = open_engine(path).infer(inputs)
    write_card(path, add_note, POINT)
    after = open_engine(path).infer(inputs)
    for name, expected in before.items():
        np.testing.assert_array_equal(after[name], expected)


def test_onnx_reads_the_same_graph(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = write_tiny_onnx(tmp_path / "m.onnx", tiny_spec())
    before = onnx.load(path)
    write_card(path, add_note, POINT)
    after = onnx.load(path)
    onnx.checker.check_model(after)
    assert after.graph == before.graph
    assert {e.key for e in after.metadata_props} == {e.key for e in before.metadata_props}
    assert len(after.metadata_props) == len(before.metadata_props)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_damaged_model_is_not_sealed_anew(suffix: str, tmp_path: Path) -> None:
    path = WRITERS[suffix](tmp_path / f"m{suffix}")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with pytest.raises((SpecError, EngineError)):
        write_card(path, add_note, POINT)
    assert path.read_bytes() == content


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    path.write_text("x")
    with pytest.raises(EngineError, match="not a model that carries an operating point"):
        write_card(path, add_note, POINT)


def test_an_old_onnx_file_gets_a_digest(tmp_path: Path) -> None:
    path = write_old_onnx(tmp_path / "old.onnx")
    with pytest.warns(match="of an older release"):
        write_card(path, add_note, POINT)
    assert read_artifact(path).spec.operating_point == POINT


@pytest.mark.parametrize("suffix", WRITERS)
def test_links_and_permissions_stay(suffix: str, tmp_path: Path) -> None:
    path = WRITERS[suffix](tmp_path / f"m{suffix}")
    for file in read_artifact(path).files:
        file.chmod(0o600)
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / f"other{suffix}"
    link.symlink_to(path)
    write_card(link, add_note, POINT)
    assert link.is_symlink()
    assert read_artifact(path).spec.operating_point == POINT
    assert {file.stat().st_mode & 0o777 for file in read_artifact(path).files} == {0o600}


def test_a_model_that_cannot_be_written_is_refused_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny_onnx(tmp_path / "m.onnx", None)
    require_card_holder(path)
    monkeypatch.setattr("os.access", lambda *_: False)  # the tests may run as root, for whom nothing is read-only
    content = path.read_bytes()
    for call in (lambda: require_card_holder(path), lambda: write_card(path, add_note, POINT)):
        with pytest.raises(PermissionError):
            call()
    assert path.read_bytes() == content
    with pytest.raises(EngineError, match="folder, no file; expected a model"):
        require_card_holder(tmp_path)
