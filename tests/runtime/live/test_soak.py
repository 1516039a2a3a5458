"""Two cameras beside a file for a long time, killed and restarted at random moments.

AFSD_SOAK_MINUTES says how long, AFSD_SOAK_SEED which moments; `make test-slow` takes the defaults. Each camera fails
five times, and once a minute where that is more.
"""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from runtime.detector import Detector, DetectorOptions
from runtime.live.events import Detected, Event
from runtime.live.options import WatchOptions
from runtime.live.watcher import Watcher
from runtime.results.json_lines import JsonLineFiles
from runtime.video.readers.base import Reader
from runtime.video.readers.choice import open_reader
from tests.runtime.live.streams import FPS, Log, LoggingReader, Replay, Sender, decode, free_port, udp, write_clip
from tests.tiny import TinyEngine

MINUTES = float(os.environ.get("AFSD_SOAK_MINUTES", "5"))
SEED = int(os.environ.get("AFSD_SOAK_SEED", "1"))
KILLS = max(5, int(MINUTES) - 1)
FRAMES, STALL, WARM_UP = 1500, 3.0, 40.0
PADDED = ("-f", "mpegts", "-muxrate", "4M")
"""A rate at which FFmpeg's buffers of a UDP stream, some 12 MB, are filled within the warm-up."""
OPTIONS = DetectorOptions(min_score=0.5)
MODEL_FPS = 10


def resident_mib() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """Number of file descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def act(clip: Path, port: int, seconds: float, rng: random.Random, outages: list[float]) -> None:
    """Send a clip for some seconds, with KILLS outages at random moments, shorter and longer than the stall."""
    end, part = time.monotonic() + seconds, seconds / (KILLS + 1)
    for number in range(KILLS + 1):
        with Sender(clip, udp(port), *PADDED):
            last = number == KILLS
            time.sleep(max(end - time.monotonic(), 0) if last else part * rng.uniform(0.5, 1.0))
        if not last:
            outages.append(rng.choice((rng.uniform(0.2, STALL - 1), rng.uniform(STALL + 0.5, 3 * STALL))))
            time.sleep(outages[-1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_two_cameras_beside_a_file_for_long(tmp_path: Path) -> None:
    clip, rng = write_clip(tmp_path / "clip.mp4", FRAMES), random.Random(SEED)
    frames = decode(clip)
    ports = [free_port(), free_port()]
    cameras = [f"udp://127.0.0.1:{port}" for port in ports]
    logs, seconds = {camera: Log(FRAMES) for camera in cameras}, 60 * MINUTES

    def connect(source: str | int) -> Reader:
        log = logs.get(str(source))
        return open_reader(source) if log is None else LoggingReader(str(source), log, STALL)

    watcher = Watcher(
        Detector(TinyEngine(), options=OPTIONS), [*cameras, str(clip)], WatchOptions(STALL), open_source=connect
    )
    outages: list[list[float]] = [[], []]
    actors = [
        threading.Thread(target=act, args=(clip, port, seconds, random.Random(rng.random()), outage))
        for port, outage in zip(ports, outages, strict=True)
    ]
    memory: list[float] = []
    threads: list[float] = []
    files_open: list[float] = []

    def observe() -> None:
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds - 3:  # stopped while both cameras send
            time.sleep(1)
            well, details = watcher.health()
            assert well, details
            if passed > WARM_UP:
                memory.append(resident_mib())
                threads.append(threading.active_count())
                files_open.append(open_files())
        watcher.stop()

    observer = threading.Thread(target=observe)
    for thread in (*actors, observer):
        thread.start()
    kinds: dict[str, list[str]] = {name: [] for name in watcher.names}
    gaps: dict[str, list[float]] = {name: [0.0] for name in watcher.names}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in watcher.names}
    delays: list[float] = []
    files = JsonLineFiles(tmp_path / "out")
    for event in watcher:
        keep(event, kinds, gaps, found, delays)
        files.append(event.video, event.to_json())
    for thread in (*actors, observer):
        thread.join()

    assert kinds.pop("clip") == ["started", "ended"]
    assert found["clip"] == [(d.score, d.start_s, d.end_s) for d in Detector(TinyEngine(), options=OPTIONS).run(clip)]
    for camera, (name, said), outage in zip(cameras, kinds.items(), outages, strict=True):
        want = ["started"]
        for silence in outage:
            want += ["gap"] if silence < STALL else ["lost", "reconnected", "gap"]
        assert said == [*want, "stopped"], (said, outage)
        runs = logs[camera].runs
        assert len(runs) == KILLS + 1
        counts = next(source.counts for source in watcher._sources if source.name == name)
        assert counts.frames == sum(run.count * MODEL_FPS // FPS for run in runs)
        assert counts.gaps == KILLS
        assert counts.losses == counts.reconnects == sum(silence > STALL for silence in outage)
        assert watcher._sources[0].inbox.dropped_windows == 0
        total = 0
        for start, run in zip(gaps[name], runs, strict=True):
            replayed = Detector(TinyEngine(), options=OPTIONS).run(Replay(frames, run))  # type: ignore[arg-type]
            part, found[name] = found[name][: len(replayed)], found[name][len(replayed) :]
            assert part == [pytest.approx((d.score, start + d.start_s, start + d.end_s), abs=1e-6) for d in replayed]
            total += len(part)
        assert not found[name]
        assert total > seconds / 10
        lines = (tmp_path / "out" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(lines) == total + len(said)
        last = gaps[name][-1] + runs[-1].count / FPS
        assert last == pytest.approx(seconds - 3, abs=4)  # the clock of the stream beside that on the wall
    third = len(memory) // 3
    early, late = zip(*((middle(v[:third]), middle(v[-third:])) for v in (memory, threads, files_open)), strict=True)
    print(
        f"{MINUTES:g} min, {KILLS} outages of each camera: resident memory {early[0]:.1f} → {late[0]:.1f} MiB, "
        f"threads {early[1]:g} → {late[1]:g}, open files {early[2]:g} → {late[2]:g}, longest delay {max(delays):.2f} s",
        outages,
    )
    assert late[0] < early[0] + 8
    assert late[1:] <= early[1:]
    assert max(delays) < watcher.delay.worst_s + STALL + 1


def keep(
    event: Event,
    kinds: dict[str, list[str]],
    gaps: dict[str, list[float]],
    found: dict[str, list[tuple[float, float, float]]],
    delays: list[float],
) -> None:
    """Keep of an event what is checked at the end."""
    if isinstance(event, Detected):
        found[event.video].append((event.score, *event.segment))
        if event.utc is not None:
            delays.append(event.at - event.utc[1])
        return
    kinds[event.video].append(event.kind)
    if event.kind == "gap":
        gaps[event.video].append(event.to_dict()["segment"][1])
