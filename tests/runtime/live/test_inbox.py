"""Handing windows over: what is dropped, and what is counted."""

from __future__ import annotations

import threading
from typing import Any, cast

import numpy as np
import pytest

from runtime.errors import InputError
from runtime.live.inbox import Drops, Due, EndOfStretch, FrameInbox, Inbox, Stretch
from runtime.windows import Window, window_offsets


def stretch() -> Stretch:
    return Stretch(cast(Any, None), 10.0)


@pytest.mark.parametrize("seed", range(30))
def test_dropped_frames_are_those_that_no_taken_window_holds(seed: int) -> None:
    """Windows of random length and stride come and go at random; the count is that of a plain set of frames."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(2, 12))
    stride = int(rng.integers(1, length + 1))
    inbox = Inbox(threading.Condition(), int(rng.integers(1, 4)))
    frames, seen, taken = 0, 0, 0
    for _ in range(3):
        part, count = stretch(), int(rng.integers(0, 80))
        covered: set[int] = set()
        every: list[Due] = []
        for offset in window_offsets(count, length, stride):
            every.append(Due(part, Window(offset, np.empty(0), min(length, count))))
            inbox.put(every[-1])
            while inbox.waiting and rng.random() < 0.3:
                entry = inbox.take()
                if isinstance(entry, Due) and entry.stretch is part:
                    covered |= set(range(entry.window.offset, entry.window.offset + entry.window.length))
                    taken += 1
        inbox.put(EndOfStretch(part))
        while inbox.waiting:
            entry = inbox.take()
            if isinstance(entry, Due):
                covered |= set(range(entry.window.offset, entry.window.offset + entry.window.length))
                taken += 1
        frames, seen = frames + count, seen + len(covered)
        assert inbox.dropped_frames == frames - seen
        total = sum(len(window_offsets(count, length, stride)) for count in [count])
        drops = inbox.take_drops()
        assert sum(drop.windows for drop in drops) == total - taken
        taken = 0


@pytest.mark.parametrize("seed", range(30))
def test_dropped_chunks_are_whole_pieces_between_what_is_taken(seed: int) -> None:
    """Chunks of three stretches come and go at random: each frame is taken or counted once, in order, and what is
    taken between two drops fills the inbox."""
    rng = np.random.default_rng(seed)
    capacity = int(rng.integers(1, 5))
    inbox, haste = FrameInbox(threading.Condition(), capacity), rng.random() * 0.6
    parts, lengths = [stretch() for _ in range(3)], rng.integers(0, 400, 3).tolist()
    at, run, drops = dict.fromkeys(parts, 0), 0, 0
    ended: list[Stretch] = []

    def take() -> None:
        nonlocal run, drops
        entry = inbox.take()
        assert isinstance(entry, Due | Drops | EndOfStretch)
        if isinstance(entry, EndOfStretch):
            ended.append(entry.stretch)
            run = 0
            return
        assert entry.stretch not in ended
        if isinstance(entry, Due):
            first, frames = entry.window.offset, entry.window.length
            run += 1
        else:
            first, frames = entry.start, entry.frames
            assert entry.end == first + frames
            assert run >= capacity or ended  # after an end the inbox may be full of the stretch before
            run, drops = 0, drops + frames
        assert at[entry.stretch] == first
        at[entry.stretch] = first + frames

    for part, length in zip(parts, lengths, strict=True):
        for offset in range(0, length, 16):
            inbox.put(Due(part, Window(offset, np.empty(0), min(16, length - offset))))
            assert inbox._windows <= capacity
            while inbox.waiting and rng.random() < haste:
                take()
        inbox.put(EndOfStretch(part))
    while inbox.waiting:
        take()
    assert [at[part] for part in parts] == lengths
    assert ended == parts
    assert inbox.dropped_frames == drops
    assert inbox.dropped_windows == 0
    assert inbox.take_drops() == []


def test_what_is_no_window_is_never_dropped() -> None:
    inbox, part = Inbox(threading.Condition(), 1), stretch()
    for offset in range(0, 40, 4):
        inbox.put(Due(part, Window(offset, np.empty(0), 8)))
        inbox.put(EndOfStretch(part))
    entries = []
    while inbox.waiting:
        entries.append(type(inbox.take()))
    assert entries == [EndOfStretch] * 9 + [Due, EndOfStretch]


def test_a_file_waits_for_room_until_it_is_stopped() -> None:
    inbox, part, stopped = Inbox(threading.Condition(), 2), stretch(), threading.Event()
    done = threading.Event()

    def put() -> None:
        for offset in range(4):
            inbox.put(Due(part, Window(offset, np.empty(0), 1)), stopped)
        done.set()

    threading.Thread(target=put, daemon=True).start()
    assert not done.wait(0.05)
    assert cast(Due, inbox.head).window.offset == 0
    with inbox._changed:
        inbox.take()
    assert not done.wait(0.05)
    stopped.set()
    assert done.wait(5)
    assert inbox.dropped_windows == 0


def test_no_room_at_all() -> None:
    with pytest.raises(InputError, match="at least 1 window"):
        Inbox(threading.Condition(), 0)
