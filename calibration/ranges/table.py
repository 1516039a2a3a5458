"""The table of ranges: what was measured on which clips, as JSON that a person can read and both targets use."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from calibration.quantise.placement import Layout
from calibration.ranges.choose import PERCENTILE, Method, Numbers, Quantiser, choose_range, quantiser
from calibration.ranges.clips import Clip, Clips
from calibration.ranges.histogram import BINS, Histogram
from runtime.common.files import read_json, write_text
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.errors import InputError

SCHEMA = 1
"""Version of the file's layout."""


@dataclass(frozen=True)
class Measured:
    """What one point took on all clips."""

    tensors: tuple[str, ...]
    """Tensors that share the range."""
    layers: tuple[str, ...]
    """Layers that read them."""
    low: float
    """Smallest value, or 0."""
    high: float
    """Largest value, or 0."""
    bin_width: float
    first_bin: int
    """Number of the first bin, counted from zero: it starts at first_bin · bin_width."""
    counts: tuple[int, ...]
    """Values in each bin."""

    @property
    def sound(self) -> bool:
        """Whether the numbers can be what was counted: finite, bins that hold the range, no negative counts."""
        last = self.first_bin + len(self.counts)
        return (
            -math.inf < self.low <= 0 <= self.high < math.inf
            and 0 <= self.bin_width < math.inf
            and -BINS <= self.first_bin <= last <= BINS
            and min(self.counts, default=-1) >= 0
            and self.first_bin * self.bin_width <= self.low
            and self.high <= last * self.bin_width
        )

    @property
    def histogram(self) -> Histogram:
        """As it was counted."""
        counts = np.zeros(2 * BINS, np.int64)
        counts[BINS + self.first_bin : BINS + self.first_bin + len(self.counts)] = self.counts
        return Histogram(self.bin_width, counts, self.low, self.high)


@dataclass(frozen=True)
class RangeTable:
    """Ranges of one network on some clips."""

    network_sha256: str
    """Of the network's weights: a table fits no other."""
    equalised: bool
    """Whether channels were equalised before measuring."""
    seed: int
    """Of the draw of clips."""
    clips: tuple[Clip, ...]
    clips_sha256: str
    """Over their pixels."""
    videos: dict[str, str]
    """Videos that clips are from → the first digits of their SHA-256."""
    points: dict[str, Measured]
    chosen: dict[Numbers, dict[str, tuple[float, float]]] = field(default_factory=dict)
    """Ranges that were searched by the error of the outputs (method "output"), by type of numbers and point."""
    schema: int = SCHEMA

    @property
    def sha256(self) -> str:
        """Of the table's content."""
        return sha256(self._json().encode()).hexdigest()

    def quantisers(self, method: Method, numbers: Numbers, percentile: float = PERCENTILE) -> Mapping[str, Quantiser]:
        """A quantiser for every point.

        Raises:
            InputError: method "output" without ranges that were searched.
        """
        if method == "output":
            searched = self.chosen.get(numbers, {})
            if searched.keys() != self.points.keys():
                raise InputError(f'method "output": the table holds no ranges searched for {numbers}; give --videos')
            return {name: quantiser(*searched[name], numbers) for name in self.points}
        return {
            name: quantiser(*choose_range(point.histogram, method, numbers, percentile), numbers)
            for name, point in self.points.items()
        }

    def require_fit(self, layout: Layout, source: str) -> None:
        """Check that this is a table of the network.

        Raises:
            InputError: it is of another one.
        """
        if self.network_sha256 == layout.sha256 and self.points.keys() != {point.name for point in layout.points}:
            raise InputError(f"{source}: its points are not those of the network; it was edited, measure anew")
        if self.network_sha256 != layout.sha256:
            raise InputError(
                f"{source}: is a table of another network (weights {self.network_sha256[:12]}, this one has "
                f"{layout.sha256[:12]}); measure anew with --videos"
            )

    def write(self, path: Path) -> None:
        """Store as JSON, one point a line."""
        write_text(path, self._json())

    def _json(self) -> str:
        content = to_mapping(self)
        points = content.pop("points")
        head = json.dumps(content, indent=1).removesuffix("\n}")
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(point)}" for name, point in points.items())
        return f'{head},\n "points": {{\n{rows}\n }}\n}}\n'


def make_table(
    layout: Layout, histograms: Mapping[str, Histogram], clips: Clips, *, equalised: bool, seed: int, network: str
) -> RangeTable:
    """A table of what was counted on some clips.

    Args:
        layout: of the network that was measured.
        histograms: by point.
        clips: that were run.
        equalised: whether `layout` is of an equalised network.
        seed: of the draw.
        network: hash of the network as the user gave it.
    """
    points = {point.name: _measured(layout, point.name, histograms[point.name]) for point in layout.points}
    return RangeTable(network, equalised, seed, clips.clips, clips.sha256, clips.videos, points)


def load_table(path: Path) -> RangeTable:
    """Read a table.

    Raises:
        InputError: no such file, or not a table.
    """
    content = read_json(path, "table of ranges", InputError)
    try:
        table = from_mapping(RangeTable, content)
        for name, point in table.points.items():
            if not point.sound:
                raise StructureError(f"points.{name}: bins or range do not fit")
        if table.schema != SCHEMA:
            raise StructureError(f"schema {table.schema}, expected {SCHEMA}")
    except StructureError as error:
        raise InputError(f"{path}: not a table of ranges of this release ({error}); measure anew") from None
    return table


def _measured(layout: Layout, name: str, histogram: Histogram) -> Measured:
    point = next(point for point in layout.points if point.name == name)
    used = np.flatnonzero(histogram.counts)
    first, last = (int(used[0]), int(used[-1])) if used.size else (BINS, BINS)
    return Measured(
        point.tensors,
        tuple(dict.fromkeys(layout.layer_of[node].name for node in point.nodes)),
        histogram.low,
        histogram.high,
        histogram.width,
        first - BINS,
        tuple(int(count) for count in histogram.counts[first : last + 1]),
    )
