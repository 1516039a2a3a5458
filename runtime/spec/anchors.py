"""Place A2Net's raw outputs in a window: default anchors, and the points of the anchor-free module.

Positions are fractions of the window, or *units*: cells of the finest level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from runtime.common.ranges import Range, check_ranges
from runtime.errors import InputError

RATIOS = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Widths of a cell's default anchors, in cells of its level (released THUMOS14 settings)."""


Cells = Annotated[int, Range(1, 100_000, what="cells")]
"""Number of cells of a level."""
Factor = Annotated[float, Range(0, 1000, above=True)]
"""A factor on a width or an offset."""


@dataclass(frozen=True)
class A2NetLayout:
    """Holds the levels, anchors and points of one network, for decoding and training."""

    level_lengths: tuple[Cells, ...] = (64, 32, 16, 8, 4, 2)
    """Number of cells of each level, fine to coarse; each level has half the cells of the previous one."""
    anchor_ratios: tuple[tuple[Factor, ...], ...] = (RATIOS,) * 6
    """Widths of the default anchors of each level, in cells of the level; empty: no anchor-based module."""
    point_levels: Annotated[int, Range(0, 64)] = 6
    """Number of levels of the anchor-free module, from the finest; 0: no anchor-free module."""
    anchor_outputs: Literal["all", "overlap"] = "all"
    """Predictions for a default anchor: classes, overlap, offset and width; or the overlap only (ActivityNet)."""
    num_classes: Annotated[int, Range(2, 1_000_000, what="classes with the background")] = 21
    """Number of classes K, including the background."""
    offset_scale: Factor = 0.1
    """Scale α of offsets, x = x_a + α·w_a·r_x: 0.0001 in the paper, 0.1 in the released settings."""
    width_scale: Factor = 0.1
    """Scale β of widths, w = w_a·exp(β·r_w): 0.0001 in the paper, 0.1 in the released settings."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.level_lengths or any(
            fine != 2 * coarse for fine, coarse in zip(self.level_lengths, self.level_lengths[1:], strict=False)
        ):
            raise InputError(f"level_lengths is {self.level_lengths}, expected each half the one before it")
        if self.anchor_ratios and len(self.anchor_ratios) != len(self.level_lengths):
            raise InputError(
                f"anchor_ratios has {len(self.anchor_ratios)} entries, expected one per level "
                f"({len(self.level_lengths)}) or none"
            )
        if not 0 <= self.point_levels <= len(self.level_lengths):
            raise InputError(f"point_levels is {self.point_levels}, expected 0 to {len(self.level_lengths)}")
        if self.anchor_outputs == "overlap" and self.num_classes != 2:
            raise InputError(
                f"num_classes is {self.num_classes}, expected 2: anchors that predict the overlap alone know no class"
            )
        if not self.anchor_ratios and not self.point_levels:
            raise InputError("neither anchor_ratios nor point_levels is given: nothing would be predicted")

    @property
    def units(self) -> int:
        """Number of units of a window: cells of the finest level (64 on THUMOS14, of 8 frames each)."""
        return self.level_lengths[0]

    @property
    def num_anchors(self) -> int:
        """Number of default anchors M over all levels (630 on THUMOS14)."""
        return sum(t * len(ratios) for t, ratios in zip(self.level_lengths, self.anchor_ratios, strict=False))

    @property
    def anchor_width(self) -> int:
        """Number of values per anchor: K classes, overlap, r_x, r_w (24 on THUMOS14); or 1, the overlap."""
        return 1 if self.anchor_outputs == "overlap" else self.num_classes + 3

    @property
    def num_points(self) -> int:
        """Number of points N of the anchor-free module (126 on THUMOS14)."""
        return sum(self.level_lengths[: self.point_levels])


def default_anchors(layout: A2NetLayout) -> NDArray[np.float64]:
    """Return (centre x_a, width w_a) of the default anchors as fractions of the window, float64 [M,2].

    Cell c of a level with t cells: x_a = (c + 0.5)/t, w_a = ratio/t. Levels fine to coarse, then cells, then ratios.
    """
    levels = [
        np.stack(np.broadcast_arrays((np.arange(t)[:, None] + 0.5) / t, np.array(ratios) / t), axis=-1).reshape(-1, 2)
        for t, ratios in zip(layout.level_lengths, layout.anchor_ratios, strict=False)
    ]
    return np.concatenate(levels) if levels else np.empty((0, 2))


def level_points(layout: A2NetLayout) -> list[NDArray[np.float64]]:
    """Return the points of each anchor-free level in units, float64 [t]: j·s + ⌊s/2⌋ with the level's stride s."""
    strides = [layout.units // t for t in layout.level_lengths[: layout.point_levels]]
    return [np.arange(0, layout.units, s, dtype=np.float64) + s // 2 for s in strides]
