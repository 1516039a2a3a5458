"""Compute the paths of a camera over time: pans, tilts, zooms and shakes, and the unrest of a hand.

A displacement is a fraction of what the frame shows: x of its width to the right, y of its height downwards, as the
camera moves (the picture moves the other way). Sizes are natural logarithms, angles radians, times seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LABELS = ("cut", "dissolve", "fade", "freeze", "pan", "shake", "tilt", "zoom_in", "zoom_out")
"""Names of the nine classes, sorted. Each is its own mirror image, so that a horizontal flip keeps the class."""
MOVES = ("pan", "shake", "tilt", "zoom_in", "zoom_out")
"""Classes in which the camera moves; the others are edits, made of the frames of finished shots."""

SHAKE_HZ = (1.8, 4.2)
"""Range of the frequencies of a shake; all are below half of the 10 frames per second that the model sees."""
SHAKE_WAVES = 4
SHAKE_RAMP_S = 0.15
"""Time in which a shake grows to its full strength, and fades, at most a quarter of its length."""


@dataclass(frozen=True)
class Pose:
    """Holds where the camera looks in each frame: `x`, `y`, natural logarithm of the magnification, and `roll`."""

    x: Floats
    y: Floats
    log_zoom: Floats
    roll: Floats

    def __add__(self, other: Pose) -> Pose:
        return Pose(self.x + other.x, self.y + other.y, self.log_zoom + other.log_zoom, self.roll + other.roll)


@dataclass(frozen=True)
class Move:
    """Describes one move of the camera.

    `amount` is the whole path of a pan (widths), a tilt (heights) or a zoom (logarithm of the magnification, positive
    for zoom_in), or the root mean square of a shake (widths). `aside` is the part of the path that a pan makes
    vertically, a tilt horizontally. `ramp` is the share of the length in which the speed rises, and in which it falls.
    """

    label: str
    start_s: float
    end_s: float
    amount: float
    aside: float = 0.0
    ramp: float = 0.2
    seed: int = 0
    """Seed of a shake's waves."""

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


def ease(progress: Floats, ramp: float) -> Floats:
    """Compute the share of the path done at a `progress` in time of 0 … 1, with a trapezoid of speed.

    The speed rises linearly for the share `ramp` (0 < ramp ≤ ½) of the time, is constant, and falls as it rose.
    """
    p = np.clip(progress, 0.0, 1.0)
    top = 1 / (1 - ramp)
    rising, falling = top * p**2 / (2 * ramp), 1 - top * (1 - p) ** 2 / (2 * ramp)
    return np.where(p < ramp, rising, np.where(p > 1 - ramp, falling, top * (p - ramp / 2)))


def compute_move(move: Move, times: Floats) -> Pose:
    """Compute what a move adds to the camera's pose at `times` [N]; where the move has ended, its end stays."""
    zero = np.zeros_like(times)
    path = move.amount * ease((times - move.start_s) / move.length_s, move.ramp)
    match move.label:
        case "pan":
            return Pose(path, move.aside * path, zero, zero)
        case "tilt":
            return Pose(move.aside * path, path, zero, zero)
        case "zoom_in" | "zoom_out":
            return Pose(zero, zero, path, zero)
        case "shake":
            return _compute_shake(move, times)
    raise ValueError(f"got the label {move.label!r}, expected one of {', '.join(MOVES)}")


def _compute_shake(move: Move, times: Floats) -> Pose:
    rng = np.random.default_rng(move.seed)
    ramp_s = min(SHAKE_RAMP_S, move.length_s / 4)
    inside = np.clip(np.minimum(times - move.start_s, move.end_s - times) / ramp_s, 0.0, 1.0)
    frequencies = rng.uniform(*SHAKE_HZ, (3, SHAKE_WAVES, 1))
    phases = rng.uniform(0, 2 * np.pi, (3, SHAKE_WAVES, 1))
    shares = rng.uniform(0.4, 1.0, (3, SHAKE_WAVES, 1))
    shares /= np.sqrt((shares**2).sum(1, keepdims=True) / 2)  # a root mean square of 1
    x, y, roll = (shares * np.sin(2 * np.pi * frequencies * times + phases)).sum(1) * inside * move.amount
    weights = rng.uniform(0.7, 1.0, 3) * np.array([1.0, 1.0, 0.4])
    return Pose(weights[0] * x, weights[1] * y, np.zeros_like(times), weights[2] * roll)


@dataclass(frozen=True)
class Unrest:
    """Describes the unrest of a camera that is meant to stand still: sums of sines for x, y, log zoom and roll.

    amplitudes, periods_s, phases: float64 [4, K].
    """

    amplitudes: Floats
    periods_s: Floats
    phases: Floats

    def pose(self, times: Floats) -> Pose:
        """Compute the pose at `times` [N] seconds."""
        angles = 2 * np.pi * (times / self.periods_s[..., None] + self.phases[..., None])
        return Pose(*(self.amplitudes[..., None] * np.sin(angles)).sum(1))


def draw_unrest(rng: np.random.Generator, strength: float) -> Unrest:
    """Draw the unrest of a hand, or of a tripod (`strength` 0): a quick small part and a slow drift.

    At strength 1 the quick part has amplitudes of up to 0.4 % of the width with periods of 0.7 to 3 s, and the drift
    reaches about 1.5 % of the width per second, a tenth of a usual pan.
    """
    quick = rng.uniform(0.2, 1.0, (4, 3)) * np.array([[0.004], [0.004], [0.002], [0.004]])
    slow = rng.uniform(0.2, 1.0, (4, 1)) * np.array([[0.03], [0.03], [0.02], [0.012]])
    return Unrest(
        amplitudes=strength * np.concatenate([quick, slow], 1),
        periods_s=np.concatenate([rng.uniform(0.7, 3.0, (4, 3)), rng.uniform(12.0, 25.0, (4, 1))], 1),
        phases=rng.uniform(0, 1, (4, 4)),
    )
