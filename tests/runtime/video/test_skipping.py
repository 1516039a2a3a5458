"""Frames that are left out: the ones that are kept are the same to the bit, and so is the clock."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from runtime.video.readers import pyav
from runtime.video.readers.pyav import PyAVReader
from runtime.video.sampling import FrameSchedule, FrameStream, open_frames
from tests.media import Media
from tests.shared import shared

MakeMedia = Callable[[str], Media]
Taken = tuple[list[bytes], int, float, int]
"""Pixels of each sampled frame, frames read, seconds, and frames left out."""


def take(path: Path, fps: float, monkeypatch: pytest.MonkeyPatch, codecs: frozenset[str] = pyav.DISPOSABLE) -> Taken:
    left_out = 0
    of = PyAVReader._note_skipped

    def spy(self: PyAVReader, stamp: int | None) -> None:
        nonlocal left_out
        before = len(self._left_out)
        of(self, stamp)
        left_out += len(self._left_out) - before

    with monkeypatch.context() as patch:
        patch.setattr(pyav, "DISPOSABLE", codecs)
        patch.setattr(PyAVReader, "_note_skipped", spy)
        with open_frames(path, fps, reader="pyav") as frames:
            pixels = [frame.tobytes() for frame in frames]
            return pixels, frames.decoded, frames.seconds, left_out


@pytest.mark.parametrize("fps", [1.0, 3.0, 10.0, 13.7])
@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("rate_30.mp4", True),
        ("container.mkv", True),
        ("container.mov", True),
        ("container.ts", True),
        ("container.avi", False),  # no stamps of presentation
        ("hevc.mp4", False),
        ("vp9.webm", False),
        ("h264_interlaced.ts", False),
    ],
)
def test_frames_that_are_kept_are_the_same(
    media: MakeMedia, monkeypatch: pytest.MonkeyPatch, name: str, some: bool, fps: float
) -> None:
    path = media(name).path
    *whole, none = take(path, fps, monkeypatch, frozenset())
    *taken, left_out = take(path, fps, monkeypatch)
    assert taken == whole
    assert none == 0
    assert (left_out > 0) == some


@pytest.mark.parametrize("fps", [3.0, 10.0, 24.0])
@pytest.mark.parametrize("name", ["carving_ice.mp4", "demo.mp4", "street.mp4", "test.mp4"])
def test_real_videos(monkeypatch: pytest.MonkeyPatch, name: str, fps: float) -> None:
    path = shared("data/videos") / name
    *whole, _ = take(path, fps, monkeypatch, frozenset())
    *taken, left_out = take(path, fps, monkeypatch)
    assert taken == whole
    assert left_out > (0.2 if fps < 24 else 0.01) * whole[1]


@pytest.mark.parametrize("name", ["damaged.mp4", "damaged.mkv", "joined.ts", "joined_later_first.ts"])
def test_times_of_broken_files_stay(media: MakeMedia, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A frame that cannot be decoded and is not needed is not missed; all others have the times they had."""

    def moments(codecs: frozenset[str]) -> tuple[int, float]:
        with monkeypatch.context() as patch:
            patch.setattr(pyav, "DISPOSABLE", codecs)
            with open_frames(media(name).path, 10.0, reader="pyav", allow_truncated=True) as frames:
                return len(list(frames)), frames.seconds

    assert moments(pyav.DISPOSABLE) == moments(frozenset())


def test_counted_frames_are_all_decoded(media: MakeMedia, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(PyAVReader, "skip", lambda self, is_needed: asked.append(self))
    path = media("rate_30.mp4").path
    with open_frames(path, 10.0, reader="pyav", timing="counted") as frames:
        assert isinstance(frames, FrameStream)
        list(frames)
    assert not asked
    with open_frames(path, 10.0, reader="pyav") as frames:
        list(frames)
    assert len(asked) == 1


def test_the_rule_is_that_of_the_schedule() -> None:
    """Frames of random durations: what the schedule keeps, but for the first frame, is what is needed."""
    rng = np.random.default_rng(0)
    for fps in (1.0, 10.0, 29.97):
        times = np.cumsum(rng.choice([0.0, 0.01, 1 / 30, 0.1, 0.7], 500))
        schedule = FrameSchedule(fps)
        copies = [schedule.copies(until) for until in times[1:]]
        needed = [schedule.is_needed(time, until) for time, until in pairwise(times)]
        assert [bool(count) for count in copies[1:]] == needed[1:]
        assert 10 < sum(needed) < 499
