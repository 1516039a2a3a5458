"""Plan synthetic videos: which objects there are, where, and which one acts when; `render` makes the pixels.

Three independent random streams make a video: SCHEDULE (times, classes, actors, amplitudes), LOOKS (colours, texture,
shape) and PATHS (places, wandering, camera). An object's look therefore does not depend on its actions, and a frame
without action does not depend on later actions.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from training.synthetic.motion import (
    ACTION_LABELS,
    AMPLITUDE,
    PERIOD_S,
    Action,
    Floats,
    Pose,
    Wander,
    compute_action_pose,
    count_cycles,
    draw_wander,
)

SHORTEST_S, LONGEST_S = 0.5, 20.0
COMMON_S = (1.0, 8.0)
"""Range of most actions' lengths; one in five lasts SHORTEST_S to LONGEST_S. Both are log-uniform."""
COMMON_SHARE = 0.8
GAP_S = (1.0, 4.5)
"""Range of the time without any action between two actions (uniform); gives about one action in 6 seconds."""
MARGIN_S = 0.5
"""Shortest time between an action and either end of the video."""
OVERLAP_SHARE = 0.08
"""Share of actions that begin while another object is still acting; about twice as many take part in an overlap."""
QUADRANTS = ((0.3, 0.3), (0.7, 0.3), (0.3, 0.7), (0.7, 0.7))
"""Centres of the quadrants in which objects rest, one each."""


class Stream(IntEnum):
    """Numbers the independent random streams of one video."""

    SCHEDULE = 0
    LOOKS = 1
    PATHS = 2


@dataclass(frozen=True)
class VideoSeed:
    """Identifies a video; its content follows from the three values."""

    seed: int
    subset: str
    index: int

    @property
    def name(self) -> str:
        return f"{self.subset}_{self.index:04d}"

    def rng(self, stream: Stream) -> np.random.Generator:
        """Return a new generator; different subsets, indices and streams are statistically independent."""
        return np.random.default_rng([self.seed, zlib.crc32(self.subset.encode()), self.index, stream])


@dataclass(frozen=True)
class Camera:
    """Describes slow zoom and pan of the background, mild shake of the frame, and slow change of brightness."""

    pan: Wander
    shake: Wander
    brightness_period_s: float
    brightness_phase: float

    def brightness(self, times: Floats) -> Floats:
        """Return the factor on all pixel values, 0.85–1.15."""
        return 1 + 0.15 * np.sin(2 * np.pi * (times / self.brightness_period_s + self.brightness_phase))


@dataclass(frozen=True)
class Scene:
    """Holds the plan of one video: `frames` frames at `fps`, the wandering objects, and the actions sorted by start."""

    seed: VideoSeed
    fps: float
    frames: int
    objects: tuple[Wander, ...]
    actions: tuple[Action, ...]
    camera: Camera

    @property
    def duration_s(self) -> float:
        return self.frames / self.fps

    def times(self) -> Floats:
        """Return the seconds of every frame, float64 [frames]."""
        return np.arange(self.frames) / self.fps

    def poses(self) -> list[Pose]:
        """Return the pose of each object in every frame, including camera shake."""
        times = self.times()
        shake = self.camera.shake.pose(times)
        still = Pose(shake.x, shake.y, np.zeros_like(times), np.zeros_like(times))
        poses = [path.pose(times) + still for path in self.objects]
        for action in self.actions:
            poses[action.actor] = poses[action.actor] + compute_action_pose(action, times)
        return poses


def plan_scene(seed: VideoSeed, *, fps: float, shortest_s: float, longest_s: float) -> Scene:
    """Draw the plan of the video `seed` with a length of shortest_s to longest_s seconds."""
    schedule = seed.rng(Stream.SCHEDULE)
    frames = round(schedule.uniform(shortest_s, longest_s) * fps)
    paths = seed.rng(Stream.PATHS)
    count = int(paths.integers(2, len(QUADRANTS)))
    places = paths.permutation(len(QUADRANTS))[:count]
    objects = tuple(draw_wander(paths, *(np.array(QUADRANTS[p]) + paths.uniform(-0.04, 0.04, 2))) for p in places)
    return Scene(
        seed=seed,
        fps=fps,
        frames=frames,
        objects=objects,
        actions=_draw_actions(schedule, frames / fps, objects),
        camera=_draw_camera(paths),
    )


def _draw_camera(rng: np.random.Generator) -> Camera:
    shake = Wander(
        x=0.0,
        y=0.0,
        amplitudes=np.array([[0.006], [0.006], [0.0], [0.0]]) * rng.uniform(0.3, 1.0, (4, 2)),
        periods_s=rng.uniform(0.5, 3.0, (4, 2)),
        phases=rng.uniform(0, 1, (4, 2)),
    )
    return Camera(draw_wander(rng, 0.0, 0.0), shake, float(rng.uniform(8, 30)), float(rng.uniform()))


def _draw_actions(rng: np.random.Generator, duration_s: float, objects: tuple[Wander, ...]) -> tuple[Action, ...]:
    """Draw actions with gaps between them; a share overlap the previous one, by another object."""
    actions: list[Action] = []
    bag: list[str] = []
    busy_until = MARGIN_S
    while True:
        length = _draw_length(rng)
        start, actor = busy_until + rng.uniform(*GAP_S), int(rng.integers(len(objects)))
        if actions and rng.uniform() < OVERLAP_SHARE:
            last = actions[-1]
            start = last.start_s + (last.end_s - last.start_s) * rng.uniform(0.1, 0.8)
            actor = (last.actor + 1 + int(rng.integers(len(objects) - 1))) % len(objects)
            if any(a.actor == actor and a.end_s + GAP_S[0] > start for a in actions):
                continue
        elif not actions:
            start = rng.uniform(MARGIN_S, GAP_S[1])
        start, end = round(start, 3), round(start + length, 3)
        if end > duration_s - MARGIN_S:
            break
        bag = bag or list(rng.permutation(ACTION_LABELS))
        actions.append(_draw_action(rng, str(bag.pop()), start, end, actor, objects[actor]))
        busy_until = max(busy_until, end)
    return tuple(sorted(actions, key=lambda a: a.start_s))


def _draw_length(rng: np.random.Generator) -> float:
    low, high = COMMON_S if rng.uniform() < COMMON_SHARE else (SHORTEST_S, LONGEST_S)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _draw_action(rng: np.random.Generator, label: str, start: float, end: float, actor: int, path: Wander) -> Action:
    cycles = count_cycles(end - start, rng.uniform(*PERIOD_S))
    phase, sense = rng.uniform(), 1 if rng.uniform() < 0.5 else -1
    if label == "circle":  # rest on the outer half of the circle, so that the circle stays within the frame
        outward = np.arctan2(path.y - 0.5, path.x - 0.5) / (2 * np.pi)
        phase = (outward + (phase - 0.5) / 2) % 1
    return Action(label, start, end, actor, float(rng.uniform(*AMPLITUDE[label])), cycles, float(phase), sense)
