"""`afsd export --stream --to tensorrt`: end to end on doubles of TensorRT and CUDA, and really built without a GPU."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.graph.export_input import Say
from export.graph.files import save_graph
from export.graph.trace import seeded_batches
from export.to_trt import TrtOptions, export_trt
from export.trt.build import BuildOptions, Plan, Profile
from export.trt.library import Library
from runtime.cli import main
from runtime.detector import Detector, DetectorOptions
from runtime.engines import open_engine
from runtime.engines.artifact import read_artifact
from runtime.engines.tensorrt.cuda import BINDINGS
from runtime.errors import EngineError, ExportError
from tests.export.streaming.small import Networks, noise, padded
from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import FakeTensorRt, plan_of
from tests.quantise import quantised_graph

PARTS = ["steady", "edge", "head"]

pytestmark = pytest.mark.slow  # what all share is exported first


class Builder:
    """A builder whose plans are the parts' ONNX files; `wrong` doubles the weights of one part."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.wrong = folder, ""
        self.profiles: list[Profile] = []

    def __call__(
        self, graph: onnx.ModelProto, profile: Profile, library: Library, options: BuildOptions, log: Path, say: Say,
        plugin_for: str = "",
    ) -> Plan:  # fmt: skip
        part = log.suffixes[-2][1:]
        if part == self.wrong:
            for k, weight in enumerate(graph.graph.initializer):
                if weight.data_type == onnx.TensorProto.FLOAT:
                    doubled = numpy_helper.from_array(2 * numpy_helper.to_array(weight), weight.name)
                    graph.graph.initializer[k].CopyFrom(doubled)
        model = self.folder / f"{len(self.profiles)}.{part}.onnx"
        onnx.save(graph, model)
        self.profiles.append(profile)
        (open_axis,) = {tuple(a != b for a, b in zip(low, high, strict=True)) for low, _, high in profile.values()}
        axis = open_axis.index(True)
        return Plan(plan_of(model, [shape[axis] for shape in next(iter(profile.values()))]), 1.0, 2.0, ())


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builder]:
    cuda, made = FakeCuda(), Builder(tmp_path)
    monkeypatch.setitem(sys.modules, BINDINGS, cuda)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt(cuda))  # type: ignore[arg-type]
    monkeypatch.setattr("export.trt.streaming.build_plan", made)
    yield made
    assert not cuda.memory
    assert not cuda.violations


@pytest.fixture
def clip(networks: Networks, tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return Path(shutil.copyfile(networks.onnx, tmp_path / "out" / "small.onnx"))


def options(**changes: Any) -> TrtOptions:
    return TrtOptions(**{"precision": "fp32", "library": "tensorrt", "pooling": "function", "stream": True, **changes})


def test_from_a_network_on_windows_to_detections(networks: Networks, clip: Path, builder: Builder) -> None:
    said: list[str] = []
    engine = export_trt(clip, options=options(), say=said.append)
    assert engine == clip.with_name("small.fp32.stream.engine")
    assert {path.name for path in clip.parent.iterdir()} == {
        clip.name, engine.name, "small.fp32.stream.json", "small.fp32.stream.engine.report.json",
    }  # fmt: skip
    artifact = read_artifact(engine)
    assert artifact.spec == read_artifact(networks.streams["onnx"]).spec
    assert artifact.build is not None
    assert [part.name for part in artifact.build.parts] == PARTS
    assert [part.lengths for part in artifact.build.parts] == [(8, 128, 128), (8, 128, 176), (1, 1, 8)]
    assert sum(part.size for part in artifact.build.parts) == engine.stat().st_size
    overlap = artifact.spec.streaming.overlap  # type: ignore[union-attr]
    assert builder.profiles[0] == {"steady/frames": tuple((1, overlap + n, 32, 32, 3) for n in (8, 128, 128))}
    assert [sorted(profile) for profile in builder.profiles[1:]] == [["edge/frames"], ["head/level_0", "head/level_1"]]
    assert sum("drift of fp32 (onnxruntime" in line for line in said) == 1  # the graph,
    assert sum("drift of fp32 (tensorrt 11.4.0 on cuda:0" in line for line in said) == 1  # then the engine
    video, given = padded(noise(150)), DetectorOptions(stride=8, score_threshold=0.0)
    expected = Detector(networks.streams["onnx"], options=given).run(video, fps=10.0)
    with Detector(engine, options=given) as detector:
        found = detector.run(video, fps=10.0)
    assert len(found)
    np.testing.assert_allclose(found.segments, expected.segments, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


@pytest.mark.parametrize("part", PARTS)
def test_an_engine_with_other_numbers_is_not_written(clip: Path, builder: Builder, part: str) -> None:
    builder.wrong = part
    with pytest.raises(ExportError):
        export_trt(clip, options=options(), say=lambda _: None)
    assert {path.name for path in clip.parent.iterdir()} == {clip.name}


def test_a_batch_without_single_windows(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", str(clip), "--to", "tensorrt", "--stream"]
    assert main([*command, "--batch", "2", "2", "4"]) == 2
    assert "--batch: got 2 as smallest, expected 1: streaming gives windows one by one, too" in capsys.readouterr().err


def test_a_streaming_network_again(networks: Networks, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(networks.streams["onnx"]), "--to", "tensorrt", "--stream"]) == 2
    assert "a streaming network already; give the one on windows" in capsys.readouterr().err


def test_the_command_for_another_machine(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("export.trt.library._try_import", lambda name: None)
    assert main(["export", str(clip), "--to", "tensorrt", "--stream", "--precision", "fp32"]) == 2
    assert f"on the machine with the GPU run python export/to_trt.py {clip} --stream" in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_rtx_builds_the_three_parts(clip: Path, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Really built, for a GPU that is not here: what it takes, and in which precision it computes."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed here (it comes for x86-64 Linux)")
    source, flags = clip, ["--precision", precision]
    if precision == "int8":
        source, flags = clip.with_name("small.int8.onnx"), []
        save_graph(quantised_graph(clip, "int8", list(seeded_batches(read_artifact(clip).spec))), source)
    command = ["export", str(source), "--to", "tensorrt", "--stream", "--library", "tensorrt-rtx", "--sm", "86"]
    assert main([*command, *flags]) == 0
    engine = clip.with_name(f"small.{precision}.stream.engine")
    artifact = read_artifact(engine)
    assert artifact.build is not None
    assert (artifact.build.library, artifact.build.precision) == ("tensorrt-rtx", precision)
    assert (artifact.build.architectures, artifact.build.pooling) == (("8.6",), "function")
    assert [part.name for part in artifact.build.parts] == PARTS
    kept = {"fp16": "float16", "bf16": "float32", "int8": "int8"}[precision]
    assert artifact.spec.streaming is not None
    assert kept in {state.dtype for state in artifact.spec.streaming.states}
    report = json.loads(engine.with_name(f"{engine.name}.report.json").read_text())
    found, heads = report["convolutions"], 15
    assert found["by_precision"] == {precision: found["total"] - heads, "fp32": heads}
    assert all("output head" in text for text in found["others"])
    for part in PARTS:
        assert "Layers:" in engine.with_name(f"{engine.name}.{part}.log").read_text()
    capsys.readouterr()
    assert main(["info", str(engine), "--verify"]) == 0
    with pytest.raises(EngineError, match=r"NVIDIA driver|architecture"):
        open_engine(engine)
