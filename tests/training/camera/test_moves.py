"""The camera's paths against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from training.camera.moves import MOVES, Move, compute_move, draw_unrest, ease

TIMES = np.arange(0, 8, 1 / 50)


@pytest.mark.parametrize("ramp", [0.08, 0.3, 0.5])
def test_ease_is_the_integral_of_a_trapezoid_of_speed(ramp: float) -> None:
    fine = np.linspace(0, 1, 100_001)
    speed = np.interp(fine, [0, ramp, 1 - ramp, 1], [0, 1, 1, 0]) if ramp < 0.5 else 1 - np.abs(2 * fine - 1)
    want = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2)])
    np.testing.assert_allclose(ease(fine, ramp), want / want[-1], atol=1e-6)
    assert ease(np.array([-1.0, 2.0]), ramp).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("label", "axis"), [("pan", "x"), ("tilt", "y"), ("zoom_in", "log_zoom"), ("zoom_out", "log_zoom")]
)
def test_a_move_goes_its_whole_path_within_its_time_and_stays(label: str, axis: str) -> None:
    amount = -0.7 if label == "zoom_out" else 0.7
    path = getattr(compute_move(Move(label, 2.0, 5.0, amount), TIMES), axis)
    assert (path[TIMES <= 2.0] == 0).all()
    np.testing.assert_allclose(path[TIMES >= 5.0], amount)
    assert (np.sign(np.diff(path[(TIMES >= 2.0) & (TIMES < 5.0)])) == np.sign(amount)).all()


def test_a_shake_has_its_strength_within_its_time_and_is_nothing_outside() -> None:
    pose = compute_move(Move("shake", 2.0, 6.0, 0.02, seed=5), TIMES)
    inside = (TIMES > 2.3) & (TIMES < 5.7)
    for axis in (pose.x, pose.y):
        assert (axis[(TIMES < 2.0) | (TIMES > 6.0)] == 0).all()
        assert 0.4 * 0.02 < np.sqrt((axis[inside] ** 2).mean()) < 1.3 * 0.02
    assert (pose.log_zoom == 0).all()


def test_a_shake_is_slower_than_half_the_rate_that_the_model_sees() -> None:
    x = compute_move(Move("shake", 0.0, 8.0, 0.02, seed=1), TIMES).x
    power = np.abs(np.fft.rfft(x)) ** 2
    hz = np.fft.rfftfreq(len(x), 1 / 50)
    assert power[(hz > 1.4) & (hz < 4.8)].sum() > 0.95 * power.sum()


def test_the_unrest_of_a_hand_is_slower_than_any_pan() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        pose = draw_unrest(rng, 1.0).pose(TIMES)
        second = slice(None, None, 50)  # the mean speed of a second, as a pan of a second or more has it
        assert np.abs(np.diff(pose.x[second])).max() < 0.06
    assert not np.any([np.abs(a).max() for a in (vars(draw_unrest(rng, 0.0).pose(TIMES)).values())])


def test_an_unknown_move_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected one of pan, shake, tilt, zoom_in, zoom_out"):
        compute_move(Move("dolly", 0.0, 1.0, 0.5), TIMES)
    assert tuple(sorted(MOVES)) == MOVES
