"""A2Net's targets and losses against the golden values, the specification's loops and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runtime.decoding.a2net import decode_a2net
from runtime.spec.anchors import RATIOS, A2NetLayout
from runtime.spec.decoding_constants import A2NetDecoding
from runtime.suppression.nms import hard_nms
from tests.golden_network import GOLDEN
from training.a2net.config import A2NetConfig, A2NetLossConfig
from training.a2net.losses import A2NetLosses, a2net_losses
from training.a2net.network import A2Net, A2NetOutput
from training.a2net.targets import (
    AnchorMatches,
    assign_points,
    choose_anchors,
    decode_anchors,
    default_boxes,
    encode_boxes,
    match_anchors,
)
from training.config.files import load_config

THUMOS14 = A2NetConfig().layout
ACTIVITYNET = load_config("a2net_activitynet")
ACTIVITYNET_LOSSES = ACTIVITYNET.a2net_loss
REFERENCE = A2NetLossConfig(match_score="reference", point_ranges="reference", empty_batch="reference")
"""The released THUMOS14 code."""

INSTANCES = torch.tensor([[0.1, 0.3, 3], [0.25, 0.8, 7], [0.5, 0.52, 12]])
"""Of the second golden set."""

SMALL = A2NetLayout((8, 4, 2), (RATIOS,) * 3, 3, num_classes=4)


def golden_output(network: str) -> tuple[A2NetOutput, dict[str, Any]]:
    golden = dict(np.load(GOLDEN / f"formula_a2net_{network}.npz"))
    if "ab" not in golden:
        golden["ab"] = np.concatenate([golden[f"ab{i}"] for i in range(1, 7)], axis=1)
    return A2NetOutput(*(torch.from_numpy(golden[name]) for name in A2NetOutput._fields)), golden


def random_output(layout: A2NetLayout, seed: int, batch: int = 2) -> A2NetOutput:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator).requires_grad_()

    return A2NetOutput(
        normal(layout.num_points, layout.num_classes),
        normal(layout.num_points, 2),
        normal(layout.num_anchors, layout.anchor_width),
    )


def random_instances(rng: np.random.Generator, count: int, classes: int = 3) -> Tensor:
    start = rng.uniform(0, 0.9, count)
    end = np.minimum(start + rng.choice([0.02, 0.2, 0.6], count) * rng.uniform(0.5, 1.5, count), 1)
    return torch.tensor(np.column_stack([start, end, rng.integers(1, classes + 1, count)]), dtype=torch.float64)


# Golden values


def test_losses_are_the_published_ones() -> None:
    output, golden = golden_output("thumos14")
    assert output.ab is not None
    losses = a2net_losses(output, [INSTANCES], THUMOS14, REFERENCE, torch.zeros(1, 630))
    assert [x.item() for x in losses[:2]] == pytest.approx(golden["af_loss"], rel=1e-5)
    assert [x.item() for x in losses[2:]] == pytest.approx(golden["ab_loss"], rel=1e-5)
    expected = np.dot([30, 1, 1, 10, 10], [*golden["af_loss"], *golden["ab_loss"]])
    assert losses.total(REFERENCE).item() == pytest.approx(expected, rel=1e-5)


def test_decoded_anchors_are_the_published_ones() -> None:
    output, golden = golden_output("thumos14")
    assert output.ab is not None
    decoded = decode_anchors(output.ab, THUMOS14)
    assert decoded.logits is not None
    assert np.array_equal(decoded.logits.numpy(), golden["dec_cls"])
    assert np.array_equal(decoded.overlap.numpy(), golden["dec_overlap"])
    start, end = decoded.boxes.numpy()[..., 0], decoded.boxes.numpy()[..., 1]
    np.testing.assert_allclose((start + end) / 2, golden["dec_x"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(end - start, golden["dec_w"], rtol=0, atol=1e-6)


def test_published_positives_and_hard_negatives() -> None:
    output, _ = golden_output("thumos14")
    assert output.ab is not None
    decoded = decode_anchors(output.ab, THUMOS14)
    matches = match_anchors(decoded.boxes, [INSTANCES], REFERENCE)
    samples = choose_anchors(matches, decoded.overlap, REFERENCE, torch.zeros(1, 630))
    assert [int(mask.sum()) for mask in samples] == [17, 151, 0]


def test_defaults_change_no_value_of_the_golden_batch() -> None:
    output, _ = golden_output("thumos14")
    draws = torch.rand(1, 630, generator=torch.Generator().manual_seed(0))
    released = a2net_losses(output, [INSTANCES], THUMOS14, REFERENCE, draws)
    mended = a2net_losses(output, [INSTANCES], THUMOS14, A2NetLossConfig(), draws)
    assert torch.equal(torch.stack([*released]), torch.stack([*mended]))


# Points


@pytest.mark.parametrize("point_ranges", ["half-open", "reference"])
def test_points_of_the_specifications_check(point_ranges: Any) -> None:
    targets = assign_points([INSTANCES], THUMOS14, A2NetLossConfig(point_ranges=point_ranges))
    found = targets.labels[0].nonzero()[:, 0].tolist()
    level4, level6 = 64 + 32 + 16, 64 + 32 + 16 + 8 + 4
    assert found == [32, 33, level4 + 1, level6, level6 + 1]
    assert targets.labels[0, found].tolist() == [12, 12, 3, 7, 7]
    expected = [[0, 1.28], [1, 0.28], [5.6, 7.2], [0, 35.2], [32, 3.2]]
    np.testing.assert_allclose(targets.distances[0, found], expected, atol=1e-5)


def plain_points(instances: Tensor, layout: A2NetLayout, inclusive: bool) -> list[tuple[int, float, float]]:
    """(label, left, right) of each point, as section J4 words it; (0, 0, 0) for background."""
    found = []
    for level, cells in enumerate(layout.level_lengths[: layout.point_levels], 1):
        stride = 2 ** (level - 1)
        low, high = 0 if level == 1 else stride, 2 * stride
        for j in range(cells):
            point, hit = stride // 2 + j * stride, (0, 0.0, 0.0)
            for start, end, label in instances.tolist():
                start, end = start * layout.units, end * layout.units
                last = level == layout.point_levels and not inclusive
                below = last or (end - start <= high if inclusive else end - start < high)
                if end - start >= low and below and start <= point <= end:
                    hit = (int(label), point - start, end - point)
                    break
            found.append(hit)
    return found


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 6),
    levels=st.integers(1, 4),
    grid=st.booleans(),
    inclusive=st.booleans(),
)
def test_points_against_the_loop(seed: int, count: int, levels: int, grid: bool, inclusive: bool) -> None:
    """On a grid of whole units, lengths lie exactly on the borders of the ranges and points exactly on starts."""
    layout = A2NetLayout((16, 8, 4, 2), (), levels, num_classes=4)
    instances = random_instances(np.random.default_rng(seed), count)
    if grid:
        instances[:, :2] = (instances[:, :2] * 16).round() / 16
    config = A2NetLossConfig(point_ranges="reference" if inclusive else "half-open")
    targets = assign_points([instances], layout, config)
    for k, (label, left, right) in enumerate(plain_points(instances, layout, inclusive)):
        assert targets.labels[0, k] == label
        if label:
            np.testing.assert_allclose(targets.distances[0, k], [left, right], atol=1e-9)


def test_every_instance_of_a_unit_or_more_has_a_point_in_one_level() -> None:
    """The released ranges give a length of exactly 2^i to two levels, and one beyond the last range to none."""
    layout = A2NetLayout((64, 32, 16), (), 3)
    for units in (1, 2, 4, 8, 8.5, 40, 64):
        instance = torch.tensor([[0.0, units / 64, 1]], dtype=torch.float64)
        levels = {}
        for ranges in ("half-open", "reference"):
            labels = assign_points([instance], layout, A2NetLossConfig(point_ranges=ranges)).labels[0]  # type: ignore[arg-type]
            levels[ranges] = [bool(part.any()) for part in labels.split(layout.level_lengths)]
        assert sum(levels["half-open"]) == 1
        assert sum(levels["reference"]) == (0 if units > 8 else 2 if units in (2, 4) else 1)


# Matching


def plain_match(boxes: list[Any], instances: list[Any], threshold: float) -> list[tuple[float, int, Any]]:
    """(score, label, matched segment) of each box, instance after instance, as section J5 words it."""
    matched: list[tuple[float, int, Any]] = [(0.0, 0, None)] * len(boxes)
    for start, end, label in instances:
        for k, (low, high) in enumerate(boxes):
            inter = max(0.0, min(end, high) - max(start, low))
            iou = inter / (end - start + high - low - inter)
            score, old, segment = matched[k]
            if iou > score and iou > threshold:
                old, segment = int(label), (start, end)
            matched[k] = (max(iou, score), old, segment)
    return matched


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), counts=st.lists(st.integers(0, 6), min_size=1, max_size=3))
def test_matching_against_the_loop(seed: int, counts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    instances = [random_instances(rng, count) for count in counts]
    ab = random_output(SMALL, seed % 1000, len(counts)).ab
    assert ab is not None
    boxes = decode_anchors(ab.detach().double() * 4, SMALL).boxes
    matches = match_anchors(boxes, instances, A2NetLossConfig(match_iou=0.4))
    for b, clip in enumerate(instances):
        for k, (score, label, segment) in enumerate(plain_match(boxes[b].tolist(), clip.tolist(), 0.4)):
            assert matches.scores[b, k].item() == pytest.approx(score, abs=1e-12)
            assert matches.labels[b, k] == label
            assert bool(matches.positive[b, k]) == (label > 0)
            if label:
                assert matches.boxes[b, k].tolist() == pytest.approx(segment)


def test_an_instance_that_no_anchor_reaches_takes_its_best_one() -> None:
    layout = replace(SMALL, anchor_ratios=((1.0,),) * 3)
    boxes = default_boxes(layout)[None]
    instances = torch.tensor([[0.0, 0.125, 1], [0.51, 0.53, 2], [0.7, 0.7, 3]], dtype=torch.float64)
    config = A2NetLossConfig(matching="default", force_match=True)
    matches = match_anchors(boxes, [instances], config)
    assert matches.labels[0].tolist() == [1, 0, 0, 0, 2] + [0] * 9  # an empty instance has no best one
    assert matches.scores[0, 4].item() == pytest.approx(0.02 / 0.125)
    assert matches.boxes[0, 4].tolist() == pytest.approx([0.51, 0.53])
    assert not match_anchors(boxes, [instances], replace(config, force_match=False)).positive[0, 4]


def test_a_forced_anchor_stands_for_the_instance_that_forced_it() -> None:
    """The first anchor overlaps the second instance more, but that one has a better anchor of its own."""
    boxes = torch.tensor([[[0.0, 0.1], [-0.02, 0.06]]], dtype=torch.float64)
    instances = torch.tensor([[0.08, 0.1, 1], [0.0, 0.04, 2]], dtype=torch.float64)
    matches = match_anchors(boxes, [instances], A2NetLossConfig(matching="default", force_match=True, match_iou=0.6))
    assert matches.labels[0].tolist() == [1, 2]
    assert matches.boxes[0].tolist() == instances[:, :2].tolist()
    assert matches.scores[0].tolist() == pytest.approx([0.4, 0.5])


def test_a_forced_positive_with_high_overlap_is_dropped_by_the_reference() -> None:
    matches = AnchorMatches(
        torch.tensor([[0.9, 0.2, 0.3, 0.1]]),
        torch.tensor([[True, True, True, False]]),
        torch.tensor([[1, 1, 1, 0]]),
        torch.zeros(1, 4, 2),
    )
    overlap, draws = torch.tensor([[0.9, 0.8, 0.1, 0.7]]), torch.zeros(1, 4)
    kept = choose_anchors(matches, overlap, ACTIVITYNET_LOSSES, draws)
    assert [mask[0].tolist() for mask in kept[:2]] == [[True, True, True, False], [False, False, False, True]]
    quirk = choose_anchors(matches, overlap, replace(ACTIVITYNET_LOSSES, forced_positives="reference"), draws)
    assert [mask[0].tolist() for mask in quirk[:2]] == [[True, False, True, False], [False, False, False, True]]


def test_encoding_is_the_inverse_of_decoding() -> None:
    ab = random_output(THUMOS14, 3).ab
    assert ab is not None
    decoded = decode_anchors(ab.detach().double(), THUMOS14)
    assert decoded.encoded is not None
    np.testing.assert_allclose(encode_boxes(decoded.boxes, THUMOS14), decoded.encoded, atol=1e-9)
    unmoved = decode_anchors(torch.zeros(1, 630, 24, dtype=torch.float64), THUMOS14).boxes[0]
    assert torch.equal(unmoved, default_boxes(THUMOS14))


# Negatives


def counts_of(positives: int, hard: int, boxes: int, config: A2NetLossConfig) -> list[int]:
    """Chosen positives, hard and easy negatives among so many boxes, with evenly spread draws."""
    scores = torch.zeros(1, boxes)
    scores[0, :positives] = 0.8
    overlap = torch.zeros(1, boxes)
    overlap[0, positives : positives + hard] = 0.9
    draws = torch.empty(1, boxes)
    for part in (draws[0, :positives], draws[0, positives : positives + hard], draws[0, positives + hard :]):
        part.copy_((torch.arange(len(part)) + 0.5) / max(len(part), 1))
    matches = AnchorMatches(scores, scores > 0.5, (scores > 0.5).long(), torch.zeros(1, boxes, 2))
    return [int(mask.sum()) for mask in choose_anchors(matches, overlap, config, draws)]


@pytest.mark.parametrize(
    ("changes", "positives", "hard", "expected"),
    [
        ({}, 20, 100, [20, 100, 20]),  # r = 20 / 880
        ({"negative_ratio": 3.0}, 20, 100, [20, 100, 60]),
        ({}, 0, 100, [0, 100, 450]),  # half of the others
        ({"share_without_positives": 0.8}, 0, 100, [0, 100, 720]),
        ({}, 600, 0, [600, 0, 400]),  # r = min(1, 600 / 400)
        ({}, 600, 400, [600, 400, 0]),
        ({"hard_negatives": "balanced"}, 20, 100, [20, 20, 0]),
        ({"hard_negatives": "balanced"}, 20, 5, [20, 5, 15]),
        ({"hard_negatives": "balanced"}, 0, 100, [0, 100, 450]),
    ],
)
def test_negatives_are_drawn_in_proportion(
    changes: dict[str, Any], positives: int, hard: int, expected: list[int]
) -> None:
    assert counts_of(positives, hard, 1000, A2NetLossConfig(**changes)) == expected


# Losses


def smooth_l1(x: float) -> float:
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def cross_entropy(logits: Tensor, label: int) -> float:
    return math.log(sum(math.exp(v) for v in logits.tolist())) - logits[label].item()


def plain_losses(
    output: A2NetOutput, instances: list[Tensor], layout: A2NetLayout, config: A2NetLossConfig, draws: Tensor
) -> list[float]:
    """The five losses one number at a time, from the loops above."""
    assert output.af_cls is not None
    assert output.af_reg is not None
    assert output.ab is not None
    points, left, right = [], [], []
    for b, clip in enumerate(instances):
        for k, (label, l_target, r_target) in enumerate(plain_points(clip, layout, inclusive=False)):
            points.append(cross_entropy(output.af_cls[b, k], label))
            if label:
                left.append(smooth_l1(output.af_reg[b, k, 0].item() - l_target))
                right.append(smooth_l1(output.af_reg[b, k, 1].item() - r_target))
    anchors = [
        (output.ab[b, k], low, high, *match, draws[b, k].item())
        for b, clip in enumerate(instances)
        for k, ((low, high), match) in enumerate(
            zip(
                plain_boxes(output.ab[b], layout),
                plain_match(
                    plain_boxes(output.ab[b] * (config.matching == "predicted"), layout),
                    clip.tolist(),
                    config.match_iou,
                ),
                strict=True,
            )
        )
    ]
    positive = [a for a in anchors if a[4]]
    hard = [a for a in anchors if not a[4] and a[0][-3] > config.match_iou]
    share = len(positive) / (len(anchors) - len(positive) - len(hard))
    easy = [a for a in anchors if not a[4] and a[0][-3] <= config.match_iou and a[6] > 1 - share]
    chosen = positive + hard + easy
    assert len(positive) > 3
    assert len(easy) > 3
    return [
        np.mean(points).item(),
        np.mean(left).item() + np.mean(right).item(),
        np.mean([cross_entropy(a[0][:-3], a[4]) for a in chosen]).item(),
        np.mean([smooth_l1(a[3] - a[0][-3].item()) for a in chosen]).item(),
        np.mean([smooth_l1(a[1] - a[5][0]) for a in positive]).item()
        + np.mean([smooth_l1(a[2] - a[5][1]) for a in positive]).item(),
    ]


def plain_boxes(ab: Tensor, layout: A2NetLayout) -> list[tuple[float, float]]:
    """Decoded boxes of one window (J3)."""
    values = iter(ab.tolist())
    boxes = []
    for cells in layout.level_lengths:
        for c in range(cells):
            for ratio in RATIOS:
                *_, r_x, r_w = next(values)
                x = r_x * ratio / cells * 0.1 + (c + 0.5) / cells
                w = math.exp(0.1 * r_w) * ratio / cells
                boxes.append((x - w / 2, x + w / 2))
    return boxes


@pytest.mark.parametrize("matching", ["predicted", "default"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_losses_against_the_loops(seed: int, matching: Any) -> None:
    config = A2NetLossConfig(matching=matching)
    rng = np.random.default_rng(seed)
    output = A2NetOutput(*(v.detach().double() for v in random_output(SMALL, seed) if v is not None))
    instances = [random_instances(rng, 5), random_instances(rng, 4)]
    draws = torch.from_numpy(rng.uniform(size=(2, SMALL.num_anchors)))
    losses = a2net_losses(output, instances, SMALL, config, draws)
    expected = plain_losses(output, instances, SMALL, config, draws)
    assert [value.item() for value in losses] == pytest.approx(expected, rel=1e-9)


def test_the_papers_overlap_and_location_losses() -> None:
    """Mean square over positives; smooth L1 of (r_x, r_w) against those of the matched instance."""
    output = A2NetOutput(*(v.detach().double() for v in random_output(SMALL, 4) if v is not None))
    instances = [random_instances(np.random.default_rng(4), 5)] * 2
    config = A2NetLossConfig(overlap_loss="mse", location_loss="centre-width")
    losses = a2net_losses(output, instances, SMALL, config)
    assert output.ab is not None
    squares, x_terms, w_terms = [], [], []
    anchors = [((c + 0.5) / t, ratio / t) for t in SMALL.level_lengths for c in range(t) for ratio in RATIOS]
    for ab, clip in zip(output.ab, instances, strict=True):
        found = plain_match(plain_boxes(ab, SMALL), clip.tolist(), 0.5)
        for values, (x_a, w_a), (score, label, segment) in zip(ab.tolist(), anchors, found, strict=True):
            if label:
                squares.append((score - values[-3]) ** 2)
                x_terms.append(smooth_l1(values[-2] - ((segment[0] + segment[1]) / 2 - x_a) / (0.1 * w_a)))
                w_terms.append(smooth_l1(values[-1] - 10 * math.log((segment[1] - segment[0]) / w_a)))
    assert losses.anchor_overlap.item() == pytest.approx(np.mean(squares))
    assert losses.anchor_location.item() == pytest.approx(np.mean(x_terms) + np.mean(w_terms))


def test_class_agnostic_overlap_loss_against_a_loop() -> None:
    """ActivityNet's golden outputs: default boxes, forced positives, all hard and no easy negatives."""
    output, _ = golden_output("anet")
    assert output.ab is not None
    assert ACTIVITYNET.a2net is not None
    layout = ACTIVITYNET.a2net.layout
    instances = torch.cat((INSTANCES, torch.tensor([[0.9, 0.903, 1]])))  # shorter than any anchor: forced
    instances[:, 2] = 1
    boxes = default_boxes(layout).tolist()
    found = plain_match(boxes, instances.tolist(), 0.5)
    iou = [plain_match(boxes, [row], 0.5) for row in instances.tolist()]
    positive = {k for k, match in enumerate(found) if match[1]}
    for rows in iou:
        best = max(score for score, *_ in rows)
        if best <= 0.5:
            positive |= {k for k, match in enumerate(rows) if match[0] == best}
    assert any(all(score <= 0.5 for score, *_ in rows) for rows in iou)
    overlap = output.ab[0, :, 0].tolist()
    terms = [smooth_l1(found[k][0] - p) for k, p in enumerate(overlap) if k in positive or p > 0.5]
    losses = a2net_losses(output, [instances], layout, ACTIVITYNET_LOSSES, torch.zeros(1, 633))
    assert losses.anchor_overlap.item() == pytest.approx(np.mean(terms), rel=1e-5)
    assert losses.anchor_classification == losses.anchor_location == 0
    assert losses.total(ACTIVITYNET_LOSSES).item() == pytest.approx(sum(losses).item(), rel=1e-6)


def test_a_detached_score_changes_gradients_but_no_value() -> None:
    values, gradients = [], []
    for variant in ("reference", "detached"):
        output = random_output(SMALL, 5, 1)
        instances = [random_instances(np.random.default_rng(5), 5)]
        config = A2NetLossConfig(match_score=variant)  # type: ignore[arg-type]
        losses = a2net_losses(output, instances, SMALL, config, torch.zeros(1, SMALL.num_anchors))
        losses.anchor_overlap.backward()
        assert output.ab is not None
        assert output.ab.grad is not None
        values.append(losses.anchor_overlap.item())
        gradients.append(output.ab.grad[..., -2:])
    assert values[0] == values[1]
    assert gradients[0].any()
    assert not gradients[1].any()


@pytest.mark.parametrize("layout", [SMALL, replace(SMALL, anchor_outputs="overlap", num_classes=2)])
@pytest.mark.parametrize("draw", [0.0, 0.9])
def test_a_batch_without_instances_gives_finite_losses(layout: A2NetLayout, draw: float) -> None:
    output = random_output(layout, 6)
    assert output.ab is not None
    with torch.no_grad():
        output.ab[..., -3 if layout.anchor_width > 1 else 0] = -1  # no hard negative either
    draws = torch.full((2, layout.num_anchors), draw)
    losses = a2net_losses(output, [torch.zeros(0, 3)] * 2, layout, A2NetLossConfig(), draws)
    assert losses.point_regression.item() == losses.anchor_location.item() == 0
    assert (losses.anchor_overlap > 0).item() == (draw > 0.5)
    losses.total(A2NetLossConfig()).backward()
    for value in output:
        assert value is not None
        assert value.grad is not None
        assert torch.isfinite(value.grad).all()


def test_the_released_regression_of_nothing_is_nan() -> None:
    losses = a2net_losses(random_output(SMALL, 6), [torch.zeros(0, 3)] * 2, SMALL, REFERENCE)
    assert losses.point_regression.isnan()


def test_absent_modules_have_no_loss() -> None:
    output = random_output(SMALL, 7)
    instances = [random_instances(np.random.default_rng(7), 5)] * 2
    draws = torch.zeros(2, SMALL.num_anchors)
    both = a2net_losses(output, instances, SMALL, A2NetLossConfig(), draws)
    points = a2net_losses(output._replace(ab=None), instances, SMALL, A2NetLossConfig())
    anchors = a2net_losses(A2NetOutput(None, None, output.ab), instances, SMALL, A2NetLossConfig(), draws)
    assert points == A2NetLosses(*both[:2], *([torch.zeros(())] * 3))
    assert anchors == A2NetLosses(*([torch.zeros(())] * 2), *both[2:])


@pytest.mark.parametrize(
    "network",
    ["both", *(pytest.param(n, marks=pytest.mark.thorough) for n in ("anchor-free", "anchor-based", "class-agnostic"))],
)
@pytest.mark.thorough
def test_learns_two_windows_by_heart(network: str) -> None:
    """Losses, targets and decoding agree: what is trained for is what comes out."""
    torch.manual_seed(0)
    config = A2NetConfig(
        8,
        4,
        32,
        32,
        (32, 32, 32),
        reduced_channels=32,
        modules=network if network != "class-agnostic" else "both",  # type: ignore[arg-type]
    )
    losses, agnostic = A2NetLossConfig(), network == "class-agnostic"
    instances = [torch.tensor([[0.1, 0.3, 1], [0.5, 0.95, 2]]), torch.tensor([[0.3, 0.42, 3]])]
    if agnostic:
        config, losses = replace(config, num_classes=2, anchor_outputs="overlap"), ACTIVITYNET_LOSSES
        for clip in instances:
            clip[:, 2] = 1
    model, features = A2Net(config), torch.randn(2, 8, 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        a2net_losses(model(features), instances, config.layout, losses).total(losses).backward()
        optimizer.step()
    with torch.inference_mode():
        raw = {k: v.numpy() for k, v in model(features)._asdict().items() if v is not None}
    decoding = A2NetDecoding(balance=5 / 7, overlap="plain") if agnostic else A2NetDecoding()
    for index, clip in enumerate(instances):
        found = decode_a2net(raw, index, 0.0, 1.0, config.layout, decoding)
        for start, end, label in clip.tolist():
            mine = found.take(found.labels == int(label) - 1)
            kept = mine.take(hard_nms(mine.segments, mine.scores, decoding.nms_threshold, 1 if not agnostic else 2))
            errors = np.abs(kept.segments - [start, end]).max(axis=1)
            assert errors.min() < (0.1 if agnostic else 0.05) * (end - start) + 0.01, (start, end, kept)
