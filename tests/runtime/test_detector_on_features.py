"""From the features of a video to detections in seconds, with networks whose outputs are known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.annotations.activitynet import Instance, VideoAnnotation
from runtime.cli import main
from runtime.detector import Detector, DetectorOptions
from runtime.errors import InputError
from runtime.evaluation.annotated_videos import warn_unknown
from runtime.features.feature_set import open_model_features
from runtime.features.video_features import Features
from runtime.results.detections import Detections
from runtime.spec.model import ModelSpec, spec_from_json
from runtime.spec.time_axis import FeatureSampling
from tests.tiny import TinyEngine
from tests.tiny_backbone import LAYOUT, SAMPLING, WINDOW, feature_model_spec

WIDTH = 3


class LoudEngine:
    """Finds class a where channel 0 is 1, and b where channel 1 is: one segment per window, steps s to e − 1."""

    library, device, precision = "numpy", "cpu", "fp32"

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.calls: list[dict[str, NDArray[Any]]] = []

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        self.calls.append(dict(inputs))
        features = inputs["features"]
        outputs = {t.name: np.zeros((len(features), *map(int, t.shape[1:])), np.float32) for t in self.spec.outputs}
        logits = {"afsd": ("conf", "prop_conf"), "a2net": ("af_cls", "ab")}[self.spec.family]
        for name in logits:
            outputs[name][..., 0] = 20  # background
        for window, values in enumerate(features):
            for label in (0, 1):
                loud = np.flatnonzero(values[label])
                if len(loud):
                    self._find(outputs, window, label, float(loud[0]), float(loud[-1] + 1))
        return outputs

    def _find(self, outputs: dict[str, NDArray[np.float32]], window: int, label: int, s: float, e: float) -> None:
        """By the location of the finest level in whose cell of 2 steps the middle lies."""
        cell = int((s + e) / 2 // 2)
        if self.spec.family == "afsd":
            centre = 2 * cell + 1
            outputs["loc"][window, cell] = centre - s, e - centre
            outputs["center"][window, cell] = 20
            for name in ("conf", "prop_conf"):
                outputs[name][window, cell] = np.eye(3)[label + 1] * 40
        else:  # point cell + ½ rounded down, in units of 2 steps
            outputs["af_reg"][window, cell] = cell - s / 2, e / 2 - cell
            outputs["af_cls"][window, cell] = np.eye(3)[label + 1] * 40

    def close(self) -> None:
        """Nothing to release."""


def features_with(steps: int, *actions: tuple[int, int, int]) -> NDArray[np.float32]:
    features = np.zeros((steps, WIDTH), np.float32)
    for label, start, end in actions:
        features[start:end, label] = 1
    return features


def seconds(step: float) -> float:
    """The formula of the feature set, of 20 frames per second: the middle of step 0 is frame 4."""
    return ((step - 0.5) * 4 + 4) / 20


ACTIONS = ((0, 3, 7), (1, 18, 24), (0, 33, 39))


@pytest.mark.parametrize("family", ["afsd", "a2net"])
@pytest.mark.parametrize("nms", ["local", "reference"])
@pytest.mark.parametrize("batch", [1, 3])
def test_actions_are_found_at_their_seconds(family: str, nms: str, batch: int) -> None:
    """Each lies whole in two windows at most; what a window shows in part is found in part, and overlaps the whole."""
    options = DetectorOptions(nms=nms, batch_size=batch, min_score=0.5)  # type: ignore[arg-type]
    detector = Detector(LoudEngine(feature_model_spec(family)), options=options)
    found = detector.run(Features(features_with(41, *ACTIONS), name="v", fps=20))
    best = {(d.label, round(d.start_s, 4), round(d.end_s, 4)) for d in found if d.score > 0.9}
    wanted = {("ab"[label], round(seconds(s), 4), round(seconds(e), 4)) for label, s, e in ACTIONS}
    missed = wanted - best
    if (family, nms) == ("afsd", "reference"):  # the published soft-NMS never gives the last candidate of a class
        missed = {one for one in missed if one[0] != "b"}
    assert missed == set()
    assert (found.video, found.classes) == ("v", ("a", "b"))
    assert detector.timing.windows == 5  # 0, 8, 16, 24 and the last, 25
    assert sum(len(call["lengths"]) for call in detector.engine.calls) == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", ["afsd", "a2net"])
def test_a_video_shorter_than_a_window_is_padded_and_cut(family: str) -> None:
    engine = LoudEngine(feature_model_spec(family))
    found = Detector(engine, options=DetectorOptions(min_score=0.5)).run(features_with(9, (1, 4, 9)), fps=20)
    (call,) = engine.calls
    assert call["features"].shape == (1, WIDTH, WINDOW)
    assert call["lengths"].tolist() == [9]
    np.testing.assert_array_equal(call["features"][0, :, 9:], 0)
    assert [(d.label, d.start_s, d.end_s) for d in found] == [
        ("b", pytest.approx(seconds(4)), pytest.approx(seconds(9)))
    ]


def test_detections_end_with_the_video() -> None:
    detector = Detector(LoudEngine(feature_model_spec("afsd")), options=DetectorOptions(min_score=0.5))
    features = features_with(16, (0, 0, 4), (1, 12, 16))
    whole = detector.run(features, fps=20)
    assert whole.segments.max() == pytest.approx(((16 - 0.5) * 4 + 4) / 20)  # before the last snippet's end, 3.4 s
    assert detector.run(Features(features, fps=20, duration_s=3.0)).segments.max() == 3.0
    early = replace(feature_model_spec("afsd"), features=FeatureSampling(stride=4, window=8, offset=0))
    shifted = Detector(LoudEngine(early), options=DetectorOptions(min_score=0.5)).run(features, fps=20)
    assert shifted.segments.min() == 0  # by the formula −0.1 s


def test_files_layouts_streams_and_skipped_steps(tmp_path: Path) -> None:
    features = features_with(41, *ACTIONS)
    np.save(tmp_path / "v.npy", features.astype(np.float16))
    np.savez(tmp_path / "w.npz", feats=features.T)
    for number, part in enumerate(np.split(features, [1], axis=1)):
        np.save(tmp_path / f"{number}.npy", part)
    detector = Detector(LoudEngine(feature_model_spec("afsd")))
    expected = detector.run(features, fps=20)
    for given in (["v.npy"], ["w.npz"], ["0.npy", "1.npy"]):
        found = detector.run(Features([tmp_path / name for name in given], fps=20))
        np.testing.assert_array_equal(found.segments, expected.segments)
        assert found.video == given[0].split(".")[0]
    every = replace(feature_model_spec("afsd"), features=replace(SAMPLING, stride=2, every=2))
    skipped = Detector(LoudEngine(every)).run(np.repeat(features, 2, axis=0), fps=20)
    np.testing.assert_array_equal(skipped.segments, expected.segments)


def test_features_spread_over_the_whole_video() -> None:
    spec = feature_model_spec("a2net", sampling="whole_video", features=FeatureSampling(whole_video=True))
    detector = Detector(LoudEngine(spec), options=DetectorOptions(min_score=0.5))
    found = detector.run(Features(features_with(16, (0, 4, 8)), duration_s=32.0))
    np.testing.assert_allclose(found.segments, [[8, 16]])
    with pytest.raises(InputError, match="no duration"):
        detector.run(features_with(16))


def test_a_fixed_batch_is_filled_up() -> None:
    engine = LoudEngine(feature_model_spec("afsd", batch=2))
    found = Detector(engine, options=DetectorOptions(batch_size=2)).run(features_with(41, *ACTIONS), fps=20)
    assert [call["features"].shape[0] for call in engine.calls] == [2, 2, 2]
    alone = Detector(LoudEngine(feature_model_spec("afsd"))).run(features_with(41, *ACTIONS), fps=20)
    np.testing.assert_array_equal(found.segments, alone.segments)
    with pytest.raises(InputError, match="built for 2 windows"):
        Detector(engine)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            np.zeros((20, 5), np.float32),
            "v: features of 5 channels, the model takes 3; use the",
        ),
        (np.full((20, 3), np.nan, np.float32), "v: step 0, channel 0 is nan"),
        (np.zeros((0, 3), np.float32), "v: no step of features"),
        (np.zeros((20, 3, 1), np.float32), r"got float32 \[20, 3, 1\], expected an array of numbers \[T,C\]"),
        (np.full((20, 3), "x"), "expected an array of numbers"),
    ],
)
def test_features_that_do_not_fit(features: NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Detector(LoudEngine(feature_model_spec("afsd"))).run(Features(features, name="v", fps=20))


def test_misuse() -> None:
    detector = Detector(LoudEngine(feature_model_spec("afsd")))
    with pytest.raises(InputError, match="features: got none"):
        detector.run(Features(()))
    with pytest.raises(InputError, match="features: no frames per second"):
        detector.run(features_with(20))
    for rate in (0, -1.0, float("nan"), float("inf"), "15"):
        with pytest.raises(InputError, match=r"features: fps is .*, expected a positive number"):
            detector.run(features_with(20), fps=rate)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"features: duration_s is -2, expected a positive number"):
        detector.run(Features(features_with(20), fps=20, duration_s=-2))
    with pytest.raises(InputError, match="streams of 20 and 23 steps, expected a difference of at most 2"):
        detector.run(Features((features_with(20), features_with(23)), fps=20))
    with pytest.raises(InputError, match="v: features, and the model sees rgb frames; give it the video itself"):
        Detector(TinyEngine()).run(Features(features_with(20), "v"))
    for frames in ("video.mp4", 0, np.zeros((20, 8, 8, 3), np.uint8)):
        with pytest.raises(InputError, match="the model sees features, not frames; give it the features of the video"):
            detector.run(frames)


@pytest.mark.parametrize("family", ["afsd", "a2net"])
def test_the_spec_of_features_is_stored_and_read(family: str) -> None:
    spec = feature_model_spec(family)
    assert spec_from_json(spec.to_json(), "file") == spec
    assert spec.channels == WIDTH


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": None}, "stream is features: expected `features`"),
        ({"a2net": LAYOUT}, "family is afsd: expected `a2net`"),
        ({"family": "a2net", "a2net": LAYOUT}, "family is a2net: expected `a2net_decoding` of a2net, and only"),
    ],
)
def test_a_spec_that_contradicts_itself(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(feature_model_spec("afsd"), **changes)


def annotated_detections(detector: Detector, truth: list[VideoAnnotation], folder: Path) -> list[Detections]:
    opened = open_model_features([folder], detector.spec, truth)
    return [detector.run(opened.features(video.name)) for video in truth]


def test_annotated_videos(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", features_with(41, *ACTIONS))
    truth = [VideoAnnotation("v", "", 8.4, 20.0, ())]
    detector = Detector(LoudEngine(feature_model_spec("a2net")))
    (found,) = annotated_detections(detector, truth, tmp_path)
    np.testing.assert_array_equal(
        found.segments, detector.run(Features(tmp_path / "v.npy", fps=20, duration_s=8.4)).segments
    )
    np.savez(tmp_path / "v.npz", feats=np.zeros((4, 3)))
    for videos, message in (
        (truth, "features of 'v' exist twice"),
        ([replace(truth[0], name="w")], "no features of 'w'; extract them"),
    ):
        with pytest.raises(InputError, match=message):
            annotated_detections(detector, videos, tmp_path)


def test_a_missing_folder_of_features_is_named(tmp_path: Path) -> None:
    detector = Detector(LoudEngine(feature_model_spec("a2net")))
    with pytest.raises(InputError, match="none: folder not found, expected one with a feature file per video"):
        annotated_detections(detector, [VideoAnnotation("v", "", 8.4, 20.0, ())], tmp_path / "none")


def test_evaluate_takes_features_or_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = tmp_path / "truth.json"
    video = {"subset": "test", "annotations": [{"label": "a", "segment": [0, 1]}]}
    truth.write_text(json.dumps({"database": {"v": video}}))
    flags = ["--features", str(tmp_path), "--videos", str(tmp_path)]
    assert main(["evaluate", "model.onnx", str(truth), *flags]) == 2
    assert "--features: leave out --videos" in capsys.readouterr().err


def test_labels_that_the_model_does_not_know_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    spec = feature_model_spec("afsd")
    known, other = (Instance(0.0, 1.0, label) for label in (spec.classes[0], "dance"))
    warn_unknown(spec, [VideoAnnotation("v", "", 8.4, 20.0, (known,))])
    assert capsys.readouterr().err == ""
    warn_unknown(spec, [VideoAnnotation("v", "", 8.4, 20.0, (known, other))])
    assert "1 of 2 annotated classes are none of the model's (dance): their AP is 0" in capsys.readouterr().err


def test_a_model_of_some_streams_picks_them_from_all() -> None:
    """Two streams of a set of three: both ways to give them are the same, and one too few is refused."""
    spec = feature_model_spec("a2net", feature_streams=(2, 0))
    loud = features_with(41, *ACTIONS)
    streams = [loud[:, 1:], np.full((41, 7), 9.0, np.float32), loud[:, :1]]
    engine = LoudEngine(spec)
    detector = Detector(engine)
    detector.run(Features(streams, fps=20))
    detector.run(Features((streams[2], streams[0]), fps=20))
    half = len(engine.calls) // 2
    for first, second in zip(engine.calls[:half], engine.calls[half:], strict=True):
        np.testing.assert_array_equal(first["features"], second["features"])
    np.testing.assert_array_equal(engine.calls[0]["features"][0], loud[:WINDOW].T)
    with pytest.raises(InputError, match=r"1 streams, the model takes those numbered 2, 0 \(from 0\)"):
        detector.run(loud, fps=20)


def test_layouts_that_cannot_be_are_refused() -> None:
    features = features_with(20)
    assert Features(features, layout=["steps_first"]).layout == ("steps_first",)  # type: ignore[arg-type]
    for layout in ("x", ("steps_first", "steps_first"), (), ["channels"]):
        with pytest.raises(InputError, match=r"layout: got .*, expected 'steps_first' or 'channels_first'"):
            Features(features, layout=layout)  # type: ignore[arg-type]


def test_a_stream_without_steps_is_refused_though_it_could_be_stretched() -> None:
    spec = feature_model_spec("afsd", feature_uneven="stretch")
    with pytest.raises(InputError, match="v: no step of features"):
        Detector(LoudEngine(spec)).run(Features([features_with(0)[:, :1], features_with(9)[:, 1:]], "v", 20))
