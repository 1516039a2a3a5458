"""Decoding of the two-stage detector against its formulas, one number at a time, and its proposals kept in a file."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.decoding.candidates import Candidates
from runtime.decoding.two_stage import TWO_STAGE_OUTPUTS, decode_proposals, decode_two_stage
from runtime.detector import Detector
from runtime.errors import EngineError, InputError
from runtime.features.video_features import Features
from runtime.segments import tiou
from runtime.spec.decoding_constants import Decoding, TwoStageDecoding
from runtime.spec.model import ModelSpec
from runtime.spec.tensors import TensorSpec
from tests.tiny_backbone import WINDOW, feature_model_spec
from tests.training.cross_validation.test_kept_candidates import DrawnEngine
from training.cross_validation.kept_candidates import KeptCandidates, keep_candidates, read_candidates, write_candidates

COUNT = 6


def two_stage_spec() -> ModelSpec:
    """Six proposals of a window of 16 steps at 5 per second, classes a and b."""
    outputs = zip(TWO_STAGE_OUTPUTS, (2, 1, 3, 2), strict=True)
    return replace(
        feature_model_spec("afsd"),
        family="two_stage",
        outputs=tuple(TensorSpec(name, ("batch", COUNT, width), "float32") for name, width in outputs),
        decoding=Decoding(score_threshold=0.05),
        two_stage=TwoStageDecoding(),
    )


def drawn_outputs(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Two windows; the last proposal of each is none."""
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.uniform(0, WINDOW, (2, COUNT, 2)), axis=2)
    outputs = {
        "proposals": ends,
        "prop_score": np.sort(rng.uniform(0.2, 1, (2, COUNT, 1)), axis=1)[:, ::-1],
        "cls": rng.normal(0, 1, (2, COUNT, 3)),
        "reg": rng.normal(0, 0.3, (2, COUNT, 2)),
    }
    outputs["proposals"][:, -1] = outputs["prop_score"][:, -1] = 0
    return {name: value.astype(np.float32) for name, value in outputs.items()}


@pytest.mark.parametrize("length", [None, 9])
def test_proposals_are_refined_and_scored_by_the_formulas(length: int | None) -> None:
    spec, outputs = two_stage_spec(), drawn_outputs()
    found = decode_two_stage(outputs, 1, 40, spec, length=length)
    expected = []
    for n in range(COUNT - 1):
        (start, end), _, logits, (dc, dw) = (outputs[name][1, n].tolist() for name in TWO_STAGE_OUTPUTS)
        centre = (start + end) / 2 + dc * (end - start)
        width = (end - start) * math.exp(dw)
        ends = [min(max(x, 0), length or WINDOW) for x in (centre - width / 2, centre + width / 2)]
        for label in (0, 1):
            score = math.exp(logits[label + 1]) / sum(map(math.exp, logits))
            if ends[1] > ends[0] and score > 0.05:
                expected.append(((40 + ends[0]) / 5, (40 + ends[1]) / 5, label, score))
    assert found.labels.tolist() == [row[2] for row in expected]
    np.testing.assert_allclose(found.segments, [row[:2] for row in expected], atol=1e-5)
    np.testing.assert_allclose(found.scores, [row[3] for row in expected], rtol=1e-5)


def test_the_first_stages_proposals_are_given_as_they_are() -> None:
    spec, outputs = two_stage_spec(), drawn_outputs()
    found = decode_proposals(outputs, 0, 10, spec)
    np.testing.assert_allclose(found.segments, (outputs["proposals"][0, :-1] + 10) / 5, rtol=1e-6)
    np.testing.assert_array_equal(found.scores, outputs["prop_score"][0, :-1, 0])
    cut = decode_proposals(outputs, 0, 10, spec, length=4)
    assert cut.segments.max() <= 14 / 5
    assert set(found.labels) == {0}


def test_what_is_no_proposal_and_what_is_empty() -> None:
    """Of three alike: one has no strength, one lies behind the end of the video, one begins before the window."""
    spec, outputs = two_stage_spec(), drawn_outputs()
    outputs["proposals"][0, :3] = [4, 6], [10, 12], [-2, 2]
    outputs["prop_score"][0, :3, 0] = 0, 0.5, 0.5
    outputs["prop_score"][0, 3:] = 0
    outputs["reg"][0] = outputs["cls"][0] = 0  # each score is 1/3
    proposed, found = decode_proposals(outputs, 0, 0, spec, length=9), decode_two_stage(outputs, 0, 0, spec, length=9)
    assert proposed.segments.tolist() == [[0.0, pytest.approx(0.4)]]
    assert found.segments.tolist() == [[0.0, pytest.approx(0.4)]] * 2
    everything = decode_two_stage(outputs, 0, 0, spec, length=9, keep_empty=True)
    assert everything.segments[:2].tolist() == [[pytest.approx(1.8)] * 2] * 2
    assert len(everything) == 4
    third = float(np.float32(1) / np.float32(3))
    assert len(decode_two_stage(outputs, 0, 0, spec, score_threshold=third)) == 0  # only what is above
    assert len(decode_two_stage(outputs, 0, 0, spec, score_threshold=third - 1e-6)) == 4


@pytest.mark.parametrize("name", TWO_STAGE_OUTPUTS)
def test_nan_and_missing_outputs(name: str) -> None:
    outputs = drawn_outputs()
    outputs[name][0, 2] = np.nan
    with pytest.raises(EngineError, match="the network gave NaN in the window at 8 s"):
        decode_two_stage(outputs, 0, 40, two_stage_spec())
    assert len(decode_two_stage(outputs, 1, 40, two_stage_spec()))
    with pytest.raises(InputError, match=rf"output '{name}' has shape \(2, 5, "):
        decode_two_stage({**outputs, name: outputs[name][:, 1:]}, 0, 40, two_stage_spec())
    del outputs[name]
    with pytest.raises(InputError, match=f"expected also '{name}'"):
        decode_two_stage(outputs, 0, 40, two_stage_spec())


class DrawnProposals(DrawnEngine):
    """Outputs drawn anew for every window, the same for the same features."""

    def infer(self, inputs: object) -> dict[str, NDArray[np.float32]]:
        windows = inputs["features"]  # type: ignore[index]
        each = [drawn_outputs(zlib.crc32(window.tobytes())) for window in windows]
        return {name: np.stack([outputs[name][0] for outputs in each]) for name in TWO_STAGE_OUTPUTS}


def test_candidates_and_proposals_are_kept_apart(tmp_path: Path) -> None:
    """Detections of what is kept are the detector's; proposals of neighbouring windows go through the NMS once more."""
    spec = two_stage_spec()
    detector = Detector(DrawnProposals(spec))
    steps = np.random.default_rng(5).normal(size=(45, 3)).astype(np.float32)
    write_candidates(tmp_path / "c.npz", KeptCandidates(spec, (keep_candidates(detector, Features(steps, "v", 20)),)))
    kept = read_candidates(tmp_path / "c.npz")
    (found,), (proposed,) = kept.detections(), kept.proposals()
    expected = detector.run(Features(steps, "v", 20))
    np.testing.assert_array_equal(found.segments, expected.segments)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert proposed.classes == ("action",)
    outputs = [detector.engine.infer({"features": steps[None, at : at + WINDOW].mT.copy()}) for at in OFFSETS]
    windows = [decode_proposals(each, 0, at, spec) for at, each in zip(OFFSETS, outputs, strict=True)]
    everything = Candidates.concatenate(windows)
    ranked = sorted(zip(everything.scores, *everything.segments.T, strict=True), reverse=True)
    best: list[tuple[float, float, float]] = []
    for row in ranked:
        if all(tiou(np.array([row[1:]]), np.array(one[1:]))[0] <= 0.7 for one in best):
            best.append(row)
    assert len(best) < len(ranked)
    np.testing.assert_allclose(proposed.scores, [row[0] for row in best])
    starts = [max(row[1] + (4 - 2) / 20, 0) for row in best]  # step 0 is centred on frame 4 and begins 2 before it
    np.testing.assert_allclose(proposed.segments[:, 0], starts, atol=1e-6)


OFFSETS = (0, 8, 16, 24, 29)
"""Of the windows of 45 steps; the last one ends with them."""


def test_other_networks_have_no_proposals() -> None:
    with pytest.raises(InputError, match="the network is afsd, expected a two-stage detector"):
        KeptCandidates(feature_model_spec("afsd"), ()).proposals()


@pytest.mark.parametrize("threshold", [0.0, 1.5, float("nan")])
def test_a_threshold_that_cannot_be(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"proposal_nms: got .*above 0, up to 1"):
        TwoStageDecoding(threshold)


def test_a_spec_that_contradicts_itself() -> None:
    with pytest.raises(ValueError, match="family is afsd: expected `two_stage` of two_stage, and only there"):
        replace(two_stage_spec(), family="afsd")
