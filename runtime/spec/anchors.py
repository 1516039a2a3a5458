"""Where A2Net's raw outputs lie in a window: default anchors, and the points of the anchor-free module.

Positions are fractions of the window or *units*: cells of the finest level, of which a window has `units`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

RATIOS = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Widths of the default anchors of a cell, in cells of its level (released THUMOS14 settings)."""


@dataclass(frozen=True)
class A2NetLayout:
    """Levels, anchors and points of one network; decoding and training read the same."""

    level_lengths: tuple[int, ...] = (64, 32, 16, 8, 4, 2)
    """Cells of each level, fine to coarse; each level has half the cells of the one before it."""
    anchor_ratios: tuple[tuple[float, ...], ...] = (RATIOS,) * 6
    """Widths of the default anchors of each level, in its cells; empty: there is no anchor-based module."""
    point_levels: int = 6
    """The finest so many levels are those of the anchor-free module; 0: there is none."""
    anchor_outputs: Literal["all", "overlap"] = "all"
    """What is predicted for a default anchor: classes, overlap, offset, width; or its overlap alone (ActivityNet)."""
    num_classes: int = 21
    """K, the background included."""
    offset_scale: float = 0.1
    """α: x = x_a + α·w_a·r_x. The paper says 0.0001, the released settings 0.1."""
    width_scale: float = 0.1
    """β: w = w_a·exp(β·r_w). As α."""

    def __post_init__(self) -> None:
        if not self.level_lengths or any(
            fine != 2 * coarse for fine, coarse in zip(self.level_lengths, self.level_lengths[1:], strict=False)
        ):
            raise ValueError(f"level_lengths is {self.level_lengths}, expected each half the one before it")
        if self.anchor_ratios and len(self.anchor_ratios) != len(self.level_lengths):
            raise ValueError(
                f"anchor_ratios has {len(self.anchor_ratios)} entries, expected one per level "
                f"({len(self.level_lengths)}) or none"
            )
        if not 0 <= self.point_levels <= len(self.level_lengths):
            raise ValueError(f"point_levels is {self.point_levels}, expected 0 to {len(self.level_lengths)}")
        if self.num_classes < 2:
            raise ValueError(f"num_classes is {self.num_classes}, expected at least 2 (the background is one)")
        if self.anchor_outputs == "overlap" and self.num_classes != 2:
            raise ValueError(
                f"num_classes is {self.num_classes}, expected 2: anchors that predict the overlap alone know no class"
            )
        if not self.anchor_ratios and not self.point_levels:
            raise ValueError("neither anchor_ratios nor point_levels is given: nothing would be predicted")

    @property
    def units(self) -> int:
        """Units of a window: cells of the finest level (64 on THUMOS14, of 8 frames each)."""
        return self.level_lengths[0]

    @property
    def num_anchors(self) -> int:
        """M, default anchors over all levels (630 on THUMOS14)."""
        return sum(t * len(ratios) for t, ratios in zip(self.level_lengths, self.anchor_ratios, strict=False))

    @property
    def anchor_width(self) -> int:
        """Values of one anchor: K classes, overlap, r_x, r_w (24 on THUMOS14); or the overlap alone."""
        return 1 if self.anchor_outputs == "overlap" else self.num_classes + 3

    @property
    def num_points(self) -> int:
        """N, points of the anchor-free module (126 on THUMOS14)."""
        return sum(self.level_lengths[: self.point_levels])


def default_anchors(layout: A2NetLayout) -> NDArray[np.float64]:
    """(centre x_a, width w_a) of the default anchors as fractions of the window, float64 [M,2].

    Cell c of a level with t cells: x_a = (c + 0.5)/t, w_a = ratio/t. Levels fine to coarse, then cells, then ratios.
    """
    levels = [
        np.stack(np.broadcast_arrays((np.arange(t)[:, None] + 0.5) / t, np.array(ratios) / t), axis=-1).reshape(-1, 2)
        for t, ratios in zip(layout.level_lengths, layout.anchor_ratios, strict=False)
    ]
    return np.concatenate(levels) if levels else np.empty((0, 2))


def level_points(layout: A2NetLayout) -> list[NDArray[np.float64]]:
    """Points of each level of the anchor-free module in units, float64 [t]: j·s + ⌊s/2⌋ with the level's stride s."""
    strides = [layout.units // t for t in layout.level_lengths[: layout.point_levels]]
    return [np.arange(0, layout.units, s, dtype=np.float64) + s // 2 for s in strides]
