"""Read and write the table of ranges: what was measured on which clips, as readable JSON for both targets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from calibration.quantise.placement import Placement
from calibration.ranges.choose import PERCENTILE, Method, Numbers, Quantiser, choose_range, make_quantiser
from calibration.ranges.clips import Clip, Clips
from calibration.ranges.histogram import BINS, Histogram
from runtime.common.files import read_json, write_text
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.errors import InputError

SCHEMA = 1
"""Version of the file's format."""


@dataclass(frozen=True)
class PointMeasurement:
    """Holds the values of one point on all clips."""

    tensors: tuple[str, ...]
    """Names of the tensors that share the range."""
    layers: tuple[str, ...]
    """Names of the layers that read the tensors."""
    low: float
    """Smallest value, or 0."""
    high: float
    """Largest value, or 0."""
    bin_width: float
    """Width of a bin."""
    first_bin: int
    """Number of the first bin, counted from zero: the bin starts at first_bin · bin_width."""
    counts: tuple[int, ...]
    """Number of values in each bin."""

    @property
    def is_valid(self) -> bool:
        """Whether the numbers are consistent: finite, bins that contain the range, no negative counts."""
        last = self.first_bin + len(self.counts)
        return (
            -math.inf < self.low <= 0 <= self.high < math.inf
            and 0 <= self.bin_width < math.inf
            and -BINS <= self.first_bin <= last <= BINS
            and min(self.counts, default=-1) >= 0
            and max(self.counts) < 2**53
            and self.first_bin * self.bin_width <= self.low
            and self.high <= last * self.bin_width
        )

    @property
    def histogram(self) -> Histogram:
        """Histogram of the values as it was counted."""
        counts = np.zeros(2 * BINS, np.int64)
        counts[BINS + self.first_bin : BINS + self.first_bin + len(self.counts)] = self.counts
        return Histogram(self.bin_width, counts, self.low, self.high)


@dataclass(frozen=True)
class RangeTable:
    """Holds the measured ranges of one network on some clips."""

    network_sha256: str
    """SHA-256 of the network's weights, the only ones that the table fits."""
    equalised: bool
    """Whether channels were equalised before measuring."""
    seed: int
    """Seed of the draw of clips."""
    clips: tuple[Clip, ...]
    clips_sha256: str
    """SHA-256 over the pixels of all clips."""
    videos: dict[str, str]
    """Name of each video that clips are from → the first digits of its SHA-256."""
    points: dict[str, PointMeasurement]
    """Name of a point → its measurement."""
    chosen: dict[Numbers, dict[str, tuple[float, float]]] = field(default_factory=dict)
    """Type of numbers → name of a point → range that was searched by the error of the outputs (method "output")."""
    schema: int = SCHEMA

    @property
    def sha256(self) -> str:
        """SHA-256 of the table's content."""
        return sha256(self._json().encode()).hexdigest()

    def quantisers(self, method: Method, numbers: Numbers, percentile: float = PERCENTILE) -> Mapping[str, Quantiser]:
        """Return a quantiser for every point.

        Raises:
            InputError: method "output" without searched ranges.
        """
        if method == "output":
            searched = self.chosen.get(numbers, {})
            if searched.keys() != self.points.keys():
                raise InputError(f'method "output": the table holds no ranges searched for {numbers}; give --videos')
            return {name: make_quantiser(*searched[name], numbers) for name in self.points}
        return {
            name: make_quantiser(*choose_range(point.histogram, method, numbers, percentile), numbers)
            for name, point in self.points.items()
        }

    def require_fit(self, placement: Placement, origin: str) -> None:
        """Raise InputError unless the table was measured on the network; errors call the table `origin`."""
        if self.network_sha256 == placement.sha256 and self.points.keys() != {point.name for point in placement.points}:
            raise InputError(f"{origin}: its points are not those of the network; it was edited, measure again")
        if self.network_sha256 != placement.sha256:
            raise InputError(
                f"{origin}: is a table of another network (weights {self.network_sha256[:12]}, this one has "
                f"{placement.sha256[:12]}); measure again with --videos"
            )

    def write(self, path: Path) -> None:
        """Write the table as JSON, one point a line."""
        write_text(path, self._json())

    def _json(self) -> str:
        content = to_mapping(self)
        points = content.pop("points")
        head = json.dumps(content, indent=1).removesuffix("\n}")
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(point)}" for name, point in points.items())
        return f'{head},\n "points": {{\n{rows}\n }}\n}}\n'


def make_table(
    placement: Placement, histograms: Mapping[str, Histogram], clips: Clips, *, equalised: bool, seed: int, network: str
) -> RangeTable:
    """Make a table from the histograms of some clips.

    Args:
        placement: placement of the network that was measured.
        histograms: histogram of each point by name.
        clips: clips that were run.
        equalised: whether `placement` is of an equalised network.
        seed: seed of the draw.
        network: hash of the network as the user gave it.
    """
    points = {
        point.name: _make_measurement(placement, point.name, histograms[point.name]) for point in placement.points
    }
    return RangeTable(network, equalised, seed, clips.clips, clips.sha256, clips.videos, points)


def load_table(path: Path) -> RangeTable:
    """Read a table (InputError: file not found, or not a table)."""
    content = read_json(path, "table of ranges", InputError)
    try:
        table = from_mapping(RangeTable, content)
        for name, point in table.points.items():
            if not point.is_valid:
                raise StructureError(f"points.{name}: bins or range do not fit")
        if table.schema != SCHEMA:
            raise StructureError(f"schema {table.schema}, expected {SCHEMA}")
    except StructureError as error:
        raise InputError(f"{path}: not a table of ranges of this release ({error}); measure again") from None
    return table


def _make_measurement(placement: Placement, name: str, histogram: Histogram) -> PointMeasurement:
    point = next(point for point in placement.points if point.name == name)
    used = np.flatnonzero(histogram.counts)
    first, last = (int(used[0]), int(used[-1])) if used.size else (BINS, BINS)
    return PointMeasurement(
        point.tensors,
        tuple(dict.fromkeys(placement.layer_of[node].name for node in point.nodes)),
        histogram.low,
        histogram.high,
        histogram.width,
        first - BINS,
        tuple(int(count) for count in histogram.counts[first : last + 1]),
    )
