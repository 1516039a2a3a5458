"""Readings of boundary regions against loops over cells."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.afsd.region_features import SAMPLES, RegionFeature


def draw(cells: int = 11) -> tuple[Tensor, Tensor]:
    """Features [2,6,cells] and regions [2,9,4]: ordinary ones, and reversed, outside, fractional."""
    generator = torch.Generator().manual_seed(4)
    start = torch.rand(2, 9, 2, generator=generator) * cells * 1.4 - 2
    width = torch.rand(2, 9, 2, generator=generator) * 6 - 1
    regions = torch.stack(
        (start[..., 0], start[..., 0] + width[..., 0], start[..., 1], start[..., 1] + width[..., 1]), -1
    )
    return torch.rand(2, 6, cells, generator=generator, dtype=torch.float64), regions.double()


def cells_of(region: list[float], half: int, length: int) -> list[int]:
    """The definition: truncated, clamped, both ends included; a reversed region is its first cell."""
    low, high = (min(max(int(value), 0), length - 1) for value in region[2 * half : 2 * half + 2])
    return list(range(low, high + 1)) or [low]


def test_mean_against_a_loop() -> None:
    features, regions = draw()
    found = RegionFeature(6, "mean", "correct")(features, regions)
    for b, c, n in torch.cartesian_prod(torch.arange(2), torch.arange(6), torch.arange(9)).tolist():
        cells = cells_of(regions[b, n].tolist(), c // 3, features.shape[2])
        assert found[b, c, n].item() == pytest.approx(sum(features[b, c, t].item() for t in cells) / len(cells))


def test_stack_lays_first_middle_and_last_cell_side_by_side() -> None:
    features, regions = draw()
    feature = RegionFeature(6, "stack", "correct")
    found = feature(features, regions)
    assert found.shape == (2, feature.out_channels, 9) == (2, 6 * SAMPLES, 9)
    for b, c, n in torch.cartesian_prod(torch.arange(2), torch.arange(6), torch.arange(9)).tolist():
        cells = cells_of(regions[b, n].tolist(), c // 3, features.shape[2])
        for k, t in enumerate((cells[0], cells[(len(cells) - 1) // 2], cells[-1])):
            assert found[b, 6 * k + c, n] == features[b, c, t]


def test_conv_mixes_the_samples_of_each_boundary_apart() -> None:
    features, regions = draw()
    stacked = RegionFeature(6, "stack", "correct")(features, regions).reshape(2, SAMPLES, 6, 9)
    feature = RegionFeature(6, "conv", "correct").double()
    assert feature.mix is not None
    found = feature(features, regions)
    weight, bias = feature.mix.weight, feature.mix.bias
    assert bias is not None
    for half in (0, 1):
        mine = slice(3 * half, 3 * half + 3)
        expected = torch.einsum("oik,bkin->bon", weight[mine], stacked[:, :, mine]) + bias[mine, None]
        assert torch.allclose(found[:, mine], expected)


@pytest.mark.parametrize("pooling", ["mean", "conv", "stack"])
def test_gradient_is_that_of_finite_differences(pooling: str) -> None:
    features, regions = draw(5)
    feature = RegionFeature(6, pooling, "correct").double()  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(lambda x: feature(x, regions), features.requires_grad_())
