"""Losses and targets against the golden values, slow loops and closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.golden_network import GOLDEN
from training.afsd.config import LossConfig, ModelConfig
from training.afsd.losses import boundary_activation, detection_losses, focal_loss, iou_loss, triplet_loss
from training.afsd.pyramid import AfsdOutput, BoundaryFeatures
from training.afsd.targets import assign_coarse, assign_refined, centerness, distance_iou, level_ranges

CASES = sorted({key.split("_")[0] for key in np.load(GOLDEN / "losses.npz")})


def load_case(name: str) -> tuple[AfsdOutput, list[torch.Tensor], torch.Tensor, dict[str, np.ndarray]]:  # type: ignore[type-arg]
    """Outputs that need gradients, instances per clip, priors, and everything golden of the case."""
    golden = {k.removeprefix(f"{name}_"): v for k, v in np.load(GOLDEN / "losses.npz").items() if k.startswith(name)}
    output = AfsdOutput(*(torch.from_numpy(golden[field]).clone().requires_grad_() for field in AfsdOutput._fields))
    targets = [torch.from_numpy(golden[f"target{b}"]) for b in range(len(output.loc))]
    return output, targets, torch.from_numpy(golden["priors"])[:, 0], golden


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_the_published_ones(case: str) -> None:
    output, targets, priors, golden = load_case(case)
    coarse = assign_coarse(targets, priors, 256)
    losses = detection_losses(output, coarse, LossConfig(quality_target="reference"))
    assert np.allclose([value.item() for value in losses], golden["losses"], rtol=1e-5)
    total = 10 * (losses.loss_l + losses.loss_prop_l) + losses.loss_c + losses.loss_prop_c + losses.loss_ct
    total.backward()
    for name, value in output._asdict().items():
        assert value.grad is not None
        scale = np.abs(golden[f"grad_{name}"]).max()
        assert np.abs(value.grad.numpy() - golden[f"grad_{name}"]).max() <= 1e-4 * scale, name


def test_a_detached_quality_target_changes_gradients_but_no_value() -> None:
    gradients, values = [], []
    for variant in ("reference", "detached"):
        output, targets, priors, _ = load_case(CASES[1])
        losses = detection_losses(output, assign_coarse(targets, priors, 256), LossConfig(quality_target=variant))  # type: ignore[arg-type]
        losses.loss_ct.backward()
        gradients.append(output.prop_loc.grad)
        values.append(losses.loss_ct.item())
    assert values[0] == values[1]
    assert gradients[0] is not None
    assert gradients[0].any()
    assert gradients[1] is None


def test_clips_without_instances_give_finite_losses() -> None:
    output, _, priors, _ = load_case(CASES[1])
    coarse = assign_coarse([torch.zeros(0, 3)] * len(output.loc), priors, 256)
    losses = detection_losses(output, coarse, LossConfig())
    assert not coarse.labels.any()
    assert losses.loss_l.item() == losses.loss_prop_l.item() == losses.loss_ct.item() == 0
    sum(losses).backward()  # type: ignore[union-attr]
    assert output.conf.grad is not None
    assert torch.isfinite(output.conf.grad).all()


def test_assignment_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(5)
    priors = (torch.arange(32) + 0.5) / 32
    start = torch.rand(9, generator=generator)
    instances = torch.stack((start, start + 0.4 * torch.rand(9, generator=generator), torch.arange(1.0, 10)), dim=1)
    targets = assign_coarse([instances], priors, 64)
    for k, centre in enumerate((priors * 64).tolist()):
        covering = [(e - s, i) for i, (s, e) in enumerate((instances[:, :2] * 64).tolist()) if s <= centre <= e]
        if not covering:
            assert targets.labels[0, k] == 0
            continue
        best = min(covering)[1]
        assert targets.labels[0, k] == best + 1
        expected = torch.tensor([centre - instances[best, 0] * 64, instances[best, 1] * 64 - centre])
        assert torch.allclose(targets.distances[0, k], expected, atol=1e-5)


def test_of_equal_instances_the_first_is_assigned() -> None:
    instances = torch.tensor([[0.25, 0.75, 5.0], [0.25, 0.75, 8.0]])
    assert assign_coarse([instances], torch.tensor([0.5]), 256).labels.tolist() == [[5]]


def test_refined_targets_reach_the_instance() -> None:
    coarse = assign_coarse([torch.tensor([[0.25, 0.75, 2.0]])], torch.tensor([0.5, 0.9]), 256)
    loc = torch.tensor([[[60.0, 80.0], [5.0, 5.0]]])
    refined = assign_refined(coarse, loc, 0.5)
    assert refined.labels.tolist() == [[2, 0]]
    reached = loc + 0.5 * loc.sum(-1, keepdim=True) * refined.offsets
    assert torch.allclose(reached[0, 0], torch.tensor([64.0, 64.0]))
    assert assign_refined(coarse, torch.tensor([[[10.0, 10.0], [5.0, 5.0]]]), 0.5).labels.tolist() == [[0, 0]]


def test_iou_of_segments_by_hand() -> None:
    predicted, target = torch.tensor([[2.0, 2.0], [1.0, 3.0]]), torch.tensor([[2.0, 2.0], [3.0, 1.0]])
    assert torch.allclose(distance_iou(predicted, target), torch.tensor([1.0, 1 / 3]))
    assert iou_loss(predicted, target).item() == pytest.approx(2 / 3)


def test_focal_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]]))
    expected = 0.75 * 0.5**2 * -np.log(0.5) + 0.25 * 0.3**2 * -np.log(0.7)
    assert focal_loss(logits, torch.tensor([1, 0])).item() == pytest.approx(expected, rel=1e-4)


def test_level_ranges_against_a_loop() -> None:
    ranges, lengths = ((0.0, 12.0), (6.0, 40.0)), (16, 8)
    priors = torch.cat([(torch.arange(t) + 0.5) / t for t in lengths])
    instances = torch.tensor([[0.0, 0.9, 1.0], [0.2, 0.5, 2.0], [0.55, 0.6, 3.0]])
    found = assign_coarse([instances], priors, 64, level_ranges(ranges, lengths)).labels[0].tolist()
    for k, centre in enumerate((priors * 64).tolist()):
        low, high = ranges[0 if k < lengths[0] else 1]
        eligible = [
            (e - s, int(label))
            for s, e, label in (instances * torch.tensor([64, 64, 1])).tolist()
            if s <= centre <= e and low < max(centre - s, e - centre) <= high
        ]
        assert found[k] == (min(eligible)[1] if eligible else 0)
    assert {0, 1, 2, 3} == set(found)  # the ranges leave locations of an instance out
    assert level_ranges((), lengths) is None


def test_the_best_coarse_proposal_of_every_clip_can_be_kept() -> None:
    instances = [torch.tensor([[0.25, 0.75, 2.0]]), torch.tensor([[0.25, 0.75, 4.0]]), torch.zeros(0, 3)]
    coarse = assign_coarse(instances, torch.tensor([0.4, 0.5, 0.6]), 64)
    near, far = [[9.6, 22.4], [16.0, 16.0], [22.4, 9.6]], [[1.0, 1.0], [4.0, 4.0], [2.0, 1.0]]
    loc = torch.tensor([near, far, far])
    assert assign_refined(coarse, loc, 0.6).labels.tolist() == [[2, 2, 2], [0, 0, 0], [0, 0, 0]]
    kept = assign_refined(coarse, loc, 0.6, keep_best=True)
    assert kept.labels.tolist() == [[2, 2, 2], [0, 4, 0], [0, 0, 0]]


def test_losses_averaged_over_clips_are_the_mean_of_each_clip_alone() -> None:
    output, targets, priors, _ = load_case(next(c for c in CASES if len(load_case(c)[1]) > 1))
    config = LossConfig(average_over="clips", offset_loss="smooth-l1", keep_best_refined=True, refined_iou=0.9)
    coarse = assign_coarse(targets, priors, 256)
    alone = [
        detection_losses(
            AfsdOutput(*(value[b : b + 1] for value in output)),
            assign_coarse([target], priors, 256),
            replace(config, average_over="batch"),
        )
        for b, target in enumerate(targets)
    ]
    found = detection_losses(output, coarse, config)
    for name, value in found._asdict().items():
        expected = sum(getattr(losses, name).item() for losses in alone) / len(alone)
        assert value.item() == pytest.approx(expected, rel=1e-5), name
    assert found.loss_l.item() != pytest.approx(detection_losses(output, coarse, LossConfig()).loss_l.item())


def test_centerness_by_hand_and_as_target() -> None:
    assert centerness(torch.tensor([[4.0, 4.0], [1.0, 4.0], [0.0, 3.0]])).tolist() == pytest.approx([1.0, 0.5, 0.0])
    output, targets, priors, _ = load_case(CASES[1])
    coarse = assign_coarse(targets, priors, 256)
    positive = coarse.labels > 0
    logits, distances = output.center[positive][:, 0].double(), coarse.distances[positive].double()
    target = (distances.min(dim=1).values / distances.max(dim=1).values).sqrt()
    p = logits.sigmoid()
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).sum() / positive.sum()
    assert detection_losses(output, coarse, LossConfig(), "centerness").loss_ct.item() == pytest.approx(
        expected.item(), rel=1e-5
    )
    assert detection_losses(output, coarse, LossConfig(), "none").loss_ct.item() == 0


def test_activations_by_hand() -> None:
    feature = torch.tensor([[[0.0, 0.5, 3.0], [2.0, 1.0, 0.0]]])
    assert boundary_activation(feature)[0].tolist() == pytest.approx(
        [np.tanh(2) / 2, (np.tanh(0.5) + np.tanh(1)) / 2, np.tanh(3) / 2]
    )
    assert boundary_activation(feature, "clip")[0].tolist() == pytest.approx([0.5, 0.75, 0.5])
    assert boundary_activation(feature, "min-max")[0].tolist() == pytest.approx([0.5, (1 / 6 + 0.5) / 2, 0.5])
    flat = boundary_activation(torch.full((1, 2, 3), 0.7), "min-max")
    assert flat.tolist() == [[0.0, 0.0, 0.0]]


def test_the_reference_triplet_reads_level_0_at_stride_4_whatever_it_is() -> None:
    generator = torch.Generator().manual_seed(3)
    model = ModelConfig(num_classes=2, clip_length=256, endpoints="5c", num_levels=6)
    loc = torch.rand(1, 8, 32, generator=generator)  # stride 8
    features = BoundaryFeatures(None, loc, None)
    segments = torch.tensor([[[20.0, 59.0], [80.0, 119.0], [60.0, 79.0]]])
    for divisors, cells in (("stride", 8), ("reference", 4)):
        read = []
        for (start, end), side in zip(segments[0].tolist(), (1, 0, 0), strict=True):
            width = end - start + 1
            ends = (start - width / 10, start + width / 4) if side == 0 else (end - width / 4, end + width / 10)
            low, high = (min(max(int(round(value) / cells), 0), 31) for value in ends)
            read.append(loc[0, 4 * side : 4 * side + 4, low : high + 1].max(dim=1).values)
        anchor, positive, negative = read
        expected = 0.1 * max(0.0, float((anchor - positive).norm() - (anchor - negative).norm()) + 1)
        assert triplet_loss(features, segments, model, divisors).item() == pytest.approx(expected, rel=1e-4)
