"""A feature set as others keep theirs: streams of different length, [C,T], v_ names. Trained, exported, judged, run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from export.to_onnx import export_onnx
from runtime.annotations.activitynet import VideoAnnotation, load_annotations
from runtime.cli import main
from runtime.detector import Detector
from runtime.engines import open_engine
from runtime.errors import InputError
from runtime.evaluation import evaluate
from runtime.features.description import FEATURES, FeatureDescription, StreamFolder, write_description
from runtime.features.feature_set import open_features, open_model_features
from runtime.features.video_features import Features, open_steps
from runtime.results.detections import Detections
from runtime.spec.tensors import TensorSpec
from tests.tiny import tiny_spec
from tests.training.feature_data import CLASSES, SAMPLING, small_feature_config
from training.run import train

STEPS, FLOW_STEPS, WIDTH = 90, 55, (8, 4)


def make_uneven_set(root: Path) -> Path:
    """Six videos whose flow has 55 steps where RGB has 90; an action of class k stands out in channel k of both."""
    rng = np.random.default_rng(5)
    database = {}
    for number, name in enumerate(f"{group}{k}" for group in "ab" for k in range(3)):
        streams = [rng.normal(0, 0.3, (steps, width)) for steps, width in zip((STEPS, FLOW_STEPS), WIDTH, strict=True)]
        annotations = []
        for label, start in enumerate((12 + 3 * number, 52 + 2 * number)):
            end = start + (6, 12)[label]
            for stream in streams:
                first, last = (round(edge * len(stream) / STEPS) for edge in (start, end))
                stream[first:last, label] += 2
            seconds = [((edge - 0.5) * 4 + 4) / 20 for edge in (start, end)]
            annotations.append({"label": CLASSES[label], "segment": seconds})
        for folder, stream in zip(("rgb", "flow"), streams, strict=True):
            (root / folder).mkdir(parents=True, exist_ok=True)
            np.save(root / folder / f"v_{name}.npy", stream.T.astype(np.float32))
        database[name] = {"fps": 20, "duration": STEPS * 4 / 20 + 0.2, "annotations": annotations}
    names = {group: [name for name in database if name[0] == group] for group in "ab"}
    splits = {group: {"train": names["b" if group == "a" else "a"], "test": names[group]} for group in "ab"}
    (root / "annotations.json").write_text(json.dumps({"database": database, "splits": splits}))
    streams = (StreamFolder("rgb"), StreamFolder("flow"))
    description = FeatureDescription("annotations.json", streams, SAMPLING, layout="channels_first", uneven="stretch")
    write_description(root / FEATURES, description)
    return root


def stretched_by_hand(root: Path, name: str) -> NDArray[np.float32]:
    """Both streams [T,C] side by side, flow interpolated between the centres of its steps, one channel at a time."""
    rgb, flow = (np.load(root / folder / f"v_{name}.npy") for folder in ("rgb", "flow"))
    centres = (np.arange(STEPS) + 0.5) * FLOW_STEPS / STEPS - 0.5
    rows = [np.interp(centres, np.arange(FLOW_STEPS), channel) for channel in flow]
    return np.concatenate([rgb.T, np.stack(rows, axis=1)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The set, and a model trained on its videos a… and exported."""
    root = make_uneven_set(tmp_path_factory.mktemp("uneven"))
    config = small_feature_config("a2net_gtea", root, "optimiser.epochs=1")
    return root, export_onnx(train(config, root / "run"), say=lambda _: None)


def assert_same(found: Detections, expected: Detections) -> None:
    assert len(found) > 0
    np.testing.assert_allclose(found.segments, expected.segments, atol=1e-4)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_what_training_accepts_is_detected_in(trained: tuple[Path, Path]) -> None:
    root, model = trained
    detector = Detector(model)
    assert (detector.spec.feature_uneven, detector.spec.channels) == ("stretch", sum(WIDTH))
    files = [root / folder / "v_b1.npy" for folder in ("rgb", "flow")]
    expected = detector.run(Features(stretched_by_hand(root, "b1"), "b1", 20, 18.2))
    assert_same(detector.run(Features(files, "b1", 20, 18.2)), expected)
    truth = [VideoAnnotation("b1", "", 18.2, 20.0, ())]
    for places in ([root / FEATURES], [root / "rgb", root / "flow"]):
        opened = open_model_features(places, detector.spec, truth)
        assert_same(detector.run(opened.features("b1")), expected)
    with pytest.raises(InputError, match="b1: streams of 90 and 55 steps, expected a difference of at most 2"):
        detector.run(Features(files, "b1", 20, uneven="cut"))


def test_what_training_accepts_is_evaluated(trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    root, model = trained
    tables = []
    for places in ([root / FEATURES], [root / "rgb", root / "flow"]):
        arguments = [str(model), str(root / "annotations.json"), "--fold", "b", "--features", *map(str, places)]
        assert main(["evaluate", *arguments, "--json"]) == 0
        tables.append(json.loads(capsys.readouterr().out))
    assert tables[0] == tables[1]
    truth = [video for video in load_annotations(root / "annotations.json") if video.name[0] == "b"]
    detector = Detector(model)
    found = [detector.run(Features(stretched_by_hand(root, v.name), v.name, v.fps, v.duration_s)) for v in truth]
    assert tables[0]["average_mAP"] == pytest.approx(evaluate(found, truth).average, abs=1e-6)


def test_features_made_in_another_way_are_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    root, model = trained
    content = json.loads((root / FEATURES).read_text())
    content["sampling"]["stride"] = 8
    content["streams"] = [{"folder": str(root / stream["folder"])} for stream in content["streams"]]
    (tmp_path / FEATURES).write_text(json.dumps(content))
    spec = open_engine(model).spec
    with pytest.raises(InputError, match=r"sampling.stride is 8.0, the model was trained on features with 4.0; use"):
        open_model_features([tmp_path / FEATURES], spec, [VideoAnnotation("b1", "", 18.2, 20.0, ())])


def test_a_model_of_swapped_streams_sees_them_in_its_order_wherever_they_come_from(
    trained: tuple[Path, Path],
) -> None:
    """Both streams have one width, so nothing but the order tells them apart."""
    root, model = trained
    same = {name: np.load(root / folder / "v_b1.npy")[:4] for name, folder in (("rgb", "rgb"), ("flow", "flow"))}
    there = root / "same"
    for name, array in same.items():
        (there / name).mkdir(parents=True)
        np.save(there / name / "b1.npy", array)
    (there / "annotations.json").write_text('{"database": {"b1": {"fps": 20, "annotations": []}}}')
    streams = (StreamFolder("rgb"), StreamFolder("flow"))
    write_description(
        there / FEATURES, FeatureDescription("annotations.json", streams, SAMPLING, "channels_first", uneven="stretch")
    )
    with Detector(model) as detector:
        features = TensorSpec("features", ("batch", 8, 32), "float32")
        narrow = replace(detector.spec, inputs=(features, detector.spec.inputs[1]))
    truth = [VideoAnnotation("b1", "", None, 20.0, ())]
    for order in ((0, 1), (1, 0)):
        spec = replace(narrow, feature_streams=order)
        trained_on, _ = open_features(there / FEATURES, streams=order)
        expected = trained_on.read("b1")
        for places in ([there / FEATURES], [there / "rgb", there / "flow"]):
            given = open_model_features(places, spec, truth).features("b1")
            np.testing.assert_array_equal(open_steps(given, spec).read(), expected)
        files = Features([there / "rgb" / "b1.npy", there / "flow" / "b1.npy"], layout="channels_first")
        np.testing.assert_array_equal(open_steps(files, spec).read(), expected)


def test_a_set_is_detected_in_by_one_command(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, model = trained
    assert main(["detect", str(model), str(root / FEATURES), "--score", "0", "--out", str(tmp_path)]) == 0
    names = sorted(f"{group}{k}.json" for group in "ab" for k in range(3))
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == names
    written = json.loads((tmp_path / "b1.json").read_text())["results"]["b1"]
    detector = Detector(model)
    expected = detector.run(Features(stretched_by_hand(root, "b1"), "b1", 20, 18.2))
    assert len(written) == len(expected)
    assert "b1" in capsys.readouterr().out


def test_features_with_other_times_are_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    root, model = trained
    content = json.loads((root / FEATURES).read_text())
    content["sampling"]["offset"] = 0
    (tmp_path / FEATURES).write_text(json.dumps(content))
    with pytest.raises(InputError, match="middle of step 0 is frame 0, the model was trained on features with 4"):
        open_model_features([tmp_path / FEATURES], open_engine(model).spec, [VideoAnnotation("b1", "", 18.2, 20.0, ())])


def test_a_video_named_as_a_path_writes_nothing_outside_the_folder(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, model = trained
    folder = tmp_path / "set"
    for stream in ("rgb", "flow"):
        (folder / stream).mkdir(parents=True)
        np.save(folder / f"evil{stream}.npy", np.load(root / stream / "v_b1.npy"))
    content = json.loads((root / FEATURES).read_text())
    content["streams"] = [{"folder": stream, "suffix": stream} for stream in ("rgb", "flow")]
    (folder / FEATURES).write_text(json.dumps(content))
    entry = {"fps": 20, "duration": 18.2, "annotations": []}
    (folder / "annotations.json").write_text(json.dumps({"database": {"../evil": entry}}))
    out = tmp_path / "a" / "out"
    assert main(["detect", str(model), str(folder / FEATURES), "--score", "0", "--out", str(out)]) == 2
    assert "the name of a video is '../evil', which leads out of its folder" in capsys.readouterr().err
    assert not list(tmp_path.rglob("evil.json"))


def test_features_for_a_model_on_frames_are_refused(trained: tuple[Path, Path]) -> None:
    truth = [VideoAnnotation("b1", "", 18.2, 20.0, ())]
    with pytest.raises(InputError, match="features, and the model sees rgb frames; give it the videos themselves"):
        open_model_features([trained[0] / FEATURES], tiny_spec(), truth)
