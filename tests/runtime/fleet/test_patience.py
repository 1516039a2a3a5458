"""An actor whose video makes no progress ends itself, and one that goes on does not."""

from __future__ import annotations

import threading
import time

import pytest

from runtime.fleet.patience import Watch


class Watched:
    """A watch over something that counts, which keeps what it would end."""

    def __init__(self, patience: float) -> None:
        self.seen, self.said, self.ended = 0, list[int](), threading.Event()
        self.watch = Watch(
            lambda: self.seen, patience, lambda key, silence: self.said.append(key), lambda status: self.ended.set()
        )


def test_a_silent_video_ends_the_process_after_it_was_reported() -> None:
    watched = Watched(0.1)
    began = time.monotonic()
    with watched.watch.over(7):
        assert watched.ended.wait(5)
    assert time.monotonic() - began >= 0.1
    assert watched.said == [7]


@pytest.mark.thorough
def test_progress_an_allowance_and_an_actor_without_work_end_nothing() -> None:
    watched = Watched(0.2)
    with watched.watch.over(1):
        for _ in range(16):
            time.sleep(0.02)
            watched.seen += 1
    with watched.watch.over(2, allowance=10.0):
        time.sleep(0.3)
    time.sleep(0.3)
    assert not watched.ended.is_set()
    with watched.watch.over(3):  # silence is counted from the beginning of a video
        assert watched.ended.wait(5)
    assert watched.said == [3]
