"""Say where the time of a detection run goes: stages, what waited for what, and the CPU seconds of each thread."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from runtime.common.tables import align
from runtime.timing import MS, Timing

SAMPLE_SECONDS = 0.05
"""Seconds between two looks at FFmpeg's threads; what they do after the last look counts with the others."""
TASKS = Path("/proc/self/task")
"""Folder in which Linux shows the threads of this process."""
DECODER = "av:"
"""Beginning of the names of FFmpeg's threads."""
MAIN, READER, OTHERS = "main", "reading", "engine and others"


class ThreadClock:
    """Measures the CPU seconds of the threads of this process, from entering it until `stop` or leaving it.

    FFmpeg's threads end before a run does, so a thread of its own looks at all of them from time to time. They are
    known by their names on Linux; elsewhere they count with the others.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """CPU seconds by name: the calling thread, FFmpeg's by their names, and the others: the engine's, the one that
        reads, and what cannot be told apart. They add up to the CPU seconds of the process."""
        self._stop = threading.Event()
        self._first: dict[tuple[int, str], float] = {}
        self._latest: dict[tuple[int, str], float] = {}

    def __enter__(self) -> ThreadClock:
        self._cpu, self._own = time.process_time(), time.thread_time()
        self._first = _decoder_seconds()
        self._sampler = threading.Thread(target=self._sample, name="afsd-profile", daemon=True)
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the figures; a second call does nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._sampler.join()
        whole, own = time.process_time() - self._cpu, time.thread_time() - self._own
        found = {MAIN: own}
        for thread, seconds in sorted((self._latest | _decoder_seconds()).items(), key=lambda item: item[0][1]):
            found[thread[1]] = found.get(thread[1], 0.0) + seconds - self._first.get(thread, 0.0)
        self.seconds = found | {OTHERS: max(whole - sum(found.values()), 0.0)}

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._latest |= _decoder_seconds()


def _decoder_seconds() -> dict[tuple[int, str], float]:
    """Return the CPU seconds of each of FFmpeg's living threads, by its number and name."""
    found: dict[tuple[int, str], float] = {}
    if sys.platform != "linux":
        return found
    for task in TASKS.iterdir():
        with suppress(OSError, ValueError):  # it has ended
            text = (task / "stat").read_text()
            name, facts = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
            if name.startswith(DECODER):
                found[int(task.name), name] = (int(facts[11]) + int(facts[12])) / os.sysconf("SC_CLK_TCK")
    return found


@dataclass(frozen=True)
class Profile:
    """Holds where the time of one video went; milliseconds on the clock unless the name says CPU."""

    wall_ms: float
    """From opening the source to its results, written files included."""
    frames: int
    """Number of sampled frames."""
    windows: int
    """Number of windows."""
    stages_ms: dict[str, float]
    """Stages of the thread that runs the engine, one after the other: they add up to `wall_ms`."""
    reading_ms: dict[str, float]
    """What the reading thread did meanwhile; sources without one are read within "wait for frames"."""
    cpu_s: dict[str, float]
    """CPU seconds by thread."""

    def to_mapping(self) -> dict[str, Any]:
        """Return the profile as a mapping for JSON."""
        return asdict(self)


def make_profile(timing: Timing, threads: ThreadClock) -> Profile:
    """Return the profile of a run that has ended, its results written."""
    wall = timing.wall_seconds * MS + timing.write_ms
    stages = {
        "wait for frames": timing.wait_ms,
        "windows": timing.window_ms,
        "engine": timing.engine_ms,
        "post-processing": timing.post_ms,
        "writing": timing.write_ms,
    }
    stages["other"] = max(wall - sum(stages.values()), 0.0)
    reading = {
        "decode, sample, resize": max(timing.reading.work_s * MS - timing.flow_ms, 0.0),
        "flow": timing.flow_ms,
        "wait for the network": timing.reading.blocked_s * MS,
    }
    cpu = dict(threads.seconds)
    read = min(timing.reading.cpu_s, cpu.get(OTHERS, 0.0))
    if read:
        cpu = {MAIN: cpu.pop(MAIN), READER: read} | cpu | {OTHERS: cpu[OTHERS] - read}
    return Profile(wall, timing.frames, timing.windows, stages, reading, cpu)


def format_profile(profile: Profile) -> str:
    """Format a profile as tables: stages with their shares, what the reading thread did, CPU seconds by thread."""
    frames = max(profile.frames, 1)

    def row(name: str, ms: float) -> list[str]:
        return [name, f"{ms:,.0f}", f"{ms / max(profile.wall_ms, 1e-9):.1%}", f"{ms / frames:.3f}"]

    rows = [["stage", "ms", "share", "ms/frame"], *(row(name, ms) for name, ms in profile.stages_ms.items())]
    rows += [row("wall time", profile.wall_ms), ["", "", "", ""]]
    rows += [["reading, beside them", "", "", ""], *(row(name, ms) for name, ms in profile.reading_ms.items() if ms)]
    cpu = [["CPU seconds", "", ""]]
    whole = sum(profile.cpu_s.values())
    for name, seconds in [*profile.cpu_s.items(), ("all", whole)]:
        cpu.append([name, f"{seconds:.2f}", f"{seconds * MS / frames:.3f} ms/frame"])
    return align(rows, "lrrr", indent=2) + "\n\n" + align(cpu, "lrr", indent=2)
