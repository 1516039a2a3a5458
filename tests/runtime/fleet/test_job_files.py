"""Models of a job on Ray: what lies at the same path is used if it is the same, else the job's is taken and kept."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.engines.artifact import read_artifact
from runtime.errors import ArtifactWarning, InputError
from runtime.fleet import files
from runtime.fleet.files import JobFile, files_here, offer_models, offer_settings, settings_here
from runtime.jobs.settings import JobSettings
from tests.old_artifacts import write_old_openvino
from tests.tiny import tiny_spec, write_tiny_onnx, write_tiny_openvino

OTHER = tiny_spec(sample_fps=12.0)
"""Spec of another model."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Parts of files that are asked for; this process answers in place of a task of Ray, in small parts."""
    asked: list[str] = []

    def ask(file: JobFile, part: str, offset: int) -> bytes:
        asked.append(Path(part).name)
        return files._read_part(part, offset)

    monkeypatch.setattr(files, "_ask", ask)
    monkeypatch.setattr(files, "PART_BYTES", 1000)
    monkeypatch.setattr(files, "_this_node", lambda: "n1")
    return asked


def moved(offered: list[JobFile], folder: Path) -> list[JobFile]:
    """The files as an actor knows them on whose machine nothing, or another file, is at their paths."""
    return [replace(file, path=str(folder / Path(file.path).name)) for file in offered]


def test_a_model_that_a_machine_has_is_used_where_it_is(tmp_path: Path, asked: list[str]) -> None:
    model = write_tiny_onnx(tmp_path / "m.onnx", None)
    with files_here(offer_models([str(model), None, str(model)]), tmp_path / "cache") as paths:
        assert paths == {str(model): str(model)}
    assert (asked, (tmp_path / "cache").exists()) == ([], False)


@pytest.mark.parametrize("other", [False, True], ids=["none at the path", "another one at the path"])
def test_a_model_that_a_machine_lacks_is_taken_once_and_kept(tmp_path: Path, asked: list[str], other: bool) -> None:
    model = write_tiny_onnx(tmp_path / "m.onnx", None)
    (offered,) = moved(offer_models([str(model)]), tmp_path / "there")
    if other:
        (tmp_path / "there").mkdir()
        write_tiny_onnx(tmp_path / "there/m.onnx", OTHER)
    cache = tmp_path / "cache"
    for _ in range(2):
        with files_here([offered], cache) as paths:
            path = Path(paths[offered.path])
            assert path.parent.parent == cache
            assert path.read_bytes() == model.read_bytes()
    assert len(asked) == -(-model.stat().st_size // 1000) + 1
    path.write_bytes(path.read_bytes()[:-1] + b"x")  # damaged: taken again
    with files_here([offered], cache) as paths:
        assert Path(paths[offered.path]).read_bytes() == model.read_bytes()
    assert [entry.name for entry in cache.iterdir()] == [offered.digest[:32]]


@pytest.mark.thorough
def test_all_files_of_a_model_are_taken(tmp_path: Path, asked: list[str]) -> None:
    models = [write_tiny_openvino(tmp_path / "m.xml"), write_old_openvino(tmp_path / "old.xml")]
    offered = moved(offer_models(map(str, models)), tmp_path / "there")
    with files_here(offered, tmp_path / "cache") as paths:
        read_artifact(Path(paths[offered[0].path]))  # its digests are compared
        with pytest.warns(ArtifactWarning, match="older release"):
            read_artifact(Path(paths[offered[1].path]))
    assert set(asked) == {"m.xml", "m.bin", "old.xml", "old.bin", "old.json"}


def test_a_model_that_changed_since_the_job_began_is_refused(tmp_path: Path, asked: list[str]) -> None:
    model = write_tiny_onnx(tmp_path / "m.onnx", None)
    offered = moved(offer_models([str(model)]), tmp_path / "there")
    write_tiny_onnx(model, OTHER)
    said = "there/m.onnx: is not the job's file on this machine, .*[(]it has changed since the job was started"
    with pytest.raises(InputError, match=said), files_here(offered, tmp_path / "cache"):
        pass
    assert not list((tmp_path / "cache").iterdir())


def test_without_a_place_to_keep_them_files_last_as_long_as_the_block(tmp_path: Path, asked: list[str]) -> None:
    model = write_tiny_onnx(tmp_path / "m.onnx", None)
    (tmp_path / "cache").write_text("a file")
    offered = moved(offer_models([str(model)]), tmp_path / "there")
    with files_here(offered, tmp_path / "cache") as paths:
        (path,) = map(Path, paths.values())
        assert path.read_bytes() == model.read_bytes()
    assert not path.exists()


def test_what_was_not_used_for_longest_makes_room(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, cache = tmp_path / "cache" / ("0" * 32), tmp_path / "cache"
    recent, stranger = cache / ("1" * 32), cache / "mine"
    for entry in (old, recent, stranger):
        entry.mkdir(parents=True)
        (entry / "m.onnx").write_bytes(bytes(100))
    os.utime(old, (1e9, 1e9))
    monkeypatch.setattr(files, "KEPT_BYTES", 150)
    with files_here(moved(offer_models([str(write_tiny_onnx(tmp_path / "m.onnx", None))]), tmp_path / "there"), cache):
        pass
    assert (old.exists(), recent.exists(), stranger.exists()) == (False, True, True)


def test_every_file_of_a_job_gets_the_path_of_the_machine(tmp_path: Path, asked: list[str]) -> None:
    models = [str(write_tiny_onnx(tmp_path / f"{fps}.onnx", tiny_spec(sample_fps=float(fps)))) for fps in (10, 11, 12)]
    scores = tmp_path / "scores.json"
    scores.write_text("{}")
    settings = JobSettings(models[0], models[1], (models[2],), video_scores=str(scores))
    offered = offer_settings(settings)
    with files_here(moved(offered, tmp_path / "there"), tmp_path / "cache") as paths:
        here = {given.path: paths[str(tmp_path / "there" / Path(given.path).name)] for given in offered}
    found = settings_here(settings, here)
    sent = [found.engine, str(found.flow_engine), *found.backbones, str(found.video_scores)]
    for path, given in zip(sent, [*models, str(scores)], strict=True):
        assert path != given
        assert Path(path).read_bytes() == Path(given).read_bytes()
