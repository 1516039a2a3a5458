"""Plan videos of camera moves and edits: which shots there are, what the camera does in each, how they are joined.

Independent random streams make a video, as in `training.synthetic.scene`: SCHEDULE draws times, classes and paths,
LOOKS what is seen. Frames are counted from 0; frame k is shown from k/fps to (k + 1)/fps seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from training.camera.moves import MOVES, Floats, Move, Unrest, draw_unrest
from training.synthetic.scene import Stream, VideoSeed

CUT_LABEL_S = 1.0
"""Length of a cut's segment, seconds: a moment has none of its own. Its middle is the first frame of the new shot."""
FREEZE_S = (0.8, 4.0)
DISSOLVE_S = (0.5, 3.0)
FADE_OUT_S, FADE_HOLD_S, FADE_IN_S = (0.3, 1.5), (0.0, 0.6), (0.3, 1.5)
"""Ranges of the three parts of a fade between two shots: to black (or white), black, and back."""
MOVE_S = (0.8, 6.0)
PAN_SPEED, PAN_PATH = (0.10, 1.4), (0.15, 1.8)
"""Ranges of a pan's mean speed, widths per second, and path, widths; a tilt's in heights."""
ZOOM_SPEED, ZOOM_PATH = (0.10, 0.6), (0.18, 0.9)
"""Ranges of a zoom's mean speed, natural logarithms of the magnification per second, and of its whole path."""
SHAKE_AMOUNT = (0.015, 0.045)
"""Range of a shake's root mean square, widths: at least three times the unrest of a hand."""
GAP_S = (0.5, 2.5)
"""Range of the time without event before and after each event."""
COMPANION_SHARE = 0.12
"""Share of the moves beside which the camera makes another, such as a tilt or a zoom during a pan."""
RUNNING_SHARE = 0.15
"""Share of the shots between two cuts in which the camera moves from before the first to after the last frame."""
MONTAGE_SHARE, MONTAGE_SHOTS, MONTAGE_S = 0.06, (2, 7), (0.4, 1.4)
"""Share of the shots that begin a montage, the number of its further shots, and the range of their lengths."""
RATES = (10.0, 12.0, 15.0, 20.0, 24.0, 25.0, 30.0)
SHAPES = ((160, 90), (144, 108), (128, 128), (90, 160), (160, 68))
"""Widths and heights of the videos, pixels."""
SHAPE_SHARES = (0.5, 0.25, 0.08, 0.1, 0.07)


class Span(NamedTuple):
    """Frames from `first` to before `end`."""

    first: int
    end: int


NO_FRAMES = Span(0, 0)


@dataclass(frozen=True)
class Freeze:
    """Says that the frames of `span` all repeat its first; afterwards the shot goes on where it is by then, or stood.

    A freeze of a live picture loses what happened meanwhile (`pauses` False), that of a player loses nothing.
    """

    span: Span
    pauses: bool


@dataclass(frozen=True)
class Shot:
    """Describes what one camera shows, from the first frame of the transition before to the last of the one after."""

    span: Span
    moves: tuple[Move, ...]
    freezes: tuple[Freeze, ...]
    unrest: Unrest
    seed: int
    """Seed of what is seen."""
    lively: bool
    """Whether something in the picture surely moves, so that a freeze is visible."""
    like_last: bool
    """Whether the picture or clip is that of the shot before, seen from elsewhere (a jump cut)."""


@dataclass(frozen=True)
class Transition:
    """Describes how one shot gives way to the next in the frames of `span`; a cut's is the first frame of the new."""

    label: str
    span: Span
    hold: Span = NO_FRAMES
    """Frames of a fade that are all black, or white; the next shot begins in its middle."""
    white: bool = False


class Event(NamedTuple):
    """Is one annotation: `label` from `start_s` to `end_s` seconds."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Edit:
    """Holds the plan of one video of `frames` frames."""

    seed: VideoSeed
    fps: float
    width: int
    height: int
    frames: int
    shots: tuple[Shot, ...]
    transitions: tuple[Transition, ...]

    @property
    def duration_s(self) -> float:
        return self.frames / self.fps

    def times(self, span: Span) -> Floats:
        """Return the seconds of the frames of a span, float64 [frames]."""
        return np.arange(*span) / self.fps

    def events(self) -> list[Event]:
        """Return the annotations, by start. A move is visible within its shot alone."""
        found = [self._event_of(transition) for transition in self.transitions]
        for shot in self.shots:
            first_s, end_s = shot.span.first / self.fps, shot.span.end / self.fps
            found += [Event(m.label, max(m.start_s, first_s), min(m.end_s, end_s)) for m in shot.moves]
            found += [Event("freeze", f.span.first / self.fps, f.span.end / self.fps) for f in shot.freezes]
        return sorted((Event(e.label, max(0.0, e.start_s), min(e.end_s, self.duration_s)) for e in found), key=_start)

    def _event_of(self, transition: Transition) -> Event:
        first_s, end_s = transition.span.first / self.fps, transition.span.end / self.fps
        if transition.label == "cut":
            return Event("cut", first_s - CUT_LABEL_S / 2, first_s + CUT_LABEL_S / 2)
        return Event(transition.label, first_s, end_s)


def _start(event: Event) -> float:
    return event.start_s


def plan_edit(seed: VideoSeed, *, shortest_s: float, longest_s: float) -> Edit:
    """Draw the plan of the video `seed`; it ends with the first shot that reaches a length drawn from the range."""
    rng = seed.rng(Stream.SCHEDULE)
    fps, shape = float(rng.choice(RATES)), SHAPES[int(rng.choice(len(SHAPES), p=SHAPE_SHARES))]
    return _Planner(seed, rng, fps).plan(shape, float(rng.uniform(shortest_s, longest_s)))


class _Planner:
    """Draws one shot after the other; `self._now` is the time up to which the video is planned, seconds."""

    def __init__(self, seed: VideoSeed, rng: np.random.Generator, fps: float) -> None:
        self._seed, self._rng, self._fps = seed, rng, fps
        self._shots: list[Shot] = []
        self._transitions: list[Transition] = []
        self._now = 0.0
        self._deck: list[str] = []
        self._montage = 0
        """Number of short shots to come."""

    def plan(self, shape: tuple[int, int], length_s: float) -> Edit:
        """Draw shots until `length_s` is reached."""
        first, after_cut = 0, True
        if self._rng.random() < 0.15:
            after_cut = False
            self._add_fade_in()
        while True:
            first, after_cut, ended = self._add_shot(first, after_cut, length_s)
            if ended:
                break
        return Edit(
            self._seed, self._fps, *shape, self._shots[-1].span.end, tuple(self._shots), tuple(self._transitions)
        )

    def _add_fade_in(self) -> None:
        end = self._frame(self._between(FADE_IN_S) + 0.1)
        self._transitions.append(Transition("fade", Span(0, end), NO_FRAMES, self._rng.random() < 0.2))
        self._now = end / self._fps

    def _add_shot(self, first: int, after_cut: bool, length_s: float) -> tuple[int, bool, bool]:
        """Add a shot from frame `first` on, and what follows; return the next shot's first frame, whether a cut leads
        to it, and whether the video has ended."""
        moves: list[Move] = []
        freezes: list[Freeze] = []
        running = after_cut and not self._montage and self._rng.random() < RUNNING_SHARE
        brief = self._montage > 0
        if brief:
            self._montage -= 1
            self._now += self._between(MONTAGE_S)
        elif running:
            move = self._draw_move(str(self._rng.choice(["pan", "tilt", "zoom_in", "zoom_out"])), self._now - 0.3, 0.0)
            moves.append(move)
            self._now = max(move.end_s - 0.3, self._now + 0.8)
        else:
            self._now += self._between(GAP_S)
            for _ in range(int(self._rng.choice(4, p=(0.15, 0.35, 0.35, 0.15)))):
                self._add_event(moves, freezes)
                self._now += self._between(GAP_S)
            if self._rng.random() < MONTAGE_SHARE:
                self._montage = int(self._rng.integers(*MONTAGE_SHOTS))
        ended = self._now >= length_s
        hard = running or brief or self._montage > 0
        joined = "cut" if hard else str(self._rng.choice(["cut", "dissolve", "fade"], p=(0.4, 0.3, 0.3)))
        end, following = self._end_video(hard) if ended else self._add_transition(joined)
        self._shots.append(
            Shot(
                span=Span(first, end),
                moves=tuple(moves),
                freezes=tuple(freezes),
                unrest=draw_unrest(self._rng, float(self._rng.choice([0.0, 0.5, 1.0], p=(0.3, 0.4, 0.3)))),
                seed=int(self._rng.integers(2**31)),
                lively=bool(freezes) or self._rng.random() < 0.3,
                like_last=bool(self._shots) and self._rng.random() < 0.15,
            )
        )
        return following, joined == "cut", ended

    def _end_video(self, hard: bool) -> tuple[int, int]:
        end = self._frame(self._now)
        if not hard and self._rng.random() < 0.2:
            last = self._frame(self._now + self._between(FADE_OUT_S) + 0.1)
            self._transitions.append(Transition("fade", Span(end, last), Span(last, last), self._rng.random() < 0.2))
            end = last
        return end, end

    def _add_transition(self, label: str) -> tuple[int, int]:
        """Add the transition after a shot; return where that shot ends and the next one begins, frames."""
        first = self._frame(self._now)
        if label == "cut":
            self._transitions.append(Transition("cut", Span(first, first + 1)))
            self._now = first / self._fps
            return first, first
        if label == "dissolve":
            end = self._frame(self._now + self._log_between(DISSOLVE_S))
            self._transitions.append(Transition("dissolve", Span(first, end)))
            self._now = end / self._fps
            return end, first
        black = self._frame(self._now + self._between(FADE_OUT_S))
        back = self._frame(black / self._fps + self._between(FADE_HOLD_S))
        end = self._frame(back / self._fps + self._between(FADE_IN_S))
        self._transitions.append(Transition("fade", Span(first, end), Span(black, back), self._rng.random() < 0.2))
        self._now = end / self._fps
        middle = (black + back) // 2
        return middle, middle

    def _add_event(self, moves: list[Move], freezes: list[Freeze]) -> None:
        """Add one move, with a companion at times, or a freeze, from now on."""
        if not self._deck:
            self._deck = [str(label) for label in self._rng.permutation([*MOVES, "freeze"])]
        magnified = sum(m.amount for m in moves if m.label.startswith("zoom"))
        label = self._deck.pop(-1 if magnified < 0.25 or self._deck[-1] != "freeze" or len(self._deck) < 2 else -2)
        if label == "freeze":  # not where what moves may be out of sight by magnification
            span = Span(self._frame(self._now), self._frame(self._now + self._log_between(FREEZE_S)))
            freezes.append(Freeze(span, self._rng.random() < 0.5))
            self._now = span.end / self._fps
            return
        move = self._draw_move(label, self._now, magnified)
        moves.append(move)
        self._now = move.end_s
        if label != "shake" and self._rng.random() < COMPANION_SHARE:
            axes = {"pan": ("tilt", "zoom_in", "zoom_out"), "tilt": ("pan", "zoom_in", "zoom_out")}
            other = str(self._rng.choice(axes.get(label, ("pan", "tilt"))))
            begin = move.start_s + self._rng.uniform(0.0, 0.5) * move.length_s
            companion = self._draw_move(other, begin, 0.0)
            moves.append(companion)
            self._now = max(move.end_s, companion.end_s)

    def _draw_move(self, label: str, start_s: float, magnified: float) -> Move:
        """Draw a move; a zoom turns round where the shot would be magnified too far (`magnified` so far)."""
        length, seed = self._log_between(MOVE_S), int(self._rng.integers(2**31))
        ramp, aside = self._between((0.08, 0.3)), self._between((-0.12, 0.12))
        if label == "shake":
            return Move(label, start_s, start_s + length, self._log_between(SHAKE_AMOUNT), seed=seed)
        speeds, paths = (ZOOM_SPEED, ZOOM_PATH) if label.startswith("zoom") else (PAN_SPEED, PAN_PATH)
        speed = self._log_between(speeds)
        path = float(np.clip(speed * length, *paths))
        if label.startswith("zoom"):
            inwards = magnified < (0.6 if label == "zoom_in" else -0.6)
            label, sign = ("zoom_in", 1.0) if inwards else ("zoom_out", -1.0)
        else:
            sign = 1.0 if self._rng.random() < 0.5 else -1.0
        return Move(label, start_s, start_s + path / speed, sign * path, aside, ramp)

    def _frame(self, time_s: float) -> int:
        return round(time_s * self._fps)

    def _between(self, limits: tuple[float, float]) -> float:
        return float(self._rng.uniform(*limits))

    def _log_between(self, limits: tuple[float, float]) -> float:
        return float(np.exp(self._rng.uniform(*np.log(limits))))


def visible(edit: Edit, frame: int) -> Iterator[tuple[Shot, float]]:
    """Yield the shots seen in a frame with their weights, which sum to 1 but in a dissolve's rounding."""
    for shot in edit.shots:
        if shot.span.first <= frame < shot.span.end:
            yield shot, _weight(edit, shot, frame)


def _weight(edit: Edit, shot: Shot, frame: int) -> float:
    """Compute a shot's share in a frame: 1 outside dissolves, in which the new shot's share grows linearly."""
    for transition in edit.transitions:
        first, end = transition.span
        if transition.label == "dissolve" and first <= frame < end:
            new = (frame - first + 1) / (end - first + 1)
            return new if shot.span.first == first else 1 - new
    return 1.0


def brightness(edit: Edit, frame: int) -> tuple[float, bool]:
    """Compute the picture's share in a frame, 0 … 1, and whether the rest is white; below 1 in fades alone."""
    for transition in edit.transitions:
        first, end = transition.span
        if transition.label != "fade" or not first <= frame < end:
            continue
        black, back = transition.hold
        if frame < black:
            return 1 - (frame - first + 1) / (black - first + 1), transition.white
        if frame < back:
            return 0.0, transition.white
        return (frame - back + 1) / (end - back + 1), transition.white
    return 1.0, False
