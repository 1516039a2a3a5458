"""Decoding of A2Net's raw outputs, and its hard NMS, against plain loops over the golden outputs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.annotations.thumos14 import CLASS_IDS
from runtime.decoding.a2net import A2NET_OUTPUTS, copy_classes, decode_a2net
from runtime.decoding.candidates import Candidates
from runtime.errors import EngineError, InputError
from runtime.spec.anchors import RATIOS, A2NetLayout, default_anchors, level_points
from runtime.spec.decoding_constants import ACTIVITYNET, THUMOS14_COPIES, A2NetDecoding
from runtime.spec.model import ModelSpec
from runtime.spec.tensors import TensorSpec
from runtime.suppression.nms import hard_nms
from runtime.suppression.policies import HardSuppression, LocalHardSuppression, Suppression
from tests.tiny import LEVELS, tiny_spec

GOLDEN = Path(__file__).parents[2] / "golden"
THUMOS14 = A2NetLayout()
ACTIVITYNET_LAYOUT = A2NetLayout(
    (64, 32, 16, 8, 4, 2, 1), (RATIOS,) * 6 + ((0.5, 0.75, 1.0),), 6, "overlap", num_classes=2
)
FPS, FRAMES = 30, 512
"""Of a THUMOS14 window."""

Outputs = dict[str, NDArray[np.float32]]
Detection = tuple[int, float, float, float]
"""class index, start, end, score"""


def golden(network: str) -> Outputs:
    arrays = dict(np.load(GOLDEN / f"formula_a2net_{network}.npz"))
    if "ab" not in arrays:
        arrays["ab"] = np.concatenate([arrays[f"ab{i}"] for i in range(1, 7)], axis=1)
    return {name: arrays[name] for name in A2NET_OUTPUTS}


def plain_softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(v - max(logits)) for v in logits]
    return [p / sum(powers) for p in powers]


def plain_points(outputs: Outputs) -> list[Detection]:
    """Section J8 on the points, in frames of the window."""
    found, k = [], 0
    for level in range(6):
        stride = 2**level
        for j in range(64 // stride):
            point = stride // 2 + j * stride
            probabilities = plain_softmax(outputs["af_cls"][0, k].tolist())
            left, right = outputs["af_reg"][0, k].tolist()
            label = max(range(1, len(probabilities)), key=lambda c: probabilities[c])
            found.append((label - 1, max(point - left, 0) * 8, min(point + right, 64) * 8, probabilities[label]))
            k += 1
    return found


def plain_anchors(outputs: Outputs) -> list[Detection]:
    """Section J8 on the anchors, in frames of the window."""
    found, k = [], 0
    for level in range(6):
        cells = 64 // 2**level
        for c in range(cells):
            for ratio in (0.5, 0.75, 1, 1.5, 2):
                *logits, overlap, r_x, r_w = outputs["ab"][0, k].tolist()
                x = r_x * ratio / cells * 0.1 + (c + 0.5) / cells
                w = math.exp(0.1 * r_w) * ratio / cells
                probabilities = plain_softmax(logits)
                label = max(range(1, 21), key=lambda n: probabilities[n])
                score = probabilities[label] / (1 + math.exp(-overlap))
                if probabilities[0] < 0.98:
                    found.append((label - 1, max(x - w / 2, 0) * FRAMES, min(x + w / 2, 1) * FRAMES, score))
                k += 1
    return found


def assert_same(candidates: Candidates, expected: list[Detection]) -> None:
    assert candidates.labels.tolist() == [row[0] for row in expected]
    np.testing.assert_allclose(candidates.segments, [row[1:3] for row in expected], rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(candidates.scores, [row[3] for row in expected], rtol=1e-5)


@pytest.mark.parametrize("begin", [0, 256, 3_000_000])
def test_thumos14_as_released(begin: int) -> None:
    outputs = golden("thumos14")
    expected = [
        (label, (start + begin) / FPS, (end + begin) / FPS, score)
        for label, start, end, score in plain_anchors(outputs) + plain_points(outputs)
    ]
    candidates = decode_a2net(outputs, 0, begin / FPS, FRAMES / FPS, THUMOS14, A2NetDecoding(), keep_empty=True)
    assert len(candidates) > 700
    assert_same(candidates, expected)


def test_inverted_segments_are_left_out_by_default() -> None:
    outputs = golden("thumos14")
    window = (outputs, 0, 0.0, 1.0, THUMOS14, A2NetDecoding())
    everything, valid = decode_a2net(*window, keep_empty=True), decode_a2net(*window)
    right_way = everything.segments[:, 1] > everything.segments[:, 0]
    assert 0 < np.count_nonzero(~right_way) < len(everything)
    np.testing.assert_array_equal(valid.segments, everything.segments[right_way])


def test_activitynet_as_released() -> None:
    """Raw overlap × 0.4 of the default boxes, foreground probability of the points; below 0 counts as 0."""
    outputs = golden("anet")
    boxes = [
        (max((c + 0.5 - r / 2) / t, 0), min((c + 0.5 + r / 2) / t, 1))
        for t in (64, 32, 16, 8, 4, 2, 1)
        for c in range(t)
        for r in ((0.5, 0.75, 1) if t == 1 else (0.5, 0.75, 1, 1.5, 2))
    ]
    overlap = outputs["ab"][0, :, 0].tolist()
    expected = [(0, *box, 0.4 * min(p, 1)) for box, p in zip(boxes, overlap, strict=True) if p > 0]
    expected += [(k, start / FRAMES, end / FRAMES, score) for k, start, end, score in plain_points(outputs)]
    candidates = decode_a2net(outputs, 0, 0.0, 1.0, ACTIVITYNET_LAYOUT, ACTIVITYNET, keep_empty=True)
    assert_same(candidates, expected)


def test_anchors_and_points_lie_where_the_specification_says() -> None:
    anchors, points = default_anchors(THUMOS14), level_points(THUMOS14)
    assert (len(anchors), THUMOS14.num_anchors, THUMOS14.num_points) == (630, 630, 126)
    np.testing.assert_allclose(anchors[5:10, 0], 1.5 / 64)
    np.testing.assert_allclose(anchors[320:325], [[0.5 / 32, r / 32] for r in RATIOS])
    assert points[0].tolist() == list(range(64))
    assert points[1].tolist() == list(range(1, 64, 2))
    assert points[5].tolist() == [16, 48]
    assert ACTIVITYNET_LAYOUT.num_anchors == len(default_anchors(ACTIVITYNET_LAYOUT)) == 633


# Scores


@pytest.mark.parametrize(
    ("balance", "point", "anchor"), [(0.5, 1, 1), (0.2, 0.25, 1), (0.8, 1, 0.25), (5 / 7, 1, 0.4), (0, 0, 1), (1, 1, 0)]
)
def test_lambda_weighs_the_modules(balance: float, point: float, anchor: float) -> None:
    weights = A2NetDecoding(balance=balance).weights
    assert weights == pytest.approx((point, anchor))
    outputs = golden("thumos14")
    equal = decode_a2net(outputs, 0, 0.0, 1.0, THUMOS14, A2NetDecoding(score_threshold=-1), keep_empty=True)
    decoding = A2NetDecoding(balance=balance, score_threshold=-1)
    weighed = decode_a2net(outputs, 0, 0.0, 1.0, THUMOS14, decoding, keep_empty=True)
    factors = np.repeat([anchor, point], [len(equal) - 126, 126])
    np.testing.assert_allclose(weighed.scores, equal.scores * factors, rtol=1e-6)


def one_anchor(logits: list[float], overlap: float) -> tuple[Outputs, A2NetLayout]:
    layout = A2NetLayout((1,), ((1.0,),), 0, num_classes=len(logits))
    return {"ab": np.array([[[*logits, overlap, 0, 0]]], np.float32)}, layout


@pytest.mark.parametrize(
    ("overlap", "how", "factor"),
    [(0.7, "plain", 0.7), (0.7, "sigmoid", 0.6681878), (1.3, "plain", 1), (-0.2, "plain", None), (-90, "sigmoid", 0)],
)
def test_overlap_in_the_score(overlap: float, how: Any, factor: float | None) -> None:
    outputs, layout = one_anchor([0, math.log(3)], overlap)
    candidates = decode_a2net(outputs, 0, 0.0, 1.0, layout, A2NetDecoding(overlap=how))
    if factor is None:  # a score of 0 is none
        assert not len(candidates)
    else:
        assert candidates.scores.tolist() == pytest.approx([0.75 * factor], abs=1e-6)


@pytest.mark.parametrize(("background", "kept"), [(0.979, 1), (0.981, 0)])
def test_background_anchors_are_dropped(background: float, kept: int) -> None:
    outputs, layout = one_anchor([math.log(background), math.log(1 - background)], 0.5)
    assert len(decode_a2net(outputs, 0, 0.0, 1.0, layout, A2NetDecoding())) == kept


def test_the_background_limit_is_the_first_probability_that_is_dropped() -> None:
    outputs, layout = one_anchor([0, 0], 0.5)  # a background probability of exactly 1/2
    assert len(decode_a2net(outputs, 0, 0.0, 1.0, layout, A2NetDecoding(background_limit=0.5))) == 0
    assert len(decode_a2net(outputs, 0, 0.0, 1.0, layout, A2NetDecoding(background_limit=0.5000001))) == 1


def test_a_plain_overlap_is_one_number_for_all_classes() -> None:
    """Beside it lie r_x and r_w, which are no overlaps, though as many as the classes are."""
    outputs, layout = one_anchor([math.log(v) for v in (0.1, 0.3, 0.4, 0.2)], 0.5)
    outputs["ab"][0, 0, -2:] = 0.1, 0.2
    decoding = A2NetDecoding(labels="all", overlap="plain")
    found = decode_a2net(outputs, 0, 0.0, 1.0, layout, decoding)
    assert found.labels.tolist() == [0, 1, 2]
    assert found.scores.tolist() == pytest.approx([0.15, 0.2, 0.1])


def test_every_class_can_be_a_candidate() -> None:
    outputs, layout = one_anchor([math.log(v) for v in (0.1, 0.3, 0.2, 0.4)], 100)
    best = decode_a2net(outputs, 0, 0.0, 1.0, layout, A2NetDecoding())
    assert (best.labels.tolist(), best.scores.tolist()) == ([2], pytest.approx([0.4]))
    every = decode_a2net(outputs, 0, 0.0, 1.0, layout, A2NetDecoding(labels="all", score_threshold=0.25))
    assert (every.labels.tolist(), every.scores.tolist()) == ([0, 2], pytest.approx([0.3, 0.4]))


def test_segments_are_cut_where_the_padding_begins() -> None:
    outputs, duration = golden("thumos14"), FRAMES / FPS
    whole = decode_a2net(outputs, 0, 10.0, duration, THUMOS14, A2NetDecoding())
    cut = decode_a2net(outputs, 0, 10.0, duration, THUMOS14, A2NetDecoding(), length=6.0)
    inside = whole.segments[:, 0] < 16 - 1e-5
    assert np.count_nonzero(~inside) > 0
    np.testing.assert_allclose(cut.segments[:, 0], whole.segments[inside, 0], rtol=1e-6)
    np.testing.assert_allclose(cut.segments[:, 1], np.minimum(whole.segments[inside, 1], 16), rtol=1e-6)


def test_a_network_of_one_module_needs_its_outputs_only() -> None:
    outputs = golden("thumos14")
    points = decode_a2net(
        {k: outputs[k] for k in ("af_cls", "af_reg")}, 0, 0.0, 1.0, A2NetLayout(anchor_ratios=()), A2NetDecoding()
    )
    anchors = decode_a2net({"ab": outputs["ab"]}, 0, 0.0, 1.0, A2NetLayout(point_levels=0), A2NetDecoding())
    both = decode_a2net(outputs, 0, 0.0, 1.0, THUMOS14, A2NetDecoding())
    together = Candidates.concatenate([anchors, points])
    np.testing.assert_array_equal(together.segments, both.segments)
    np.testing.assert_array_equal(together.scores, both.scores)


def test_outputs_that_do_not_fit() -> None:
    outputs = golden("thumos14")
    with pytest.raises(InputError, match="expected also 'ab'"):
        decode_a2net({"af_cls": outputs["af_cls"]}, 0, 0.0, 1.0, THUMOS14, A2NetDecoding())
    fewer = replace(THUMOS14, num_classes=11, anchor_ratios=())
    with pytest.raises(InputError, match=r"'af_cls' has shape \(1, 126, 21\), expected \(more than 0, 126, 11\)"):
        decode_a2net(outputs, 0, 0.0, 1.0, fewer, A2NetDecoding())
    with pytest.raises(InputError, match="more than 1"):
        decode_a2net(outputs, 1, 0.0, 1.0, THUMOS14, A2NetDecoding())


@pytest.mark.parametrize("name", A2NET_OUTPUTS)
def test_nan_is_reported(name: str) -> None:
    outputs = golden("thumos14")
    outputs[name] = outputs[name].copy()
    outputs[name][0, 0] = np.nan
    with pytest.raises(EngineError, match="NaN in the window at 17 s"):
        decode_a2net(outputs, 0, 17.0, 1.0, THUMOS14, A2NetDecoding())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level_lengths": (64, 30)}, "each half the one before"),
        ({"level_lengths": (64, 32)}, "anchor_ratios has 6 entries"),
        ({"point_levels": 7}, "point_levels is 7"),
        ({"point_levels": 0, "anchor_ratios": ()}, "nothing would be predicted"),
    ],
)
def test_bad_layouts(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(THUMOS14, **changes)


# Hard NMS


def plain_hard_nms(rows: list[tuple[float, float, float]], threshold: float) -> list[int]:
    """Indices kept, best first; the overlap's sign is left as it is, as in the released code."""
    left = sorted((i for i in range(len(rows)) if rows[i][2] > 0), key=lambda i: (-rows[i][2], i))
    kept = []
    while left:
        best, *left = left
        kept.append(best)
        survivors = []
        for i in left:
            shared = min(rows[best][1], rows[i][1]) - max(rows[best][0], rows[i][0])
            union = rows[best][1] - rows[best][0] + rows[i][1] - rows[i][0] - shared
            if shared / union <= threshold:
                survivors.append(i)
        left = survivors
    return kept


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 60),
    threshold=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    top_k=st.sampled_from([None, 1, 5]),
)
def test_hard_nms_against_the_loop(seed: int, count: int, threshold: float, top_k: int | None) -> None:
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 30, count)
    segments = np.column_stack([start, start + rng.exponential(4, count) + 0.01])
    scores = np.round(rng.uniform(0, 1, count), 1)  # many are equal, some 0
    expected = plain_hard_nms([(*s, v) for s, v in zip(segments.tolist(), scores.tolist(), strict=True)], threshold)
    assert hard_nms(segments, scores, threshold, top_k).tolist() == expected[:top_k]


def test_bad_threshold() -> None:
    with pytest.raises(InputError, match=r"threshold: got 1\.5, expected 0 … 1"):
        hard_nms(np.zeros((1, 2)), np.ones(1), 1.5)


SPEC = tiny_spec(classes=("Billiards", "CliffDiving", "Diving"))


def a2net_spec(decoding: A2NetDecoding) -> ModelSpec:
    layout = A2NetLayout(LEVELS, anchor_ratios=(), point_levels=len(LEVELS), num_classes=4)
    widths = {"af_cls": 4, "af_reg": 2}
    outputs = tuple(TensorSpec(name, ("batch", sum(LEVELS), k), "float32") for name, k in widths.items())
    return replace(SPEC, family="a2net", outputs=outputs, a2net=layout, a2net_decoding=decoding)


UNCAPPED = A2NetDecoding(nms_top_k=10**6, video_top_k=10**6, copied_classes=THUMOS14_COPIES)


def windows_of(seed: int, count: int) -> list[tuple[Candidates, int]]:
    """Random candidates of overlapping windows, each with its first frame."""
    rng = np.random.default_rng(seed)
    found = []
    for offset in range(0, count * SPEC.window_stride, SPEC.window_stride):
        length = SPEC.window_length / SPEC.sample_fps
        ends = np.sort(rng.uniform(0, length, (30, 2)), axis=1) + offset / SPEC.sample_fps
        found.append((Candidates(ends, rng.integers(0, 3, 30).astype(np.int32), rng.uniform(0.01, 1, 30)), offset))
    return found


def survivors(suppression: Suppression, windows: list[tuple[Candidates, int]]) -> list[Detection]:
    parts = [suppression.push(*window) for window in windows]
    return detections(Candidates.concatenate([*parts, suppression.finish()]))


def detections(found: Candidates) -> list[Detection]:
    return list(zip(found.labels.tolist(), *found.segments.T.tolist(), found.scores.tolist(), strict=True))


@pytest.mark.parametrize(("per_class", "per_video"), [(2, 10), (6, 10), (200, 200)])
@pytest.mark.parametrize("seed", range(3))
def test_video_as_released(seed: int, per_class: int, per_video: int) -> None:
    """CliffDiving copied as Diving, NMS per class, the best of each class, the best of the video."""
    windows = windows_of(seed, 4)
    rows = detections(Candidates.concatenate([candidates for candidates, _ in windows]))
    rows += [(2, *row[1:]) for row in rows if row[0] == 1]
    kept = []
    for label in range(3):
        mine = [row[1:] for row in rows if row[0] == label]
        kept += [(label, *mine[i]) for i in plain_hard_nms(mine, 0.2)[:per_class]]
    expected = sorted(kept, key=lambda row: -row[3])[:per_video]
    decoding = A2NetDecoding(nms_top_k=per_class, video_top_k=per_video, copied_classes=THUMOS14_COPIES)
    assert survivors(HardSuppression(a2net_spec(decoding)), windows) == expected


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 8))
def test_the_stream_gives_what_the_whole_video_gives(seed: int, count: int) -> None:
    windows = windows_of(seed, count)
    streamed = survivors(LocalHardSuppression(a2net_spec(UNCAPPED)), windows)
    assert sorted(streamed) == sorted(survivors(HardSuppression(a2net_spec(UNCAPPED)), windows))


def test_copies_need_known_classes() -> None:
    candidates = Candidates(np.array([[0.0, 1.0]]), np.zeros(1, np.int32), np.ones(1))
    assert len(copy_classes(candidates, tuple(CLASS_IDS), THUMOS14_COPIES)) == 1  # a BaseballPitch is not copied
    assert copy_classes(candidates, THUMOS14_COPIES[0], THUMOS14_COPIES).labels.tolist() == [0, 1]  # no other class
    with pytest.raises(InputError, match="CliffDiving → Diving"):
        copy_classes(candidates, ("Billiards",), THUMOS14_COPIES)
