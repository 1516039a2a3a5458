"""Boundary pooling against its definition in plain loops, finite differences and the published example."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.afsd.boundary_pooling import boundary_max_pooling, boundary_max_pooling_loop

EXAMPLE_FEATURES = torch.tensor([[[1.0, 4, 2, 3], [5, 1, 7, 2]]])
EXAMPLE_REGIONS = torch.tensor([[[0.0, 1, 2, 3], [2, 3, 0, 2]]])


def random_case(cells: int, regions: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features with many equal values, and regions that reach outside, reverse, and have fractions of both signs."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 6, cells, generator=generator).mul(3).round().to(dtype)
    return features, (torch.randn(2, regions, 4, generator=generator) * cells)


@pytest.mark.parametrize("regions", [torch.zeros(1, 0, 4), torch.zeros(1, 1, 4)])
def test_no_or_one_region(regions: Tensor) -> None:
    pooled = boundary_max_pooling(EXAMPLE_FEATURES, regions)
    assert pooled.shape == (1, 2, regions.shape[1])
    assert torch.equal(pooled, EXAMPLE_FEATURES[:, :, : regions.shape[1]])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("cells", "regions"), [(1, 3), (2, 2), (5, 7), (64, 64), (256, 126), (300, 9)])
def test_equals_the_loop(cells: int, regions: int, dtype: torch.dtype) -> None:
    features, where = random_case(cells, regions, dtype)
    pooled = boundary_max_pooling(features, where)
    assert pooled.dtype == dtype
    assert torch.equal(pooled, boundary_max_pooling_loop(features, where))


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ((-0.75, 0.9, 2.9, 2.9), (1, 7)),  # truncation toward zero at both ends
        ((3, 1, 3, 0), (3, 2)),  # reversed: the first cell
        ((-9, -5, 300.2, 900), (1, 2)),  # clamped to the first and the last cell
        ((0, 3, 0, 3), (4, 7)),  # everything
        ((float("nan"), 1, 0, float("inf")), (4, 7)),
    ],
)
def test_regions_by_hand(region: tuple[float, ...], expected: tuple[float, float]) -> None:
    pooled = boundary_max_pooling(EXAMPLE_FEATURES, torch.tensor([[region]], dtype=torch.float32))
    assert pooled[0, :, 0].tolist() == list(expected)


def test_a_wide_feature_pools_the_right_cell_with_bfloat16_regions() -> None:
    features = torch.arange(768.0)[None, None].repeat(1, 2, 1)
    pooled = boundary_max_pooling(features, torch.tensor([[[0.0, 767, 766, 900]]], dtype=torch.bfloat16))
    assert pooled[0, :, 0].tolist() == [767, 767]


def test_published_example_forward_and_both_backwards() -> None:
    for backward, expected in (("correct", [[0, 1, 0, 1], [0, 0, 2, 0]]), ("reference", [[0, 2, 0, 2], [0, 0, 0, 0]])):
        features = EXAMPLE_FEATURES.clone().requires_grad_()
        pooled = boundary_max_pooling(features, EXAMPLE_REGIONS, backward)  # type: ignore[arg-type]
        assert pooled.tolist() == [[[4, 3], [7, 7]]]
        pooled.sum().backward()
        assert features.grad is not None
        assert features.grad[0].tolist() == expected


def test_both_backwards_agree_when_regions_are_as_many_as_cells() -> None:
    gradients = []
    for backward in ("correct", "reference"):
        features, regions = random_case(16, 16, torch.float32)
        features.requires_grad_()
        (boundary_max_pooling(features, regions, backward) * torch.arange(16.0)).sum().backward()  # type: ignore[arg-type]
        gradients.append(features.grad)
    assert torch.equal(gradients[0], gradients[1])


def test_reference_backward_against_a_loop_over_the_flat_array() -> None:
    features, regions = random_case(12, 5, torch.float64, seed=3)
    features.requires_grad_()
    weight = torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    (boundary_max_pooling(features, regions, "reference") * weight).sum().backward()
    flat, expected = features.detach().reshape(-1), torch.zeros(features.numel(), dtype=torch.float64)
    for b in range(2):
        for c in range(6):
            for k in range(5):
                ends = regions[b, k, :2] if c < 3 else regions[b, k, 2:]
                low, high = (min(max(int(v), 0), 4) for v in ends)
                row = (b * 6 + c) * 5
                best = low
                for t in range(low, high + 1):
                    if flat[row + t] > flat[row + best]:
                        best = t
                expected[row + best] += weight[b, c, k]
    assert features.grad is not None
    assert torch.equal(features.grad.reshape(-1), expected)


def test_reference_backward_refuses_more_regions_than_cells() -> None:
    features = torch.zeros(1, 2, 3, requires_grad=True)
    with pytest.raises(ValueError, match="outnumber"):
        boundary_max_pooling(features, torch.zeros(1, 4, 4), "reference").sum().backward()


def test_gradcheck_and_opcheck() -> None:
    features = torch.randn(2, 4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    regions = torch.rand(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 7
    torch.autograd.gradcheck(lambda x: boundary_max_pooling(x, regions), (features,))
    torch.library.opcheck(torch.ops.afsd.boundary_max_pooling.default, (features, regions, False))


@pytest.mark.parametrize(
    ("features", "regions"),
    [
        ((2, 3), (1, 1, 4)),
        ((1, 3, 4), (1, 1, 4)),
        ((1, 2, 0), (1, 1, 4)),
        ((1, 2, 4), (2, 1, 4)),
        ((1, 2, 4), (1, 1, 3)),
    ],
)
def test_misfit_shapes_are_named(features: tuple[int, ...], regions: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        boundary_max_pooling(torch.zeros(features), torch.zeros(regions))
