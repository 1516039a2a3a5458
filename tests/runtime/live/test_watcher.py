"""Watching several sources: what is found, what is said, what is given up."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import runtime
from runtime.detector import Detector, DetectorOptions
from runtime.errors import EngineError, InputError, SourceLostError, VideoError
from runtime.live.clock import DRIFT_SECONDS, StreamZero
from runtime.live.events import Detected, Dropped, Event, Failed, Gap, Lost, Reconnected, Started, Stopped
from runtime.live.options import WatchOptions
from runtime.live.source import FIRST_RETRY_SECONDS
from runtime.live.watcher import PENDING_WINDOWS, Watcher
from runtime.video.readers.choice import open_reader
from runtime.video.sources import list_sources
from tests.runtime.live.fakes import FPS, UNIX, Connections, FakeReader, FakeTime, Shot, images, shots
from tests.streaming import peak_memory
from tests.tiny import STRIDE, ProposalEngine, TinyEngine, tiny_spec
from tests.videos import write_video

LOST = SourceLostError("fake: the stream broke off")
CAMERA = "udp://camera:1"


def detect(*parts: NDArray[np.uint8]) -> list[list[tuple[str, float, float, float]]]:
    """What the detector finds in each part on its own."""
    detector = Detector(TinyEngine())
    return [[tuple(one) for one in detector.run(part, fps=FPS)] for part in parts]  # type: ignore[misc]


def detected(events: Sequence[Event], video: str = "camera_1") -> list[tuple[str, float, float, float]]:
    return [(e.label, e.score, *e.segment) for e in events if isinstance(e, Detected) and e.video == video]


def watch_until_exhausted(connections: Connections, time: FakeTime, **options: Any) -> list[Event]:
    """The events of one camera, until its connections are used up."""
    watcher = Watcher(
        Detector(TinyEngine()), [CAMERA], WatchOptions(**options), clock=time.clock, open_source=connections
    )
    (source,) = watcher._sources
    take_all(watcher)

    def stop() -> None:
        watcher.stop()
        source.stopped.wait(20)

    connections.exhausted = stop
    return list(watcher)


def take_all(watcher: Watcher) -> None:
    """Let no window be dropped, though fake sources are faster than any engine."""
    for source in watcher._sources:
        source.inbox._capacity = 10**6


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kinds(events: Sequence[Event]) -> list[str]:
    """Kinds of events in order, detections left out."""
    return [event.kind for event in events if not isinstance(event, Detected)]


def shifted(found: list[tuple[str, float, float, float]], seconds: float) -> list[Any]:
    return [pytest.approx((s, start + seconds, end + seconds), abs=1e-9) for _, s, start, end in found]


class OverlappingEngine(TinyEngine):
    """The tiny network with several batches in flight, which are run when they are collected."""

    depth = 3

    def __init__(self, fails_at: int = -1) -> None:
        super().__init__()
        self.submitted, self._fails_at = 0, fails_at

    def submit(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        self.submitted += 1
        if self.submitted == self._fails_at:
            raise EngineError("out of memory")
        return inputs

    def collect(self, ticket: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        return self.infer(ticket)


@pytest.mark.parametrize(("batch", "engine"), [(1, TinyEngine), (3, TinyEngine), (1, OverlappingEngine)])
def test_files_give_exactly_the_detections_of_detect(tmp_path: Path, batch: int, engine: type[TinyEngine]) -> None:
    clips = [write_video(tmp_path / f"clip{k}.mp4", frames=90 + 40 * k, level=100 + 20 * k) for k in range(3)]
    options = DetectorOptions(batch_size=batch, min_score=0.1)
    watcher = Detector(engine(), options=options).watch([str(clip) for clip in clips])
    events = list(watcher)
    for clip in clips:
        want = Detector(TinyEngine(), options=options).run(clip)
        assert len(want) > 5
        assert detected(events, clip.stem) == [(d.label, d.score, d.start_s, d.end_s) for d in want]
    assert sorted(kinds(events)) == ["ended"] * 3 + ["started"] * 3
    assert not watcher.failed
    assert all(event.utc is None for event in events if isinstance(event, (Started, Detected)))
    begun = [event.to_dict() for event in events if isinstance(event, Started)]
    for event in begun:  # no later line says it
        assert (event["model"], event["threshold"], event["version"]) == ("", options.min_score, runtime.__version__)


@pytest.mark.parametrize("streams", ["flow", "rgb+flow"])
def test_models_on_flow(tmp_path: Path, streams: str) -> None:
    clip = str(write_video(tmp_path / "clip.mp4", frames=80))
    options = DetectorOptions(flow_method="dis")
    flow = TinyEngine(tiny_spec("flow"))
    engines: dict[str, Any] = {"flow_engine": flow} if streams == "rgb+flow" else {}
    engine = TinyEngine() if engines else flow
    want = Detector(engine, **engines, options=options).run(clip)
    events = list(Detector(engine, **engines, options=options).watch([clip]))
    assert detected(events, "clip") == [(d.label, d.score, d.start_s, d.end_s) for d in want]
    assert len(want)


def test_a_lost_source_comes_back_and_its_clock_goes_on() -> None:
    fake, parts = FakeTime(), (images(50, 1), images(70, 2))
    first, second = FakeReader(shots(parts[0]), fake, LOST), FakeReader(shots(parts[1], first=20.0), fake, LOST)
    events = watch_until_exhausted(Connections(first, second), fake)
    assert kinds(events) == ["started", "lost", "reconnected", "gap", "lost", "stopped"]
    started, lost, back, gap, _, stopped = (event for event in events if not isinstance(event, Detected))
    assert isinstance(started, Started)
    assert isinstance(lost, Lost)
    assert isinstance(back, Reconnected)
    assert isinstance(gap, Gap)
    assert isinstance(stopped, Stopped)
    assert started.utc == pytest.approx(UNIX + 0.1)
    assert (lost.seconds, lost.reason) == (5.0, "fake: the stream broke off")
    away = 20 + fake.slept[0]  # from the arrival of the last frame to that of the next one
    assert (back.attempts, back.lost_s) == (1, pytest.approx(away, abs=1e-3))
    assert gap.segment == (5.0, pytest.approx(4.9 + away))
    assert gap.utc == (pytest.approx(UNIX + 5.1), pytest.approx(UNIX + 5.0 + away))
    assert stopped.seconds == pytest.approx(4.9 + away + 7)
    before, after = detect(*parts)
    cut = [e for e in events if isinstance(e, Detected)]
    assert [e.segment for e in cut[: len(before)]] == [one[2:] for one in before]
    assert [(e.score, *e.segment) for e in cut[len(before) :]] == shifted(after, 4.9 + away)
    for event in cut:
        assert event.utc == (pytest.approx(UNIX + 0.1 + event.segment[0]), pytest.approx(UNIX + 0.1 + event.segment[1]))
        assert not (event.segment[0] < gap.segment[1] and event.segment[1] > gap.segment[0])
    position = [e.kind for e in events].index("lost")
    assert position == 1 + len(before)  # what is final is given out before
    assert first.closed
    assert second.closed


@pytest.mark.parametrize(
    ("stamp", "restarts", "silence", "gap"),
    [
        (10.0, 0, 5.1, 5.0),  # stamps and arrivals agree: by the stamps
        (10.0, 0, 5.7, 5.0),
        (95_443.7, 0, 3.1, 3.0),  # stamps of a wrapped counter: by the arrivals
        (5.0, 1, 20.1, 20.0),  # a restarted camera, whose reader goes on where the picture stood
        (5.0, 1, 0.1, 0.0),
    ],
)
def test_a_gap_under_one_connection(stamp: float, restarts: int, silence: float, gap: float) -> None:
    fake, parts = FakeTime(), (images(50, 3), images(40, 4))
    script = [*shots(parts[0]), *shots(parts[1], stamp=stamp, restarts=restarts, first=silence)]
    events = watch_until_exhausted(Connections(FakeReader(script, fake, LOST)), fake)
    assert kinds(events) == ["started", "gap", "lost", "stopped"]
    (missing,) = (event for event in events if isinstance(event, Gap))
    assert missing.segment == (5.0, pytest.approx(5.0 + gap))
    before, after = detect(*parts)
    found = [(e.score, *e.segment) for e in events if isinstance(e, Detected)]
    assert found == [*(one[1:] for one in before), *shifted(after, 5.0 + gap)]


def test_a_short_pause_is_no_gap() -> None:
    fake, part = FakeTime(), images(60, 5)
    late = shots(part)
    late[30] = type(late[30])(late[30].image, late[30].stamp, 4.0)  # the network hung, and gave everything later
    events = watch_until_exhausted(Connections(FakeReader(late, fake, LOST)), fake)
    assert kinds(events) == ["started", "lost", "stopped"]
    assert detected(events) == detect(part)[0]


def test_waiting_grows_to_its_cap_with_jitter_and_a_loss_is_reported_once() -> None:
    fake = FakeTime()
    connections = Connections(
        FakeReader(shots(images(150)), fake, LOST),
        *[VideoError("refused")] * 9,
        FakeReader(shots(images(20)), fake, LOST),
    )
    events = watch_until_exhausted(connections, fake, retry_seconds=4.0)
    assert kinds(events) == ["started", "lost", "reconnected", "gap", "lost", "stopped"]
    waits = fake.slept[:10]
    longest = [min(FIRST_RETRY_SECONDS * 2**k, 4.0) for k in range(10)]
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True))
    assert len({wait / most for wait, most in zip(waits, longest, strict=True)}) > 5
    (back,) = (event for event in events if isinstance(event, Reconnected))
    assert back.attempts == 10
    assert fake.slept[10] > 2  # a connection of two seconds is not steady: the waiting goes on where it was


def test_a_source_that_is_not_there_yet() -> None:
    fake = FakeTime()
    connections = Connections(VideoError("refused"), VideoError("refused"), FakeReader(shots(images(20)), fake, LOST))
    events = watch_until_exhausted(connections, fake)
    assert kinds(events) == ["lost", "started", "lost", "stopped"]
    assert events[0].to_dict()["reason"] == "refused"


def test_zero_follows_early_frames_and_a_slow_clock() -> None:
    zero = StreamZero(50.0)
    assert zero.delay(50.3, 0.1) == pytest.approx(0.2)
    assert zero.delay(50.4, 3.0) == 0  # the burst of a buffer
    assert zero.moment == pytest.approx(47.4)
    for second in range(4, 2 * int(DRIFT_SECONDS) + 8):  # a camera whose clock loses a tenth of a thousandth
        zero.delay(47.4 + second * 1.0001, second)
    assert zero.moment == pytest.approx(47.4 + DRIFT_SECONDS / 10_000, abs=1e-3)


class SlowEngine(TinyEngine):
    """The tiny network behind a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.entered = threading.Event()

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        self.entered.set()
        assert self.gate.acquire(timeout=20)
        return super().infer(inputs)


def test_a_machine_too_slow_drops_the_oldest_windows_and_says_so() -> None:
    fake, part, engine, silent = FakeTime(), images(16 + STRIDE * 20 + 1, 6), SlowEngine(), threading.Event()

    def script() -> Iterator[Shot]:
        for number, shot in enumerate(shots(part)):
            if number == 18:  # the first window is complete, and no other
                assert engine.entered.wait(10)
            yield shot

    reader = FakeReader(script(), fake, silent)
    watcher = Watcher(Detector(engine), [CAMERA], clock=fake.clock, open_source=lambda _: reader)
    (source,) = watcher._sources
    events: list[Event] = []
    thread = threading.Thread(target=lambda: events.extend(watcher))
    thread.start()
    assert reader.exhausted.wait(10)
    waiting = source.inbox._windows
    for _ in range(30):
        engine.gate.release()
    wait_for(lambda: not source.inbox.waiting)
    watcher.stop()
    silent.set()
    thread.join(5)
    assert waiting == PENDING_WINDOWS
    (dropped,) = (event for event in events if isinstance(event, Dropped))
    assert dropped.windows == 18  # the first is in the engine, 20 came after it, two wait
    assert dropped.frames == 19 * STRIDE - 16  # from the end of the first window to the start of the last but one
    assert dropped.segment[0] == STRIDE / FPS
    assert dropped.segment[1] == pytest.approx((18 * STRIDE + 16) / FPS)
    assert dropped.utc[1] - dropped.utc[0] == pytest.approx(dropped.segment[1] - dropped.segment[0])
    (numbers,) = watcher.numbers().sources
    assert (numbers.dropped_windows, numbers.dropped_frames) == (dropped.windows, dropped.frames)
    assert numbers.frames == len(part)
    found = [event for event in events if isinstance(event, Detected)]
    assert found
    for event in found:  # each in a window that was looked at: the clock is right
        assert event.segment[1] <= 1.6 or event.segment[0] >= 19 * STRIDE / FPS


def test_windows_of_several_sources_go_through_the_engine_together() -> None:
    fake, names, engine = FakeTime(), [f"udp://camera:{k}" for k in range(3)], SlowEngine()
    parts, silent = [images(16 + 3 * STRIDE + 1, 10 + k) for k in range(3)], threading.Event()
    readers = {name: FakeReader(shots(part), fake, silent) for name, part in zip(names, parts, strict=True)}
    watcher = Watcher(
        Detector(engine, options=DetectorOptions(batch_size=3)),
        names,
        clock=fake.clock,
        open_source=lambda source: readers[str(source)],
    )
    take_all(watcher)
    events: list[Event] = []
    thread = threading.Thread(target=lambda: events.extend(watcher))
    thread.start()
    assert all(reader.exhausted.wait(10) for reader in readers.values())
    for _ in range(20):
        engine.gate.release()
    wait_for(lambda: sum(engine.batches) == 12)
    time.sleep(0.05)  # until the loop rests
    watcher.stop()
    thread.join(5)
    silent.set()
    assert sum(engine.batches) == 12
    assert engine.batches[0] <= 3
    assert engine.batches[1:4] == [3, 3, 3]
    for k, want in enumerate(detect(*(part[:-1] for part in parts))):
        assert detected(events, f"camera_{k}") == want


def test_an_engine_of_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    clip = str(write_video(tmp_path / "clip.mp4", frames=70))
    engine = TinyEngine(tiny_spec(batch=4))
    events = list(Detector(engine, options=DetectorOptions(batch_size=4)).watch([clip]))
    assert set(engine.batches) == {4}
    want = Detector(TinyEngine()).run(clip)
    assert detected(events, "clip") == [(d.label, d.score, d.start_s, d.end_s) for d in want]


def test_stop_gives_out_what_is_final_though_a_reader_hangs() -> None:
    part, hanging = images(57, 8), threading.Event()
    reader = FakeReader(shots(part), FakeTime(), hanging)
    watcher = Watcher(Detector(TinyEngine()), [CAMERA], open_source=lambda _: reader)
    take_all(watcher)
    stopped_at = []

    def stop() -> None:
        wait_for(lambda: watcher._tallies[watcher._sources[0]].windows == 6)
        stopped_at.append(time.monotonic())
        watcher.stop()

    threading.Thread(target=stop).start()
    events = list(watcher)
    assert time.monotonic() - stopped_at[0] < 1.5
    hanging.set()
    assert kinds(events) == ["started", "stopped"]
    assert detected(events) == detect(part[:56])[0]
    assert not watcher.failed


def test_a_file_that_breaks_off_fails_after_what_was_found(tmp_path: Path) -> None:
    good, bad = write_video(tmp_path / "good.avi", frames=90), write_video(tmp_path / "bad.avi", frames=90)
    content = bad.read_bytes()
    bad.write_bytes(content[: len(content) // 2])
    watcher = Detector(TinyEngine()).watch([str(bad), str(good)])
    events = list(watcher)
    (failed,) = (event for event in events if isinstance(event, Failed))
    assert failed.video == "bad"
    assert "cut off or damaged" in failed.reason
    assert watcher.failed
    assert detected(events, "bad")
    assert len(detected(events, "good")) == len(Detector(TinyEngine()).run(good))


class FailingEngine(TinyEngine):
    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        if len(self.batches) == 3:
            raise EngineError("out of memory")
        return super().infer(inputs)


@pytest.mark.parametrize("engine", [FailingEngine(), OverlappingEngine(fails_at=4)], ids=["one", "several in flight"])
def test_an_engine_that_fails_ends_the_watch_after_what_is_final(engine: TinyEngine) -> None:
    fake, part = FakeTime(), images(80, 9)
    watcher = Watcher(
        Detector(engine), [CAMERA], clock=fake.clock, open_source=lambda _: FakeReader(shots(part), fake, LOST)
    )
    take_all(watcher)
    events: list[Event] = []
    with pytest.raises(EngineError, match="out of memory"):
        events.extend(watcher)  # which keeps what came before the error
    assert detected(events) == detect(part[: 16 + 2 * STRIDE])[0]
    assert watcher._sources[0].stopped.is_set()


def test_an_error_of_the_code_is_not_swallowed() -> None:
    def broken(_: str | int) -> FakeReader:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Watcher(Detector(TinyEngine()), [CAMERA], open_source=broken))


def test_closing_ends_the_reading(tmp_path: Path) -> None:
    clip = str(write_video(tmp_path / "clip.mp4", frames=400))
    watcher = Detector(TinyEngine()).watch([clip])
    events = iter(watcher)
    assert isinstance(next(events), Started)
    events.close()  # type: ignore[attr-defined]  # a generator
    wait_for(lambda: not watcher._sources[0]._thread.is_alive())
    with pytest.raises(InputError, match="started before"):
        next(iter(watcher))


@pytest.mark.parametrize(
    ("engine", "options", "sources", "message"),
    [
        (ProposalEngine(), DetectorOptions(), ["udp://a:1"], "whole videos"),
        (TinyEngine(), DetectorOptions(nms="reference"), ["udp://a:1"], "needs the whole video"),
        (TinyEngine(), DetectorOptions(), [], "got no source"),
        (TinyEngine(), DetectorOptions(), ["missing.mp4"], "not found"),
    ],
)
def test_what_cannot_be_watched_is_refused(
    engine: TinyEngine, options: DetectorOptions, sources: list[str | int], message: str
) -> None:
    with pytest.raises((InputError, VideoError), match=message):
        Detector(engine, options=options).watch(sources)


def test_names_are_unique_and_hold_the_port() -> None:
    sources = [
        "udp://127.0.0.1:5000",
        "udp://127.0.0.1:5001",
        "rtsp://user:secret@host:554/a?x=1",
        "rtsp://host:554/a?x=2",
    ]
    names = Detector(TinyEngine()).watch(sources).names
    assert names == ["127.0.0.1_5000", "127.0.0.1_5001", "host_554_a", "host_554_a-2"]


def test_files_of_a_tree_are_named_by_their_paths(tmp_path: Path) -> None:
    for name in ("a", "day1/a", "day2/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.mp4").touch()
    sources = list_sources([str(tmp_path), CAMERA], recursive=True)
    assert Detector(TinyEngine()).watch(sources).names == ["a", "day1/a", "day2/a", "camera_1"]


def test_memory_stays_flat() -> None:
    fake, part = FakeTime(), images(64, 12)
    first, second = (memory_after(fake, part, rounds) for rounds in (6, 60))
    assert second < first + 50_000


def test_frames_are_freed_without_the_collector_of_garbage(tmp_path: Path) -> None:
    """A frame that is part of a circle keeps its pixels until the collector runs, hundreds of frames later."""
    reader = open_reader(str(write_video(tmp_path / "clip.mp4", frames=300)))
    gc.collect()
    gc.disable()
    try:
        while reader.grab():
            reader.hold()()
        reader.close()
        assert gc.collect() < 100  # of other tests; a circle in each frame would leave 300
    finally:
        gc.enable()


def memory_after(fake: FakeTime, part: NDArray[np.uint8], rounds: int) -> int:
    """Bytes held at most while a camera is lost and found `rounds` times."""
    connections = Connections(*[FakeReader(shots(part), fake, LOST) for _ in range(rounds)])

    def sleep(stopped: threading.Event, _: float) -> None:
        """Wait for the loop instead of some seconds, as long as it takes to handle what was read."""
        wait_for(lambda: stopped.is_set() or not source.inbox.waiting)

    clock = replace(fake.clock, sleep=sleep)
    watcher = Watcher(Detector(TinyEngine()), [CAMERA], clock=clock, open_source=connections)
    (source,) = watcher._sources

    def stop() -> None:
        watcher.stop()
        source.stopped.wait(20)

    connections.exhausted = stop
    return peak_memory(watcher)


def test_a_source_that_decodes_too_slowly_is_opened_again_where_it_is_now() -> None:
    fake = FakeTime()
    slow = [Shot(shot.image, shot.stamp, 3 / FPS) for shot in shots(images(400))]  # a frame takes thrice its time
    connections = Connections(FakeReader(slow, fake, LOST), FakeReader(shots(images(20)), fake, LOST))
    events = watch_until_exhausted(connections, fake)
    assert kinds(events) == ["started", "lost", "reconnected", "gap", "lost", "stopped"]
    lost = next(event for event in events if isinstance(event, Lost))
    gap = next(event for event in events if isinstance(event, Gap))
    assert "decoding is 10 s behind, so the source is opened again where it is now" in lost.reason
    assert gap.reason == "decoding was too slow"
    assert gap.segment[1] == pytest.approx(15, abs=1.5)  # 5 s of video took 15 s
