"""A damaged model is refused: bits, pieces and files that are not what was exported, and what older releases wrote."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.cli import main
from runtime.common.files import file_sha256
from runtime.engines import open_engine
from runtime.engines.artifact import read_artifact, settle_model
from runtime.engines.openvino.xml import END, XML_SEAL, write_xml_entries
from runtime.engines.seal import ONNX_DIGEST_KEY, ONNX_SEAL
from runtime.engines.two_files import replace_as_one, staged_path
from runtime.errors import AfsdError, ArtifactWarning, SpecError
from runtime.spec.model import METADATA_KEY, ModelSpec
from tests.fake_tensorrt import tensors_of, write_tiny_plan
from tests.old_artifacts import write_old_onnx, write_old_openvino
from tests.tiny import tiny_spec, write_tiny_onnx, write_tiny_openvino

Write = Callable[[Path], Path]

KINDS: dict[str, tuple[Write, tuple[str, ...]]] = {
    "onnx": (lambda folder: write_tiny_onnx(folder / "tiny.onnx", None), ("tiny.onnx",)),
    "openvino": (lambda folder: write_tiny_openvino(folder / "tiny.xml"), ("tiny.xml", "tiny.bin")),
    "tensorrt": (lambda folder: write_tiny_plan(folder / "tiny.engine"), ("tiny.engine", "tiny.json")),
}
"""Kind of model → its writer, and its files."""

FILES = [(kind, name) for kind, (_, names) in KINDS.items() for name in names]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    made = {}
    for kind, (write, _) in KINDS.items():
        (folder / kind).mkdir()
        made[kind] = write(folder / kind)
    return made


def copy(model: Path, folder: Path) -> Path:
    """Copy a model's files into an empty folder and return the file that is opened."""
    for file in model.parent.iterdir():
        shutil.copy(file, folder)
    return folder / model.name


def accepted(path: Path, whole: Any) -> bool:
    """Whether a model is opened; then all that a library is given must be what the whole model gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an old model's warning is no refusal
        try:
            found = read_artifact(path)
        except AfsdError:  # anything else fails the test
            return False
    assert (found.spec, found.build) == (whole.spec, whole.build)
    assert found.weights.read_bytes() == whole.weights.read_bytes()
    return True


@pytest.mark.parametrize("bits", [250, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("kind", "name"), FILES)
def test_random_single_bits(models: dict[str, Path], tmp_path: Path, kind: str, name: str, bits: int) -> None:
    path = copy(models[kind], tmp_path)
    whole = read_artifact(models[kind])
    file, content = tmp_path / name, (tmp_path / name).read_bytes()
    draw = random.Random(name)
    harmless = 0
    for bit in draw.sample(range(8 * len(content)), min(bits, 8 * len(content))):
        file.write_bytes(flipped(content, bit))
        harmless += accepted(path, whole)
    assert harmless == 0 or name == "tiny.json"  # a space of JSON may become another


@pytest.mark.parametrize(
    ("kind", "name", "around"),
    [
        ("onnx", "tiny.onnx", ONNX_SEAL.before),
        ("onnx", "tiny.onnx", METADATA_KEY.encode()),
        ("onnx", "tiny.onnx", b'"schema":'),
        ("openvino", "tiny.xml", XML_SEAL.before),
        ("openvino", "tiny.xml", XML_SEAL.after),
        ("openvino", "tiny.xml", b"<afsd>"),
        ("openvino", "tiny.xml", b"bin_sha256"),
        ("tensorrt", "tiny.json", b'"checksum"'),
        ("tensorrt", "tiny.json", b'"sha256"'),
    ],
)
def test_every_bit_where_the_digest_is_found(
    models: dict[str, Path], tmp_path: Path, kind: str, name: str, around: bytes
) -> None:
    path = copy(models[kind], tmp_path)
    whole = read_artifact(models[kind])
    file, content = tmp_path / name, (tmp_path / name).read_bytes()
    start = content.rindex(around)
    for bit in range(8 * start, 8 * min(len(content), start + len(around) + 16)):
        file.write_bytes(flipped(content, bit))
        assert not accepted(path, whole) or name == "tiny.json"


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_cut_short_or_gone(models: dict[str, Path], tmp_path: Path, kind: str, name: str) -> None:
    path = copy(models[kind], tmp_path)
    whole = read_artifact(models[kind])
    content = (tmp_path / name).read_bytes()
    for length in (0, 1, len(content) // 2, len(content) - ONNX_SEAL.size, len(content) - 3):
        (tmp_path / name).write_bytes(content[:length])
        assert not accepted(path, whole)
    (tmp_path / name).write_bytes(content + b"\n")
    assert not accepted(path, whole) or name == "tiny.json"


def test_files_of_two_models(models: dict[str, Path], tmp_path: Path) -> None:
    path = copy(models["openvino"], tmp_path)
    weights = bytearray(path.with_suffix(".bin").read_bytes())
    weights[:4] = np.float32(3).tobytes()
    path.with_suffix(".bin").write_bytes(weights)
    with pytest.raises(SpecError, match=r"tiny\.bin: is damaged .* tiny\.xml says .*; copy the model again"):
        open_engine(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(SpecError, match=r"tiny\.bin: missing, though tiny\.xml lists it"):
        open_engine(path)


def test_a_digest_that_was_removed(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = write_tiny_onnx(tmp_path / "tiny.onnx", None, sealed=False)
    with pytest.raises(SpecError, match=r"its digest is missing, so the file was cut short or changed"):
        open_engine(path)
    assert open_engine(path, verify=False).spec == tiny_spec()


def test_a_file_that_another_program_wrote_again(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = write_tiny_onnx(tmp_path / "tiny.onnx", None)
    model = onnx.load(path)
    assert {entry.key for entry in model.metadata_props} == {METADATA_KEY, ONNX_DIGEST_KEY}
    model.producer_name = "another"
    onnx.save(model, path)
    with pytest.raises(SpecError, match=r"is damaged or was changed after its export|its digest is missing"):
        open_engine(path)


@pytest.mark.parametrize(("write", "name"), [(write_old_onnx, "old.onnx"), (write_old_openvino, "old.xml")])
def test_models_of_older_releases_warn_in_one_line(write: Write, name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name)
    with pytest.warns(ArtifactWarning, match=rf"{name}: is of an older release, without a digest") as caught:
        engine = open_engine(path)
    assert len(caught) == 1
    assert engine.spec.classes == tiny_spec().classes
    content = path.with_suffix(".bin" if name == "old.xml" else ".onnx").read_bytes()
    if name == "old.xml":
        path.with_suffix(".bin").write_bytes(content[:-1] + b"x")
        with pytest.raises(SpecError, match=r"old\.bin: is damaged .* old\.json says"):
            open_engine(path)


def test_the_shape_of_the_file_is_the_libraries_own(models: dict[str, Path]) -> None:
    onnx, openvino = pytest.importorskip("onnx"), pytest.importorskip("openvino")
    onnx.checker.check_model(str(models["onnx"]), full_check=True)
    model = openvino.Core().read_model(str(models["openvino"]))
    assert model.get_rt_info(["afsd", METADATA_KEY]).astype(str) == tiny_spec().to_json()
    assert sorted(file.name for file in models["openvino"].parent.iterdir()) == ["tiny.bin", "tiny.xml"]


# --- a model of two files changes as one ---------------------------------------------------------------------------


@contextmanager
def ended_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kill the process at its `step`-th rename or synchronisation, counted from 1, before it is done."""
    done = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return run

    with monkeypatch.context() as patched:
        for module, name in ((os, "fsync"), (os, "replace"), (Path, "replace"), (Path, "unlink")):
            patched.setattr(module, name, counted(getattr(module, name)))
        yield


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", ["openvino", pytest.param("tensorrt", marks=pytest.mark.thorough)])
@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(False, id="over a whole model"),
        pytest.param(True, id="over one that was broken off", marks=pytest.mark.thorough),
    ],
)
def test_a_kill_at_any_step_leaves_the_old_or_the_new_model(
    kind: str, broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replace a model in a child that is killed before its n-th rename, removal or synchronisation, for every n."""
    old, new = tiny_spec(classes=("a", "b")), tiny_spec(classes=("c", "d"))
    write: Callable[[Path, Any], Path] = write_openvino if kind == "openvino" else write_plan
    name = "tiny.xml" if kind == "openvino" else "tiny.engine"
    weights_name, manifest_name = ("tiny.bin", name) if kind == "openvino" else (name, "tiny.json")
    for which, spec in (("old", old), ("new", new)):
        (tmp_path / which).mkdir()
        write(tmp_path / which / name, spec)
    states = set()
    for step in range(1, 40):
        place = tmp_path / f"{step}"
        shutil.copytree(tmp_path / "old", place)
        target = place / name
        if broken:  # the old model's own export was killed after its manifest was renamed
            weights = place / weights_name
            weights.replace(staged_path(weights, file_sha256(weights)))
            weights.write_bytes(b"of the model before")
        shutil.copytree(tmp_path / "new", place / "unfinished")
        child = os.fork()
        if child == 0:
            gc.disable()  # what other tests left may wait for threads that are not in this process
            with ended_at(step, monkeypatch):
                settle_model(target)
                sources = place / "unfinished"
                sha256 = file_sha256(sources / weights_name)
                replace_as_one(
                    (sources / weights_name, place / weights_name),
                    sha256,
                    (sources / manifest_name, place / manifest_name),
                )
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = read_artifact(target)
        assert found.spec in (old, new)
        states.add(found.spec.classes)
        if os.WIFEXITED(status):
            assert found.spec == new
            break
        settle_model(target)
        left = sorted(file.name for file in place.iterdir() if file.is_file())
        assert left == sorted({name, weights_name, manifest_name})
        assert read_artifact(target).spec == found.spec
    else:
        pytest.fail("the export has more than 40 steps")
    assert step > 6
    assert states == {old.classes, new.classes}


def write_openvino(path: Path, spec: ModelSpec) -> Path:
    """Write the tiny network with weights of its own for each spec."""
    write_tiny_openvino(path, spec)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"\t\t<afsd>")] + END)
    weights = bytearray(path.with_suffix(".bin").read_bytes())
    weights[-4:] = spec.classes[0].encode().ljust(4)
    path.with_suffix(".bin").write_bytes(weights)
    write_xml_entries(path, spec)
    return path


def write_plan(path: Path, spec: ModelSpec) -> Path:
    """Write a plan that differs by its spec."""
    plan = json.dumps({"tensors": tensors_of(spec), "batch": (1, 1, 3), "of": spec.classes}).encode()
    return write_tiny_plan(path, spec, plan)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_a_pipe_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "m.onnx")
    for words in (["info"], ["detect"]):
        assert main([*words, str(tmp_path / "m.onnx"), *(["v.mp4"] if words == ["detect"] else [])]) == 2
        assert "m.onnx: a pipe, no file; expected" in capsys.readouterr().err


def test_an_xml_whose_marks_are_damaged_is_no_older_model(tmp_path: Path) -> None:
    path = write_tiny_openvino(tmp_path / "m.xml")
    path.write_bytes(path.read_bytes().replace(b"<afsd>", b"<afsE>"))
    with pytest.raises(SpecError, match=r"m\.xml: is damaged or was changed after its export"):
        read_artifact(path)
