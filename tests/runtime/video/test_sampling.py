"""What the sampler makes of a reader's frames and times: a double gives them one by one and counts what is asked."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import runtime.video.sampling
from runtime.errors import InputError, VideoError, VideoWarning
from runtime.video.readers.base import Frame, Picture
from runtime.video.sampling import FrameSchedule, FrameStream, open_frames


class ScriptedReader:
    """Frame k is on screen from `stamps[k]` to `stamps[k + 1]`; its pixels are k."""

    name, label, endless, background = "made", "the made video", False, False

    def __init__(self, stamps: list[float], **facts: Any) -> None:
        self.stamps = stamps
        self.fps: float | None = facts.get("fps", 10.0)
        self.count: int | None = facts.get("count")
        self.duration: float | None = facts.get("duration")
        self.timed: bool = facts.get("timed", True)
        self.longest_jump: float = facts.get("jump", 0.0)
        self.scanned: tuple[int, float] | None = facts.get("scanned")
        self.missing: str | None = facts.get("missing")
        self.grabbed, self.converted, self.closed = 0, 0, False

    def grab(self) -> bool:
        self.grabbed += 1
        return self.grabbed < len(self.stamps)

    @property
    def time(self) -> float:
        return self.stamps[self.grabbed - 1]

    @property
    def end(self) -> float:
        return self.stamps[min(self.grabbed, len(self.stamps) - 1)]

    def hold(self) -> Picture:
        number = self.grabbed - 1

        def picture() -> Frame:
            self.converted += 1
            return np.full((1, 1, 3), number, np.uint8)

        return picture

    def scan(self) -> tuple[int, float] | None:
        return self.scanned

    def shortfall(self) -> str | None:
        return self.missing

    def close(self) -> None:
        self.closed = True


def even(count: int, fps: float = 10.0) -> list[float]:
    """Times of `count` frames at a constant rate, and their end."""
    return [k / fps for k in range(count + 1)]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens a scripted reader in place of a file."""

    def open_scripted(reader: ScriptedReader, sample_fps: float = 10.0, **options: Any) -> FrameStream:
        monkeypatch.setattr(runtime.video.sampling, "open_reader", lambda *_: reader)
        return open_frames("made.mp4", sample_fps, **options)

    return open_scripted


def numbers(frames: Iterator[Frame]) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in frames]


def plain_presented(stamps: list[float], sample_fps: float) -> list[int]:
    """The rule as docs/video.md words it: sample k is the frame on screen just before (k + 1)/r; before the first
    picture the first one."""
    due = [(k + 1) / sample_fps for k in range(int(stamps[-1] * sample_fps + 1e-6))]
    return [max((n for n, start in enumerate(stamps[:-1]) if start < t - 1e-6), default=0) for t in due]


STAMPS = [
    even(40),
    even(40, 30.0),
    even(13, 4.0),
    [0, 0.03, 0.5, 0.52, 0.9, 2.0, 2.1, 4.0],
    [0.7, 0.8, 1.0, 1.05],  # a picture that comes after the sound
    [0.0, 0.1, 0.1, 0.1, 0.35, 0.4],
]


@pytest.mark.parametrize("stamps", STAMPS)
@pytest.mark.parametrize("sample_fps", [10.0, 25.0, 3.0])
def test_presented_frames_are_those_on_screen(stamps: list[float], sample_fps: float, opened: Any) -> None:
    want, reader = plain_presented(stamps, sample_fps), ScriptedReader(stamps)
    frames = opened(reader, sample_fps)
    assert numbers(frames) == want
    assert (frames.decoded, frames.seconds, frames.timing) == (len(stamps) - 1, stamps[-1], "presented")
    assert reader.closed
    assert reader.converted == len(set(want))  # what is not kept costs no conversion


def test_a_schedule_gives_no_frame_twice() -> None:
    schedule = FrameSchedule(10.0)
    assert [schedule.copies(until) for until in (0.05, 0.1, 1.0, 0.5, 1.0, 1.1 - 0.9e-6, 1.2 - 1.1e-6)] == [
        0, 1, 9, 0, 0, 1, 0,
    ]  # fmt: skip


@pytest.mark.parametrize("stamps", [even(40), even(4, 2.0), even(100, 30.0)])
@pytest.mark.parametrize("timing", ["presented", "counted"])
@pytest.mark.parametrize("most", [1, 3, 7])
def test_no_more_frames_than_wanted(stamps: list[float], timing: Any, most: int) -> None:
    """Even where the rate would give more; reading stops there."""
    reader = ScriptedReader(stamps, fps=(len(stamps) - 1) / stamps[-1])
    assert reader.fps is not None
    everything = numbers(FrameStream(ScriptedReader(stamps), reader.fps, 10.0, None, 8, False, timing=timing))
    frames = FrameStream(reader, reader.fps, 10.0, None, 8, False, max_frames=most, timing=timing)
    assert numbers(frames) == everything[:most]
    assert len(everything) > most
    assert reader.converted == len(set(everything[:most]))
    assert reader.closed


def test_closing_before_the_first_frame_closes_the_reader(opened: Any) -> None:
    for started in (0, 1):
        reader = ScriptedReader(even(10))
        with opened(reader) as frames:
            assert [next(frames)[0, 0, 0] for _ in range(started)] == [0] * started
            assert not reader.closed
        assert reader.closed


def test_an_error_may_wait_until_what_came_before_is_used(opened: Any) -> None:
    class Breaking(ScriptedReader):
        def grab(self) -> bool:
            if self.grabbed == 5:
                raise VideoError("broken")
            return super().grab()

    with pytest.raises(VideoError, match="broken"):
        list(opened(Breaking(even(10))))
    frames = opened(Breaking(even(10)))
    frames.keep_error = True
    assert numbers(frames) == [0, 1, 2, 3]  # the fifth waits for the sixth, which says how long it was on screen
    assert str(frames.error) == "broken"
    assert next(frames, "the end") == "the end"


@pytest.mark.parametrize(
    ("count", "allowed", "error"), [(5, False, True), (5, True, False), (1, True, False), (0, True, True)]
)
def test_a_shortfall_is_an_error_unless_allowed_and_anything_is_there(
    count: int, allowed: bool, error: bool, opened: Any
) -> None:
    frames = opened(ScriptedReader(even(count) if count else [0.0], missing="ends early"), allow_truncated=allowed)
    if error:
        advice = r" \(use allow_truncated / --allow-truncated to take what is there\)" if count else "$"
        with pytest.raises(VideoError, match=f"the made video: ends early{advice}"):
            list(frames)
    else:
        with pytest.warns(VideoWarning, match="the made video: ends early"):
            assert len(list(frames)) == count


@pytest.mark.parametrize(("timing", "fps"), [("presented", None), ("counted", None), ("presented", 10.0)])
def test_a_jump_of_the_stamps_is_said_where_they_are_the_clock(timing: str, fps: float | None, opened: Any) -> None:
    for jump in (0.0, 9000.0):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            list(opened(ScriptedReader(even(10), jump=jump), timing=timing, fps=fps))
        said = [str(warning.message) for warning in caught]
        expected = jump > 0 and timing == "presented" and fps is None
        assert ["its time stamps jump by 2.5 h" in line for line in said] == [True] * expected


@pytest.mark.parametrize(
    ("end", "said"), [(1.0, False), (1.19, False), (1.21, True), (0.81, False), (0.79, True), (9.0, True)]
)
def test_counting_says_when_its_times_are_off(end: float, said: bool, opened: Any) -> None:
    """Ten frames at a declared rate of 10 end at 1 s; a fifth of a second is no matter."""
    for options in ({}, {"fps": 10.0}):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frames = opened(ScriptedReader([k * end / 10 for k in range(11)]), timing="counted", **options)
            assert len(list(frames)) == 10
        assert (frames.seconds, frames.decoded) == (1.0, 10)
        lines = [str(warning.message) for warning in caught]
        assert ["so that times are off by" in line for line in lines] == [True] * (said and not options)


@pytest.mark.parametrize(
    ("declared", "rate"), [(None, None), (0.0249, None), (0.0251, 0.0251), (999.0, 999.0), (1000.0, None)]
)
def test_a_declared_rate_that_is_none(declared: float | None, rate: float | None, opened: Any) -> None:
    """From 1000 it is a time base; below 1/36000 of the model's rate it is none."""
    reader = ScriptedReader(even(10), fps=declared)
    if rate is None:
        with pytest.raises(VideoError, match=r"declares .*; give the true rate"):
            opened(reader, 900.0, timing="counted")
        assert reader.closed
    else:
        assert opened(reader, 900.0, timing="counted").fps == rate
    mean = opened(ScriptedReader(even(10), fps=declared), 900.0, every_frame=True)
    usable = declared is not None and declared < 1000
    assert mean.fps == mean.sample_fps == (declared if usable else 900.0)


@pytest.mark.parametrize(("times", "refused"), [(35_999.5, False), (36_000.0, False), (36_000.5, True)])
def test_a_given_rate_at_which_a_frame_is_copied_too_often(times: float, refused: bool, opened: Any) -> None:
    reader = ScriptedReader(even(10))
    if refused:
        with pytest.raises(InputError, match="expected its true rate"):
            opened(reader, 900.0, fps=900 / times)
        assert reader.closed
    else:
        assert opened(reader, 900.0, fps=900 / times).fps == 900 / times


@pytest.mark.parametrize(
    ("facts", "timing", "sample_fps", "expected"),
    [
        ({"count": 40, "fps": 20.0}, "counted", 20.0 * 10 / 40, 10),  # as many as declared, in ten
        ({"count": 8, "fps": 20.0}, "counted", 20.0, 8),  # no more than there are
        ({"scanned": (50, 5.0), "fps": 10.0}, "counted", 2.0, 10),
        ({"scanned": (50, 4.0), "fps": 10.0}, "presented", 2.5, 10),
        ({"count": 40, "scanned": (50, 4.0), "fps": 10.0}, "presented", 2.5, 10),  # what is read counts
        ({"count": 40, "fps": 10.0}, "presented", 2.5, 10),  # cannot be read twice
        ({"scanned": (1, 0.0), "fps": 10.0}, "presented", 10.0, 1),
    ],
)
def test_the_rate_of_a_whole_video_in_ten_frames(
    facts: dict[str, Any], timing: str, sample_fps: float, expected: int, opened: Any
) -> None:
    frames = opened(ScriptedReader(even(5), **facts), 25.0, timing=timing, max_frames=10)
    assert frames.sample_fps == pytest.approx(sample_fps)
    assert frames.expected == expected
    assert frames.declared == (facts["scanned"][0] if "scanned" in facts else facts["count"])


def test_a_whole_video_of_unknown_length_is_refused(opened: Any) -> None:
    reader = ScriptedReader(even(5))
    with pytest.raises(InputError, match="must know its length"):
        opened(reader, max_frames=10)
    assert reader.closed


def test_the_length_that_is_expected(opened: Any) -> None:
    assert opened(ScriptedReader(even(5), duration=3.19)).expected == 31
    assert opened(ScriptedReader(even(5), duration=3.19, count=50), timing="counted").expected == 50
    assert opened(ScriptedReader(even(5), count=50, fps=20.0), timing="counted").duration == 2.5
    assert opened(ScriptedReader(even(5))).expected is None


def test_the_model_s_rate_stands_in_for_none(opened: Any) -> None:
    with pytest.warns(VideoWarning, match=r"taken as 12\.5 per second, the model's own"):
        frames = opened(ScriptedReader(even(5), timed=False, fps=None), 12.5)
    assert (frames.fps, frames.timing, len(list(frames))) == (12.5, "counted", 5)


def test_a_source_shorter_than_one_sample(opened: Any) -> None:
    with pytest.raises(VideoError, match=r"2 frames in 0\.05 s are less than one frame at the model's 10 fps"):
        list(opened(ScriptedReader([0.0, 0.02, 0.05])))
    assert math.isclose(opened(ScriptedReader([0.0, 0.02, 0.05])).seconds, 0.0)
