"""The rendered pixels against the labels: each event is there, where its segment says, and nowhere else.

The footage here is made of noise, so that the tests need no package of pictures.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training.camera import view
from training.camera.edit import Edit, Freeze, Shot, Span, Transition
from training.camera.footage import Footage
from training.camera.moves import Move, draw_unrest
from training.camera.render import render
from training.synthetic.scene import VideoSeed

FPS, WIDTH, HEIGHT = 10.0, 160, 90
FOOTAGE = [
    Footage(
        name,
        cv2.resize(np.random.default_rng(i).integers(40, 216, (60, 90, 3), np.uint8), (900, 600))[None],
        1.0,
    )
    for i, name in enumerate(("a", "b", "c"))
]


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what is drawn at random beside the event: objects, light, colours, bars and captions."""
    monkeypatch.setattr(view, "_count_layers", lambda *_: 0)
    monkeypatch.setattr(view, "SLOW_SHARE", 0.0)
    monkeypatch.setattr(view, "_draw_light", lambda rng, shot, edit: np.ones(shot.span.end - shot.span.first))
    monkeypatch.setattr(view, "_draw_look", lambda rng: (np.eye(3, dtype=np.float32), np.zeros(3, np.float32)))
    monkeypatch.setattr("training.camera.render.BARS_SHARE", 0.0)
    monkeypatch.setattr("training.camera.render.CAPTION_SHARE", 0.0)
    monkeypatch.setattr("training.camera.render.TEXTURE_SHARE", 0.0)


def make_shot(first: int, end: int, *moves: Move, freezes: tuple[Freeze, ...] = (), unrest: float = 0.0) -> Shot:
    quiet = draw_unrest(np.random.default_rng(first), unrest)
    return Shot(Span(first, end), moves, freezes, quiet, first, lively=False, like_last=False)


def frames_of(*shots: Shot, transitions: tuple[Transition, ...] = (), index: int = 0) -> NDArray[np.float32]:
    edit = Edit(VideoSeed(1, "testing", index), FPS, WIDTH, HEIGHT, shots[-1].span.end, shots, transitions)
    return np.stack(list(render(edit, FOOTAGE))).astype(np.float32)


def grey(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    return frames.mean(-1)


def displacements(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """Motion of the picture from each frame to the next by phase correlation, pixels [N−1, 2] x, y."""
    window = cv2.createHanningWindow((WIDTH, HEIGHT), cv2.CV_32F)
    pairs = zip(grey(frames)[:-1], grey(frames)[1:], strict=True)
    return np.array([cv2.phaseCorrelate(a, b, window)[0] for a, b in pairs])


@pytest.mark.parametrize(("label", "axis", "edge"), [("pan", 0, WIDTH), ("tilt", 1, HEIGHT)])
@pytest.mark.parametrize("amount", [0.6, pytest.param(-0.6, marks=pytest.mark.thorough)])
def test_a_pan_moves_the_picture_by_its_path_within_its_segment_and_nowhere_else(
    label: str, axis: int, edge: int, amount: float
) -> None:
    frames = frames_of(make_shot(0, 80, Move(label, 2.0, 5.0, amount)))
    moved = displacements(frames)
    inside = np.zeros(79, bool)
    inside[20:50] = True  # from frame 20, at 2 s, to frame 50, at 5 s
    assert np.abs(moved[~inside]).max() < 0.3
    assert (np.sign(moved[22:48, axis]) == -np.sign(amount)).all()  # the picture moves against the camera
    assert moved[:, axis].sum() == pytest.approx(-amount * edge, rel=0.05)
    assert np.abs(moved[:, 1 - axis]).max() < 0.3


@pytest.mark.parametrize(("label", "amount"), [("zoom_in", 0.5), ("zoom_out", -0.5)])
def test_a_zoom_magnifies_by_its_path_within_its_segment(label: str, amount: float) -> None:
    frames = grey(frames_of(make_shot(0, 60, Move(label, 2.0, 4.0, amount))))
    assert np.abs(frames[:20] - frames[0]).max() < 2 * 7 * 5  # grain at most
    near, far = (frames[-1], frames[0]) if amount > 0 else (frames[0], frames[-1])
    centre = ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    magnified = cv2.warpAffine(far, cv2.getRotationMatrix2D(centre, 0, np.exp(abs(amount))), (WIDTH, HEIGHT))
    assert np.corrcoef(magnified.ravel(), near.ravel())[0, 1] > 0.9
    assert np.corrcoef(far.ravel(), near.ravel())[0, 1] < 0.6


def test_a_shake_moves_to_and_fro_within_its_segment_alone() -> None:
    moved = displacements(frames_of(make_shot(0, 80, Move("shake", 2.0, 6.0, 0.03, seed=3))))
    assert np.abs(moved[:19]).max() < 0.3
    assert np.abs(moved[61:]).max() < 0.3
    assert np.abs(moved[22:58]).mean() > 1.0
    assert np.abs(moved.sum(0)).max() < 2  # back where it began


@pytest.mark.parametrize("pauses", [True, False])
def test_the_frames_of_a_freeze_are_identical_and_its_neighbours_are_not(pauses: bool) -> None:
    shot = make_shot(0, 60, freezes=(Freeze(Span(20, 40), pauses),), unrest=1.0)
    frames = frames_of(shot)
    assert (frames[20:40] == frames[20]).all()
    assert np.abs(frames[19] - frames[20]).mean() > 0
    assert np.abs(frames[40] - frames[39]).mean() > 0
    whole = frames_of(make_shot(0, 60, unrest=1.0))
    assert (frames[:21] == whole[:21]).all()


def test_the_difference_of_frames_peaks_at_the_middle_of_a_cut() -> None:
    transition = Transition("cut", Span(31, 32))
    shots = (make_shot(0, 31, unrest=0.5), make_shot(31, 60, unrest=0.5))
    edit = Edit(VideoSeed(1, "testing", 0), FPS, WIDTH, HEIGHT, 60, shots, (transition,))
    frames = grey(frames_of(*shots, transitions=(transition,)))
    difference = np.abs(np.diff(frames, axis=0)).mean((1, 2))
    (cut,) = edit.events()
    first_of_new = int(difference.argmax()) + 1
    assert first_of_new / FPS == pytest.approx((cut.start_s + cut.end_s) / 2)
    assert np.sort(difference)[-1] > 3 * np.sort(difference)[-2]


def test_a_dissolve_mixes_two_shots_linearly_and_a_fade_passes_black() -> None:
    old, new = make_shot(0, 40), make_shot(30, 60)
    mixed = frames_of(old, new, transitions=(Transition("dissolve", Span(30, 40)),))
    before, after = mixed[:30].mean(0), mixed[40:].mean(0)
    change = [float(((frame - before) * (after - before)).sum() / ((after - before) ** 2).sum()) for frame in mixed]
    np.testing.assert_allclose(change[30:40], np.arange(1, 11) / 11, atol=0.03)
    assert max(change[:30]) < 0.03
    assert min(change[40:]) > 0.97
    shots = (make_shot(0, 36), make_shot(36, 60))
    level = grey(frames_of(*shots, transitions=(Transition("fade", Span(30, 42), Span(35, 37)),))).mean((1, 2))
    assert level[35:37].max() == 0
    assert (np.diff(level[29:36]) < 0).all()
    assert (np.diff(level[36:43]) > 0).all()
    assert level[29] == pytest.approx(level[0], rel=0.02)


def test_a_shot_of_a_lower_rate_repeats_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "SLOW_SHARE", 1.0)
    monkeypatch.setattr(view, "SLOW_RATES", (5.0, 5.0))
    frames = frames_of(make_shot(0, 40, Move("pan", 0.0, 4.0, 0.5)))  # at 10 frames per second
    differ = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3)) > 0
    assert differ.tolist() == [False, True] * 19 + [False]
