"""Compute the motions of objects in synthetic videos, as poses over time and independent of appearance.

Positions and amplitudes are fractions of the frame width, angles radians (growing clockwise on the screen, as the
y axis points down), times seconds. A pose holds arrays over the frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ACTION_LABELS = ("circle", "pulse", "rock", "shake_diagonal", "shake_horizontal", "shake_vertical")
"""Names of the six action classes, sorted. They differ only in motion, and each is its own mirror image (circles run
and diagonals lean either way), so that a horizontal flip keeps the class.
"""

PERIOD_S = (1.0, 1.8)
"""Range of the wanted period of a cycle; the true period fits whole cycles into the action (`count_cycles`)."""

AMPLITUDE = {
    "circle": (0.11, 0.14),  # radius; the path is twice as wide
    "pulse": (0.38, 0.50),  # of the natural logarithm of the size
    "rock": (0.9, 1.4),  # radians to each side
    "shake_diagonal": (0.14, 0.20),  # to each side
    "shake_horizontal": (0.14, 0.20),
    "shake_vertical": (0.14, 0.20),
}


@dataclass(frozen=True)
class Pose:
    """Holds an object's pose in each frame: centre `x`, `y`, natural logarithm of its relative size, and `angle`."""

    x: Floats
    y: Floats
    log_size: Floats
    angle: Floats

    def __add__(self, other: Pose) -> Pose:
        return Pose(self.x + other.x, self.y + other.y, self.log_size + other.log_size, self.angle + other.angle)


@dataclass(frozen=True)
class Action:
    """Describes one instance of a class: object number `actor` performs `label` from `start_s` to `end_s`.

    `amplitude` is in the unit of AMPLITUDE, `cycles` whole cycles fill the time, `phase` in [0, 1) cycles gives the
    resting point on the circle, and the side to which the other motions go first.
    """

    label: str
    start_s: float
    end_s: float
    actor: int
    amplitude: float
    cycles: int
    phase: float
    sense: int = 1
    """Direction, 1 or −1: circles run clockwise or counter-clockwise, diagonals fall or rise to the right."""


def count_cycles(duration_s: float, period_s: float) -> int:
    """Return the whole cycles, at least 1, of about `period_s` in an action, which then ends in its first pose."""
    return max(1, round(duration_s / period_s))


def compute_action_pose(action: Action, times: Floats) -> Pose:
    """Compute the change of the actor's resting pose at `times` [N] seconds; zero outside [start, end)."""
    active = (times >= action.start_s) & (times < action.end_s)
    progress = (times - action.start_s) / (action.end_s - action.start_s)
    turn = 2 * np.pi * action.cycles * progress
    zero = np.zeros_like(times)
    swing = np.where(active, action.amplitude * np.sin(turn) * (1 if action.phase < 0.5 else -1), 0.0)
    match action.label:
        case "circle":
            turn = turn * action.sense
            rest = 2 * np.pi * action.phase
            x = action.amplitude * (np.cos(rest + turn) - np.cos(rest))
            y = action.amplitude * (np.sin(rest + turn) - np.sin(rest))
            return Pose(np.where(active, x, 0.0), np.where(active, y, 0.0), zero, zero)
        case "pulse":
            return Pose(zero, zero, swing, zero)
        case "rock":
            return Pose(zero, zero, zero, swing)
        case "shake_diagonal":
            return Pose(swing / np.sqrt(2), action.sense * swing / np.sqrt(2), zero, zero)
        case "shake_horizontal":
            return Pose(swing, zero, zero, zero)
        case "shake_vertical":
            return Pose(zero, swing, zero, zero)
    raise ValueError(f"got the label {action.label!r}, expected one of {', '.join(ACTION_LABELS)}")


@dataclass(frozen=True)
class Wander:
    """Describes an aimless smooth path around a point: a sum of slow sines for each of x, y, log size and angle.

    amplitudes, periods_s, phases: float64 [4, K]. All objects wander, acting or not, so slow motion gives no cue.
    """

    x: float
    y: float
    amplitudes: Floats
    periods_s: Floats
    phases: Floats

    def pose(self, times: Floats) -> Pose:
        """Compute the resting pose at `times` [N] seconds."""
        angles = 2 * np.pi * (times / self.periods_s[..., None] + self.phases[..., None])
        x, y, log_size, angle = (self.amplitudes[..., None] * np.sin(angles)).sum(1)
        return Pose(self.x + x, self.y + y, log_size, angle + 2 * np.pi * self.phases[3, 0])


def draw_wander(rng: np.random.Generator, x: float, y: float) -> Wander:
    """Draw a path around (x, y): nearly still, drifting, or wide (amplitudes as large as an action's, but slow)."""
    liveliness = rng.choice([0.1, 0.5, 1.0])
    fastest_s = 9.0 - 4.0 * liveliness
    return Wander(
        x=x,
        y=y,
        amplitudes=liveliness * np.array([[0.07], [0.07], [0.16], [0.5]]) * rng.uniform(0.4, 1.0, (4, 2)),
        periods_s=rng.uniform(fastest_s, 2 * fastest_s, (4, 2)),
        phases=rng.uniform(0, 1, (4, 2)),
    )
