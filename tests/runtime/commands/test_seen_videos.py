"""Videos that a model has seen are found among those that judge it, by content and by name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.annotations.activitynet import load_annotations
from runtime.commands.evaluation.seen_videos import check_unseen, find_trained, warn_of_other_features
from runtime.errors import InputError, SpecError
from runtime.features.description import FEATURES, FeatureDescription, StreamFolder, write_description
from runtime.features.feature_set import open_model_features
from runtime.features.video_features import Features, identify_video
from runtime.spec.model import ModelSpec, Quantization, fuse_specs, spec_from_json
from runtime.spec.time_axis import FeatureSampling
from runtime.spec.training_videos import LISTED, TrainingVideos, join_training_videos, remember_videos
from tests.tiny import tiny_spec
from tests.tiny_backbone import feature_model_spec


def write(folder: Path, name: str, content: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content)
    return folder / name


def test_by_content_or_by_name(tmp_path: Path) -> None:
    """Against a list of cases: the same file under another name; another file of the same name; features."""
    files = {name: write(tmp_path, f"{name}.mp4", content) for name, content in (("a", "1"), ("b", "2"), ("c", "3"))}
    digests = {name: identify_video(path) for name, path in files.items()}
    np.save(tmp_path / "f.npy", np.zeros((3, 2), np.float32))
    videos: dict[str, Any] = {**files, "v_d": files["c"], "f": Features(tmp_path / "f.npy", "f")}
    known = {**digests, "v_d": digests["c"], "f": identify_video(videos["f"])}
    record = {
        "other": digests["a"],  # the file of a, under another name
        "b": "0" * 16,  # another file of the name b
        "d": "",  # of unknown content, annotated as v_d here
        "f": "1" * 16,  # features of the same video, made anew
    }
    assert find_trained(record, videos, known) == ["a", "v_d", "f"]
    assert find_trained({}, videos, known) == []


def spec_with(record: TrainingVideos | None, **changes: Any) -> ModelSpec:
    return replace(tiny_spec(), training_videos=record, **changes)


def test_what_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = {name: write(tmp_path, f"{name}.mp4", name) for name in ("a", "b", "c", "d", "e")}
    digests = {name: identify_video(path) for name, path in videos.items()}
    record = remember_videos({name: digests[name] for name in "abcd"}, fold="1")
    check_unseen(spec_with(replace(record, chosen={"x": digests["e"], "a": digests["a"]})), videos)
    assert capsys.readouterr().err.splitlines() == [
        "afsd: warning: the model was trained on 4 of the 5 judged videos (a, b, c and 1 more), so the result is far "
        "too good; --fold 1 judges on the videos that it has not seen",
        "afsd: warning: the best epoch of the model was chosen on 1 of the 5 judged videos (e), so the result is "
        "somewhat too good; judge on others",
    ]
    check_unseen(spec_with(replace(record, fold="1/S2")), {"a": videos["a"]})
    assert "far too good; judge on others (--subset, --fold)" in capsys.readouterr().err
    for harmless in (record, None, TrainingVideos()):
        check_unseen(spec_with(harmless), {"e": videos["e"]})
    assert capsys.readouterr().err == ""


def test_videos_of_the_calibration_are_refused_and_of_the_training_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = {"a": write(tmp_path, "a.mp4", "a"), "b": write(tmp_path, "b.mp4", "b")}
    known = {name: identify_video(path) for name, path in videos.items()}
    quantised = Quantization("openvino", "minmax", videos={"there": known["a"]})
    spec = spec_with(remember_videos({"b": known["b"]}), precision="int8", quantization=quantised)
    with pytest.raises(InputError, match=r"calibrated on 1 of the 2 videos, a \(there there\) among them"):
        check_unseen(spec, videos)
    assert capsys.readouterr().err == ""
    check_unseen(spec, videos, force=True)
    assert "trained on 1 of the 2 judged videos (b)" in capsys.readouterr().err


def test_a_spec_keeps_the_record_and_one_of_an_older_release_has_none() -> None:
    record = replace(remember_videos({"a": "0" * 16}, fold="2", feature_fold="2"), chosen={"b": ""})
    spec = spec_with(record)
    assert spec_from_json(spec.to_json(), "x.onnx") == spec
    older = json.loads(spec_with(None).to_json())
    del older["training_videos"]
    assert spec_from_json(json.dumps({**older, "schema": 5}), "x.onnx").training_videos is None
    broken = json.loads(spec.to_json())
    broken["training_videos"]["count"] = -1
    with pytest.raises(SpecError, match="count: got -1"):
        spec_from_json(json.dumps(broken), "x.onnx")


def test_two_streams_have_seen_what_either_has() -> None:
    rgb = spec_with(remember_videos({"a": "0" * 16, "b": "1" * 16}, fold="1"))
    flow = replace(tiny_spec("flow"), training_videos=remember_videos({"b": "1" * 16, "c": ""}, fold="1"))
    joined = fuse_specs(rgb, flow).training_videos
    assert joined == TrainingVideos({"a": "0" * 16, "b": "1" * 16, "c": ""}, 3, fold="1")
    other = remember_videos({"c": ""}, fold="2")
    assert join_training_videos(joined, other) == replace(joined, fold="")
    assert join_training_videos(None, other) == other
    assert join_training_videos(None, None) is None


def test_a_very_long_list_is_cut_and_says_how_many_there_are() -> None:
    record = remember_videos({f"v{number:06}": "" for number in range(3 * LISTED)})
    assert (len(record.trained), record.count) == (LISTED, 3 * LISTED)
    assert list(record.trained)[:3] == ["v000000", "v000003", "v000006"]


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """Features of two folds, of which each video has other ones; fold 1 tests v1, fold 2 v0."""
    rng = np.random.default_rng(0)
    for fold in ("1", "2"):
        (tmp_path / f"split{fold}").mkdir()
        for name in ("v0", "v1"):
            np.save(tmp_path / f"split{fold}" / f"{name}.npy", rng.normal(size=(40, 3)).astype(np.float32))
    entry = {"fps": 20, "annotations": [{"label": "jump", "segment": [0.5, 1.5]}]}
    splits = {"1": {"train": ["v0"], "test": ["v1"]}, "2": {"train": ["v1"], "test": ["v0"]}}
    content = {"database": {"v0": entry, "v1": entry}, "splits": splits}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    write_description(tmp_path / FEATURES, FeatureDescription("truth.json", (StreamFolder("split{fold}"),)))
    return tmp_path


def model(features: Path, fold: str) -> ModelSpec:
    """The spec of a model trained on a fold's training videos."""
    name = {"1": "v0", "2": "v1"}[fold]
    path = features / f"split{fold}" / f"{name}.npy"
    record = remember_videos({name: identify_video(Features(path, name))}, fold=fold, feature_fold=fold)
    return replace(feature_model_spec("afsd"), training_videos=record, features=FeatureSampling())


@pytest.mark.parametrize("place", ["features.json", "split{fold}"])
@pytest.mark.parametrize(("trained", "given"), [("1", "1"), ("1", "2"), ("2", "1")])
def test_features_of_another_fold_by_the_name_of_the_fold(
    place: str, trained: str, given: str, features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = load_annotations(features / "truth.json")
    spec = model(features, trained)
    warn_of_other_features(spec, open_model_features([features / place], spec, truth, fold=given))
    expected = f"the features are those of fold {given}, and the model was trained on those of fold {trained}: give"
    assert (expected in capsys.readouterr().err) == (trained != given)


@pytest.mark.parametrize(("trained", "given"), [("1", "1"), ("1", "2"), ("2", "1")])
def test_features_of_another_fold_by_their_content(
    trained: str, given: str, features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plain folder has no fold in its name: a training video is looked for, though it is not among the judged."""
    spec = model(features, trained)
    judged = [video for video in load_annotations(features / "truth.json") if video.name == "v1"]
    warn_of_other_features(spec, open_model_features([features / f"split{given}"], spec, judged))
    expected = "differ): they are of another fold, or were made anew; the model's are those of fold"
    assert (expected in capsys.readouterr().err) == (trained != given)


def test_features_without_any_training_video_are_taken(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = model(features, "1")
    shutil.rmtree(features / "split2")
    (features / "split2").mkdir()
    np.save(features / "split2" / "v1.npy", np.zeros((40, 3), np.float32))
    judged = [video for video in load_annotations(features / "truth.json") if video.name == "v1"]
    warn_of_other_features(spec, open_model_features([features / "split2"], spec, judged))
    assert capsys.readouterr().err == ""
