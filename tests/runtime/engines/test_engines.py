"""Engines against the tiny network in numpy, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from runtime.engines import Engine, open_engine, registry
from runtime.errors import EngineError, InputError, MissingDependencyError, SpecError
from runtime.spec.model import METADATA_KEY
from tests.tiny import CROP, LENGTH, TinyEngine, forward, tiny_spec, write_tiny_onnx, write_tiny_openvino
from tests.tiny_backbone import backbone_spec

LIBRARIES = ["onnxruntime", "openvino"]


def inputs(batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch)
    return {
        "frames": rng.integers(0, 256, (batch, LENGTH, *CROP, 3), dtype=np.uint8),
        "lengths": rng.integers(1, LENGTH + 1, batch).astype(np.int32),
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny network as a file of each library."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "onnxruntime": write_tiny_onnx(folder / "tiny.onnx", None),
        "openvino": write_tiny_openvino(folder / "tiny.xml"),
    }


@pytest.mark.parametrize("library", LIBRARIES)
def test_engine_equals_the_network(models: dict[str, Path], library: str) -> None:
    engine = open_engine(models[library])
    assert isinstance(engine, Engine)
    assert engine.spec == tiny_spec()
    assert engine.library.startswith(library)
    assert engine.device.startswith("cpu")
    for batch in (1, 3, 1):
        given = inputs(batch)
        outputs = engine.infer(given)
        for name, expected in forward(**given).items():
            assert outputs[name].dtype == np.float32
            np.testing.assert_allclose(outputs[name], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("library", LIBRARIES)
def test_outputs_outlive_the_next_call(models: dict[str, Path], library: str) -> None:
    engine = open_engine(models[library], threads=1)
    first = engine.infer(inputs(2))
    kept = {name: array.copy() for name, array in first.items()}
    engine.infer({**inputs(2), "frames": 255 - inputs(2)["frames"]})
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])


@pytest.mark.parametrize("library", LIBRARIES)
def test_arrays_that_do_not_fit(models: dict[str, Path], library: str) -> None:
    engine = open_engine(models[library])
    good = inputs(2)
    for bad, message in [
        ({"frames": good["frames"]}, "got frames, expected frames, lengths"),
        ({**good, "more": good["lengths"]}, "got frames, lengths, more"),
        ({**good, "frames": good["frames"].astype(np.float32)}, "'frames': got float32, expected an array of uint8"),
        ({**good, "lengths": [16, 16]}, "'lengths': got list"),
        (
            {**good, "frames": good["frames"][:, :15]},
            r"got shape \[2, 15, 8, 10, 3\], expected \[batch, 16, 8, 10, 3\]",
        ),
        ({**good, "lengths": good["lengths"][:1]}, "batches of 1 and 2"),
        ({"frames": good["frames"][:0], "lengths": good["lengths"][:0]}, r"got shape \[0, 16"),
    ]:
        with pytest.raises(InputError, match=message):
            engine.infer(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_closed_engine(models: dict[str, Path], library: str) -> None:
    engine = open_engine(models[library])
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(inputs(1))


def test_openvino_computes_in_fp32_unless_asked(models: dict[str, Path]) -> None:
    assert open_engine(models["openvino"]).device == "cpu (fp32)"
    with pytest.raises(InputError, match=r"an \.onnx file runs in the precision it was exported in"):
        open_engine(models["onnxruntime"], precision="bf16")


def test_openvino_in_bf16_is_bf16_or_an_error(models: dict[str, Path]) -> None:
    given = inputs(3)
    exact = open_engine(models["openvino"]).infer(given)["conf"]
    try:
        engine = open_engine(models["openvino"], precision="bf16")
    except EngineError as error:
        pytest.skip(f"this processor has no bf16: {error}")
    assert engine.device == "cpu (bf16)"
    difference = np.abs(engine.infer(given)["conf"] - exact).max()
    assert 1e-4 < difference < 0.2


@pytest.mark.parametrize("library", LIBRARIES)
def test_no_silent_cpu(models: dict[str, Path], library: str) -> None:
    with pytest.raises(EngineError, match="device 'gpu:7'"):
        open_engine(models[library], device="gpu:7")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "got 'tpu', expected 'cpu', 'gpu'"),
        ({"device": "gpu:x"}, "got 'gpu:x'"),
        ({"threads": 0}, "threads: got 0"),
        ({"precision": "int4"}, "precision: got 'int4'"),
        ({"library": "torch"}, "library: got 'torch'"),
        ({"provider": "rocm"}, "provider: got 'rocm', expected 'cuda' or 'tensorrt'"),
        ({"provider": "cuda", "device": "cpu"}, "provider cuda: runs on a GPU, got device 'cpu'"),
        ({"mode": "fast"}, "mode: got 'fast', expected 'latency' or 'throughput'"),
        ({"cuda_graph": True}, "cuda_graph: for TensorRT engines"),
    ],
)
def test_bad_options(models: dict[str, Path], options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_engine(models["onnxruntime"], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.onnx", "file not found"),
        ("model.engine", "file not found"),
        ("model.pth", r"not an engine file; expected one of \.onnx"),
        ("text.onnx", "not an ONNX file, or one that is damaged or cut short"),
    ],
)
def test_files_that_are_no_engines(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "text.onnx").write_text("this is no network")
    with pytest.raises(EngineError, match=message) as caught:
        open_engine(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_an_address_is_no_engine_file() -> None:
    with pytest.raises(EngineError, match=r"^s3://bucket/m.onnx: an address, expected an engine file; copy all files"):
        open_engine("s3://key:secret@bucket/m.onnx")


def test_engines_of_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.tiny"
    path.touch()
    entries = {
        "tiny": EntryPoint("tiny", "tests.tiny:open_tiny_engine", "afsd.engines"),
        "lost": EntryPoint("lost", "no_such_package:open", "afsd.engines"),
    }
    monkeypatch.setattr(registry, "entry_points", lambda group, name: [entries[name]] if name in entries else [])
    opened = open_engine(path, device="gpu:1")
    assert isinstance(opened, TinyEngine)
    assert opened.device == "cuda:1"
    with pytest.raises(InputError, match=r"a \.tiny file takes no number of threads"):
        open_engine(path, threads=2)
    with pytest.raises(InputError, match=r"a \.tiny file does not take compiled or precision; leave it out"):
        open_engine(path, precision="bf16", compiled=True)
    with pytest.raises(EngineError, match=r"onnxruntime cannot run a \.tiny file"):
        open_engine(path, library="onnxruntime")
    path.with_suffix(".lost").touch()
    with pytest.raises(EngineError, match="needs no_such_package, which is not installed: pip"):
        open_engine(path.with_suffix(".lost"))


def test_library_that_cannot_run_the_file(models: dict[str, Path]) -> None:
    with pytest.raises(EngineError, match=r"openvino cannot run a \.onnx file, onnxruntime can"):
        open_engine(models["onnxruntime"], library="openvino")


def test_onnx_without_a_fitting_spec(tmp_path: Path) -> None:
    cases = [
        ({}, "holds no ModelSpec, so it is cut off or no model of this project; write one with afsd export"),
        ({METADATA_KEY: "{"}, "not JSON"),
        ({METADATA_KEY: backbone_spec().to_json()}, "its inputs are frames, lengths, its ModelSpec says frames;"),
        (
            {METADATA_KEY: tiny_spec(window_length=32).to_json()},
            r"input 'frames' is \[\?, 16, 8, 10, 3\], its ModelSpec",
        ),
        ({METADATA_KEY: tiny_spec("flow").to_json()}, r"input 'frames' is \[\?, 16, 8, 10, 3\], its ModelSpec says"),
    ]
    for index, (metadata, message) in enumerate(cases):
        path = write_tiny_onnx(tmp_path / f"{index}.onnx", None, metadata)
        with pytest.raises(SpecError, match=message):
            open_engine(path)


@pytest.mark.parametrize(("library", "install"), [("onnxruntime", "onnxruntime"), ("openvino", r"'\.\[openvino\]'")])
def test_a_missing_library(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, library: str, install: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=f"{library}, which is not installed: pip install {install}"):
        open_engine(models[library])


@pytest.mark.parametrize("library", LIBRARIES)
def test_running_an_engine_loads_neither_torch_nor_onnx(models: dict[str, Path], library: str) -> None:
    code = (
        "import sys\nfrom runtime import open_engine\n"
        f"open_engine({str(models[library])!r})\n"
        "print(sorted({'torch', 'onnx'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
