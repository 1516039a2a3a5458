"""Kept candidates against the detector itself: suppressed as they are, under another λ, of one module, and fused."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.detector import Detector, DetectorOptions
from runtime.errors import InputError
from runtime.features.video_features import Features
from runtime.results.detections import Detections
from runtime.spec.model import ModelSpec
from runtime.suppression.nms import hard_nms
from tests.tiny_backbone import feature_model_spec
from training.cross_validation.kept_candidates import (
    KeptCandidates,
    fuse_late,
    keep_candidates,
    read_candidates,
    write_candidates,
)

FPS = 20
"""Of the video; the spec says 4 frames from step to step."""
STEPS = 45
"""Four windows and a padded one."""


class DrawnEngine:
    """Raw outputs drawn anew for every window, the same for the same features."""

    library, device, precision = "numpy", "cpu", "fp32"

    def __init__(self, spec: ModelSpec, seed: int = 0) -> None:
        self.spec, self._seed = spec, seed

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        outputs: dict[str, list[NDArray[np.float64]]] = {tensor.name: [] for tensor in self.spec.outputs}
        for window in inputs["features"]:
            rng = np.random.default_rng([self._seed, zlib.crc32(window.tobytes())])
            for tensor in self.spec.outputs:
                outputs[tensor.name].append(rng.normal(0, 2, tensor.shape[1:]))
        return {name: np.array(values, np.float32) for name, values in outputs.items()}

    def close(self) -> None:
        """Nothing to close."""


def steps() -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(size=(STEPS, 3)).astype(np.float32)


def balanced(spec: ModelSpec, balance: float) -> ModelSpec:
    assert spec.a2net_decoding is not None
    return replace(spec, a2net_decoding=replace(spec.a2net_decoding, balance=balance))


def detected(spec: ModelSpec, options: DetectorOptions | None = None, seed: int = 0) -> Detections:
    return Detector(DrawnEngine(spec, seed), options=options).run(Features(steps(), "v", FPS))


def kept(spec: ModelSpec, options: DetectorOptions | None = None, seed: int = 0) -> KeptCandidates:
    detector = Detector(DrawnEngine(spec, seed), options=options)
    return KeptCandidates(spec, (keep_candidates(detector, Features(steps(), "v", FPS)),))


def assert_same(got: Detections, expected: Detections) -> None:
    assert len(got) > 5
    assert (got.video, got.classes) == (expected.video, expected.classes)
    for name in ("segments", "labels", "scores"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))


@pytest.mark.parametrize("family", ["afsd", "a2net"])
@pytest.mark.parametrize("nms", ["local", "reference"])
def test_the_detector_s_detections_come_out_of_the_file(family: str, nms: Any, tmp_path: Path) -> None:
    options, spec = DetectorOptions(nms=nms, batch_size=2, min_score=0.1), feature_model_spec(family)
    write_candidates(tmp_path / "kept.npz", kept(spec, options))
    (found,) = read_candidates(tmp_path / "kept.npz").detections(options)
    assert_same(found, detected(spec, options))


@pytest.mark.parametrize("balance", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_another_balance_is_the_detector_of_that_balance(balance: float) -> None:
    spec = feature_model_spec("a2net")
    (found,) = kept(spec).balance(balance).detections()
    assert_same(found, detected(balanced(spec, balance)))


def test_late_fusion_is_one_nms_over_all_candidates() -> None:
    spec = feature_model_spec("a2net")
    members, weights = [kept(spec, seed=seed) for seed in (0, 1)], (0.8, 2.0)
    (found,) = fuse_late(members, weights).detections(DetectorOptions(nms="reference"))
    for label in (0, 1):
        segments, scores = [], []
        for member, weight in zip(members, weights, strict=True):
            candidates = member.videos[0].candidates
            chosen = candidates.take(candidates.labels == label)
            segments.append(chosen.segments)
            scores.append(chosen.scores * weight / 2.0)
        rows, values = np.concatenate(segments), np.concatenate(scores)
        chosen = hard_nms(rows, values, 0.2, 200)
        got = found.of_class(spec.classes[label])
        np.testing.assert_allclose(np.sort(got.scores), np.sort(values[chosen]))
        assert len(got) > 5


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    one, afsd = kept(feature_model_spec("a2net")), kept(feature_model_spec("afsd"))
    with pytest.raises(InputError, match=r"λ 0\.2: the candidates are of afsd, expected a2net's"):
        afsd.balance(0.2)
    with pytest.raises(InputError, match="the networks differ in classes, videos or seconds per step"):
        fuse_late([one, replace(one, videos=(replace(one.videos[0], video="w"),))])
    with pytest.raises(InputError, match="expected one above 0 for each"):
        fuse_late([one, one], [1.0])
    with pytest.raises(InputError, match="file of candidates not found"):
        read_candidates(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_text("no archive")
    with pytest.raises(InputError, match="not a file of candidates"):
        read_candidates(tmp_path / "bad.npz")
