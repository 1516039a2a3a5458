"""`afsd calibrate` for networks on features of every family: clips, what judges, the file, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration.quantise.placement import Placement
from calibration.ranges.clips import draw_clips
from export.comparison.drift import measure_drift_on_windows, record
from export.graph.precision import output_convolutions, precision_of, require_symmetric
from export.to_openvino import export_openvino
from runtime.cli import main
from runtime.detector import Detector
from runtime.engines import open_engine
from runtime.errors import InputError
from runtime.features.feature_set import list_features
from runtime.features.video_features import Features, identify_video
from runtime.spec.model import Quantization
from runtime.video.names import video_digest
from tests.conftest import FeatureModel
from tests.training.feature_data import NETWORKS


@dataclass(frozen=True)
class Made:
    """A float32 ONNX file, its feature set, and the annotations of three test videos."""

    onnx: Path
    features: Path
    annotations: Path


pytestmark = pytest.mark.slow  # a network is trained, which the tests of the other verbs of calibration do without
MARKS = dict.fromkeys(("gtea", "two_stage_gtea"), pytest.mark.slow)  # the other one shares their way


@pytest.fixture(scope="module", params=[pytest.param(n, marks=MARKS.get(n, ())) for n in NETWORKS])
def made(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    feature_model: Callable[[str], FeatureModel],
) -> Made:
    root, _, path = feature_model(request.param)
    database = json.loads((root / "annotations.json").read_text())["database"]
    truth = tmp_path_factory.mktemp("truth") / "test.json"
    judged = {name: video | {"subset": "test"} for name, video in database.items() if name[0] == "b"}
    truth.write_text(json.dumps({"database": judged}))
    return Made(path, root / "rgb", truth)


def recorded(path: Path) -> Quantization:
    found = open_engine(path).spec.quantization
    assert found is not None
    return found


def in_8_bit(convolution: onnx.NodeProto, graph: onnx.ModelProto) -> bool:
    """Whether it reads rounded numbers and a rounded weight, pools and concatenations in between or not."""
    producers = {name: node for node in graph.graph.node for name in node.output}
    waiting = list(convolution.input[:2])
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.op_type in ("MaxPool", "Concat"):
            waiting.extend(node.input)
        elif node is None or node.op_type != "DequantizeLinear":
            return False
    return True


@pytest.mark.parametrize("target", ["openvino", pytest.param("tensorrt", marks=pytest.mark.slow)])
def test_one_command_from_features_to_a_file(
    made: Made, tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.int8.onnx"
    arguments = ["calibrate", str(made.onnx), "-o", str(out), "--target", target, "--features", str(made.features)]
    arguments += ["--annotations", str(made.annotations), "--clips", "7", "--correct-bias"]
    assert main(arguments) == 0
    assert "judging on 3 test videos" in capsys.readouterr().out
    files = {name: video_digest(made.features / f"{name}.npy") for name in ("a0", "a1", "a2")}
    assert recorded(out).videos == files  # those that judge are not calibrated on
    assert (recorded(out).clips, recorded(out).kept) == (7, ())
    graph, plain = onnx.load(out), onnx.load(made.onnx)
    assert precision_of(graph) == open_engine(out).precision == "int8"
    convolutions = [n for n in graph.graph.node if n.op_type == "Conv"]
    assert sum(in_8_bit(n, graph) for n in convolutions) == len(convolutions) - len(output_convolutions(plain))
    if target == "tensorrt":
        require_symmetric(graph, "made")
    report = json.loads(out.with_name(f"{out.name}.calibration.json").read_text())
    assert report["path"]["labelled"]
    assert 0 < report["path"]["steps"][0]["logits"] < 0.3
    drift = {o.name: o.relative for o in measure_drift_on_windows(open_engine(made.onnx), open_engine(out)).outputs}
    assert drift.keys() == {tensor.name for tensor in open_engine(made.onnx).spec.outputs}
    evaluate = ["evaluate", str(out), str(made.annotations), "--features", str(made.features)]
    assert main(evaluate) == 0
    if target == "openvino":
        written = export_openvino(out, tmp_path / "m.int8.xml", say=lambda _: None)
        assert measure_drift_on_windows(open_engine(out), open_engine(written)).outputs[0].relative < 0.3


def test_clips_are_the_detectors_windows(made: Made) -> None:
    """Every window of two videos, with the inputs that the detector gives its engine."""
    videos = list_features([made.features], open_engine(made.onnx).spec, ["a0", "b1"])
    engine = open_engine(made.onnx)
    given: list[dict[str, np.ndarray]] = []

    class Watched:
        spec, library, device, precision = engine.spec, engine.library, engine.device, engine.precision

        def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            given.append({name: np.array(value) for name, value in inputs.items()})
            return engine.infer(inputs)

        def close(self) -> None: ...

    detector = Detector(Watched())
    for video in videos:
        detector.run(video, fps=20)
    with draw_clips(videos, engine.spec, 99) as clips:
        drawn = list(clips)
        assert [clip.video for clip in clips.clips] == ["a0"] * (len(drawn) // 2) + ["b1"] * (len(drawn) // 2)
    assert len(drawn) == len(given)
    for expected, found in zip(given, drawn, strict=True):
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)
            assert found[name].dtype == value.dtype


def test_every_convolution_but_the_heads_is_a_layer(made: Made) -> None:
    """Multiply-adds of the layers beside a count over weights and lengths that does not use the placement."""
    graph = onnx.load(made.onnx)
    placement = Placement(graph, "small")
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.graph.value_info}
    weights = {w.name: list(w.dims) for w in graph.graph.initializer}
    heads = output_convolutions(graph)
    work = 0
    for node in graph.graph.node:
        if node.op_type == "Conv" and node.name not in heads:
            out, per_group, kernel = weights[node.input[1]]
            work += out * per_group * kernel * shapes[node.output[0]][2]
    assert sum(layer.multiply_adds for layer in placement.layers) == work


@pytest.mark.slow
def test_a_budget_on_features_keeps_to_it(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers restored until nothing is left to lose; the whole float network is the end of the path."""
    monkeypatch.setattr("calibration.judging.budget.RUNS", 1)
    monkeypatch.setattr("calibration.judging.budget.restored_counts", lambda layers: iter([0, 3, layers]))
    out = tmp_path / "m.onnx"
    arguments = ["calibrate", str(made.onnx), "-o", str(out), "--features", str(made.features), "--clips", "3"]
    assert main([*arguments, "--annotations", str(made.annotations), "--trade-off"]) == 0
    report = json.loads(out.with_name("m.onnx.calibration.json").read_text())
    steps = report["path"]["steps"]
    assert [len(step["restored"]) for step in steps][:2] == [0, 3]
    assert steps[0]["share"] > steps[1]["share"] > steps[2]["share"] == 0
    assert steps[2]["logits"] < 1e-4 < steps[0]["logits"]
    assert steps[2]["drop"] == pytest.approx(0, abs=1e-6)
    names = {tensor.name for tensor in open_engine(made.onnx).spec.outputs}
    assert all(cost["outputs"].keys() == names for cost in report["costs"])


@pytest.mark.usefixtures("without_openvino")
def test_a_video_that_judges_is_not_calibrated_on(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = tmp_path / "both"
    shutil.copytree(made.features, both)
    shutil.copy(made.features / "b1.npy", both / "another.npy")
    arguments = ["calibrate", str(made.onnx), "-o", str(tmp_path / "m.onnx"), "--features", str(both), "--clips", "7"]
    assert main([*arguments, "--annotations", str(made.annotations)]) == 2
    error = capsys.readouterr().err
    assert "another.npy is a test video too (1 of 4 are)" in error
    assert error.count("\n") == 1
    assert main([*arguments, "--annotations", str(made.annotations), "--force"]) == 0
    evaluate = ["evaluate", str(tmp_path / "m.onnx"), str(made.annotations), "--features", str(both)]
    capsys.readouterr()
    assert main(evaluate) == 2
    assert "calibrated on 1 of the 3 videos, b1 (another there) among them" in capsys.readouterr().err
    assert main([*evaluate, "--force"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", "none"], "none: folder not found, expected one with a feature file per video"),
        (["--features", "empty"], "empty: holds no .npy or .npz"),
        (["--features", "rgb", "--videos", "x"], "no features of 'x'; extract them"),
        (["--videos", "rgb/a0.npy"], "calibrate it on"),
        (["--features", "rgb", "--videos", "a0", "--test", "a0", "b0"], "a0.npy is a test video too (1 of 1 are)"),
        (["--features", "rgb", "--videos", "flat"], "nothing can be measured on them"),
        (["--features", "rgb", "--annotations", "rgb/test.json", "--test", "q"], "names none of the test videos"),
        (
            ["--features", "judged", "--annotations", "rgb/test.json"],
            "all 3 videos are test videos, so none is left for clips",
        ),
        (["--features", "rgb", "--fine-tune", "x.ckpt"], "fine-tuning is for frame models; leave out --fine-tune"),
    ],
)
def test_what_is_refused(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    shutil.copytree(made.features, tmp_path / "rgb")
    shutil.copy(made.annotations, tmp_path / "rgb" / "test.json")
    np.save(tmp_path / "rgb" / "flat.npy", np.zeros((40, 12), np.float32))
    shutil.copytree(made.features, tmp_path / "judged", ignore=shutil.ignore_patterns("a*"))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["calibrate", str(made.onnx), "-o", "m.onnx", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "m.onnx").exists()


def test_a_video_of_several_files_is_known_by_all_of_them(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 2.0), ("c", 1.0)):
        np.save(tmp_path / f"{name}.npy", np.full((3, 2), value, np.float32))
    a, b, c = (tmp_path / f"{name}.npy" for name in "abc")
    assert identify_video(Features(a, "x")) == identify_video(Features(c, "y")) == video_digest(a)
    assert identify_video(Features((a, b), "x")) == identify_video(Features((c, b), "y"))
    assert len({identify_video(Features(files, "x")) for files in ((a,), (a, b), (b, a))}) == 3


def test_frames_are_not_given_to_a_network_on_features(made: Made) -> None:
    with pytest.raises(InputError, match="the model sees features"):
        record(open_engine(made.onnx), ["video.mp4"])
