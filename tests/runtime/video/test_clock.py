"""Time stamps become seconds: rounding, steps back, and cameras that restart."""

from __future__ import annotations

from fractions import Fraction

import pytest

from runtime.video.readers.clock import StreamClock


def times(clock: StreamClock, stamps: list[int]) -> list[float]:
    """The seconds of frames of the given stamps."""
    found = []
    for stamp in stamps:
        clock.advance(stamp, None)
        found.append(clock.time)
    return found


def test_rounded_stamps_are_put_on_the_grid_of_the_rate() -> None:
    rate = Fraction(30000, 1001)
    rounded = [round(1000 * k / rate) for k in range(300)]
    assert times(StreamClock(1e-3, rate, 0.0), rounded) == pytest.approx([k / float(rate) for k in range(300)])


def test_stamps_of_another_rhythm_stay() -> None:
    assert times(StreamClock(1e-3, Fraction(30), 0.0), [0, 40, 55, 200]) == pytest.approx([0, 0.04, 0.055, 0.2])


def test_recordings_joined_end_to_end_go_on() -> None:
    clock = StreamClock(1e-3, Fraction(10), 0.0)
    assert times(clock, [0, 100, 200, 300000, 0, 100]) == pytest.approx([0, 0.1, 0.2, 300, 300.1, 300.2])
    assert clock.times_restarted == 1


def test_a_restarted_camera_goes_on_by_the_clock_on_the_wall() -> None:
    wall = iter([50.0, 50.1, 70.0, 70.0, 70.1])
    clock = StreamClock(1e-3, Fraction(10), 5.0, restarts=True, now=lambda: next(wall))
    assert times(clock, [5000, 5100, 0, 100]) == pytest.approx([0, 0.1, 20.0, 20.1])


def test_damaged_stamps_among_right_ones_are_no_new_beginning() -> None:
    clock = StreamClock(1e-3, Fraction(10), 0.0)
    found = times(clock, [0, 100, 200, 300, 9000000, 500, 600])
    assert found == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    stamps = [10000, 10100, 8200, 10300, 8400, 10500, *range(10600, 14000, 100)]  # 10200 and 10400 became others
    clock = StreamClock(1e-3, Fraction(10), 10.0)
    assert times(clock, stamps)[-1] == pytest.approx(3.9, abs=0.11)


def test_a_jump_of_days_is_bounded_and_known() -> None:
    clock = StreamClock(1e-3, Fraction(10), 0.0)
    assert times(clock, [0, 100, 864000000, 864000100]) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert clock.longest_jump == pytest.approx(864000, rel=1e-3)
    clock.advance(864000200, 2**31)
    assert clock.end == pytest.approx(0.5)
