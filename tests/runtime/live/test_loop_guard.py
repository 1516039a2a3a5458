"""A loop that turns gives signs of life; one that hangs gives none, and the process ends if that was asked for."""

from __future__ import annotations

import threading
import time

import pytest

from runtime.common.supervisor import ALIVE
from runtime.live import loop_guard
from runtime.live.loop_guard import LoopGuard

WAIT_S = 10.0


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


def test_signs_of_life_come_while_the_loop_turns_and_stop_with_it(told: list[float]) -> None:
    beat, looked = [time.monotonic()], threading.Semaphore(0)

    def age() -> float:
        looked.release()
        return time.monotonic() - beat[0]

    with LoopGuard(age):
        deadline = time.monotonic() + WAIT_S
        while len(told) < 3 and time.monotonic() < deadline:
            beat[0] = time.monotonic()
            time.sleep(0.005)
        assert len(told) >= 3
        beat[0] = -1e9  # it hangs
        for _ in range(2):
            looked.acquire(timeout=WAIT_S)
        before = len(told)
        for _ in range(4):
            assert looked.acquire(timeout=WAIT_S)
        assert len(told) == before


def test_a_loop_that_hangs_ends_the_process_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    ages, ended, seen = iter([0.0, 0.19, 0.21, 0.3]), threading.Event(), []

    def end(age: float) -> None:
        seen.append(age)
        ended.set()

    with LoopGuard(lambda: next(ages), 0.2, end):
        wait_for(ended)
    assert seen == [0.21]


def test_nothing_looks_where_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    with LoopGuard(lambda: 1e9) as guard:
        assert not guard._thread.is_alive()
