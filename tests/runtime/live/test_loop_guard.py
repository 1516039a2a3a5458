"""A watch that works gives signs of life; one that hangs gives none, and the process ends if that was asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from runtime.common.supervisor import ALIVE
from runtime.live import loop_guard
from runtime.live.loop_guard import LoopGuard

WAIT_S = 10.0


class Watch:
    """A watch whose loop has an age, and whose sources are well or not."""

    def __init__(self, age: Callable[[], float], well: Callable[[], bool] = lambda: True) -> None:
        self.loop_age, self._well = age, well

    def health(self) -> tuple[bool, dict[str, Any]]:
        return self._well(), {}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Moments at which the supervisor was told that the process lives; it expects that every 0.2 seconds."""
    moments: list[float] = []
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setattr(loop_guard, "notify", lambda state: moments.append(time.monotonic()) if state == ALIVE else 0)
    return moments


def wait_for(condition: threading.Event) -> None:
    assert condition.wait(WAIT_S)


def silent(told: list[float], looked: threading.Semaphore, turn: Callable[[], object]) -> None:
    """The supervisor is told nothing in some looks."""
    while looked.acquire(blocking=False):
        pass
    for number in range(6):
        turn()
        assert looked.acquire(timeout=WAIT_S)
        if number == 1:
            before = len(told)
    assert len(told) == before


def test_signs_of_life_come_while_the_loop_turns_and_stop_with_it(told: list[float]) -> None:
    beat, well, looked = [time.monotonic()], [True], threading.Semaphore(0)

    def age() -> float:
        looked.release()
        return time.monotonic() - beat[0]

    with LoopGuard(Watch(age, lambda: well[0])):
        deadline = time.monotonic() + WAIT_S
        while len(told) < 3 and time.monotonic() < deadline:
            beat[0] = time.monotonic()
            time.sleep(0.005)
        assert len(told) >= 3
        well[0] = False  # all sources hang
        silent(told, looked, lambda: beat.__setitem__(0, time.monotonic()))
        well[0], beat[0] = True, -1e9  # the loop hangs
        silent(told, looked, lambda: None)


def test_a_loop_that_hangs_ends_the_process_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    ages, ended, seen = iter([0.0, 0.19, 0.21, 0.3]), threading.Event(), []

    def end(age: float) -> None:
        seen.append(age)
        ended.set()

    with LoopGuard(Watch(lambda: next(ages)), 0.2, end):
        wait_for(ended)
    assert seen == [0.21]


def test_sources_that_all_hang_end_the_process_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    ended, seen = threading.Event(), []

    def end(seconds: float) -> None:
        seen.append(seconds)
        ended.set()

    begun = time.monotonic()
    with LoopGuard(Watch(lambda: 0.0, lambda: False), 0.1, end):
        wait_for(ended)
    assert 0.1 < seen[0] <= time.monotonic() - begun


def test_nothing_looks_where_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    with LoopGuard(Watch(lambda: 1e9)) as guard:
        assert not guard._thread.is_alive()
