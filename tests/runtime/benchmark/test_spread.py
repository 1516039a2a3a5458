"""Quartiles and the end of a warm-up."""

from __future__ import annotations

import statistics

import pytest

from runtime.benchmark.spread import Quartiles, is_stable, quartiles


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([4.0], (4.0, 4.0, 4.0)),
        ([1.0, 2.0], (1.25, 1.5, 1.75)),
        ([5.0, 1.0, 3.0, 2.0, 4.0], (2.0, 3.0, 4.0)),
        ([1.0, 1.0, 1.0, 101.0], (1.0, 1.0, 26.0)),
    ],
)
def test_quartiles_of_known_lists(values: list[float], expected: tuple[float, float, float]) -> None:
    assert quartiles(values) == pytest.approx(expected)


def test_quartiles_are_those_of_the_standard_library() -> None:
    values = [0.1 * (k * 37 % 101) ** 1.3 for k in range(50)]
    assert quartiles(values) == pytest.approx(statistics.quantiles(values, n=4, method="inclusive"))


def test_ranges_that_touch_overlap() -> None:
    assert Quartiles(1, 2, 3).overlaps(Quartiles(3, 4, 5))
    assert Quartiles(3, 4, 5).overlaps(Quartiles(1, 2, 3))
    assert Quartiles(1, 5, 9).overlaps(Quartiles(4, 5, 6))
    assert not Quartiles(1, 2, 3).overlaps(Quartiles(3.01, 4, 5))
    assert not Quartiles(3.01, 4, 5).overlaps(Quartiles(1, 2, 3))


@pytest.mark.parametrize(
    ("seconds", "stable"),
    [
        ([], False),
        ([1.0] * 5, False),  # one pass too few for two groups of three
        ([1.0] * 6, True),
        ([9.0, 2.0, 2.0, 2.0, 1.96, 1.95], True),  # medians 2.0 and 1.96
        ([2.0, 2.0, 2.0, 1.9, 1.9, 1.9], False),
        ([1.9, 1.9, 1.9, 2.0, 2.0, 2.0], False),  # slower is not stable either
        ([9.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], True),  # the earlier passes are forgotten
        ([1.0, 1.0, 50.0, 1.0, 60.0, 1.0], True),  # one outlier in each group moves no median
        ([1.0] * 3 + [1.03] * 3, False),  # 3 % is not below 3 %
        ([1.0] * 3 + [1.029] * 3, True),
    ],
)
def test_a_warm_up_ends_when_two_medians_agree(seconds: list[float], stable: bool) -> None:
    assert is_stable(seconds) is stable
