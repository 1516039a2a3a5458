"""Watching with a streaming network: each camera has a state of its own, which ends where its frames do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.detector import Detector, DetectorOptions
from runtime.engines.base import Arrays
from runtime.errors import EngineError, InputError
from runtime.inputs import open_input
from runtime.live.events import Detected, Dropped, Event
from runtime.live.inbox import Due, Stretch
from runtime.live.options import WatchOptions
from runtime.live.watcher import Watcher
from runtime.spec.streaming import LIVE_CHUNK
from runtime.streaming.frames_to_windows import FramesToWindows
from runtime.windows import Window, window_offsets
from tests.runtime.live.fakes import FPS, Connections, FakeReader, FakeTime, Shot, images, shots
from tests.runtime.live.test_watcher import CAMERA, LOST, detected, kinds, shifted, take_all, wait_for
from tests.streaming import peak_memory
from tests.tiny_streaming import STRIDE, WINDOW, TinyStreamingEngine, streaming_spec, whole_features
from tests.videos import write_video

Found = list[tuple[str, float, float, float]]


def alone(part: NDArray[np.uint8], **options: Any) -> Found:
    """What the detector finds in frames of a live source that nothing shares the network with."""
    reader = FakeReader(shots(part), FakeTime())
    reader.endless = True
    found = Detector(TinyStreamingEngine(), options=DetectorOptions(**options)).stream(reader)  # type: ignore[arg-type]
    return [(one.label, one.score, one.start_s, one.end_s) for some in found for one in some]


def whole_windows(part: NDArray[np.uint8], stride: int = STRIDE) -> list[bytes]:
    """The windows of a video, cut from the features of the whole of it."""
    features = whole_features(part)
    offsets = window_offsets(features["level_1"].shape[1] * 8, WINDOW, stride)
    rates = {"level_0": 4, "level_1": 8}
    return [
        as_bytes({name: features[name][:, first // rate : (first + WINDOW) // rate] for name, rate in rates.items()})
        for first in offsets
    ]


def as_bytes(window: Arrays) -> bytes:
    return b"".join(np.ascontiguousarray(window[name]).tobytes() for name in ("level_0", "level_1"))


class Watched:
    """A watch in a thread, of cameras that give their frames and then are silent."""

    def __init__(
        self, engine: TinyStreamingEngine, parts: Sequence[NDArray[np.uint8]], batch: int = 1, **options: Any
    ) -> None:
        self.silent, names = threading.Event(), [f"udp://camera:{k}" for k in range(len(parts))]
        self.readers = {  # on the machine's clock: frames come at once, and no camera makes another one's late
            name: FakeReader(shots(part), FakeTime(), self.silent) for name, part in zip(names, parts, strict=True)
        }
        self.watcher = Watcher(
            Detector(engine, options=DetectorOptions(batch_size=batch, **options)),
            names,
            open_source=lambda source: self.readers[str(source)],
        )
        take_all(self.watcher)
        self.events: list[Event] = []
        self._thread = threading.Thread(target=lambda: self.events.extend(self.watcher))
        self._thread.start()

    def wait_for_readers(self) -> None:
        assert all(reader.exhausted.wait(20) for reader in self.readers.values())

    def end(self) -> None:
        """Stop the watch once all frames have been taken, and let the cameras end, so that their ends are seen."""
        wait_for(lambda: not any(source.inbox.waiting for source in self.watcher._sources))
        stop(self.watcher)
        self.silent.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


def stop(watcher: Watcher) -> None:
    """Stop a watch, and wait until its sources know, so that none is opened again."""
    watcher.stop()
    assert all(source.stopped.wait(10) for source in watcher._sources)


def watch_until_exhausted(
    connections: Connections, fake: FakeTime, engine: TinyStreamingEngine | None = None, **options: Any
) -> list[Event]:
    """The events of one camera, until its connections are used up."""
    detector = Detector(TinyStreamingEngine() if engine is None else engine)
    watcher = Watcher(detector, [CAMERA], WatchOptions(**options), clock=fake.clock, open_source=connections)
    take_all(watcher)
    connections.exhausted = lambda: stop(watcher)
    return list(watcher)


@pytest.mark.parametrize("chunk", [8, 16, 128])
@pytest.mark.parametrize("frames", [1, 31, 32, 33, 120, 203])
def test_the_tiny_network_in_steps_is_the_network_over_the_whole_video(chunk: int, frames: int) -> None:
    part, engine = images(frames, frames), TinyStreamingEngine()
    windows = FramesToWindows(engine, engine.spec, chunk)
    found = [window for frame in part for window in windows.push(frame[..., :]) or ()]
    found += windows.finish()
    assert [as_bytes(window.features) for window in found] == whole_windows(part)


@pytest.mark.parametrize(("lengths", "batch"), [((120,), 1), ((90, 140), 1), ((100, 77, 131), 2), ((64, 150, 96), 3)])
def test_cameras_side_by_side_give_what_each_gives_alone(lengths: tuple[int, ...], batch: int) -> None:
    """The network's steps of the cameras are in turn, so a state that two of them shared would be another one."""
    parts = [images(length, 10 + length) for length in lengths]
    engine = TinyStreamingEngine()
    engine.gate.clear()
    watch = Watched(engine, parts, batch)
    watch.wait_for_readers()
    chunks = sum((length - 1) // LIVE_CHUNK for length in lengths)  # the last one waits for a frame behind it
    wait_for(lambda: sum(source.inbox._windows for source in watch.watcher._sources) >= chunks - batch)
    engine.gate.set()
    watch.end()
    for k, part in enumerate(parts):
        want = alone(part)
        assert len(want) > 5
        assert detected(watch.events, f"camera_{k}") == want
    assert sorted(map(as_bytes, engine.windows)) == sorted(window for part in parts for window in whole_windows(part))
    shortest = min(lengths) // LIVE_CHUNK * len(lengths)
    ahead = [start // LIVE_CHUNK for start in engine.starts[:shortest]]
    # none waits for another; the first turn may be of one camera alone, which is ahead by a batch from then on
    assert all(abs(step - number // len(lengths)) <= batch for number, step in enumerate(ahead))


@pytest.mark.parametrize(("stride", "max_latency"), [(8, None), (24, None), (None, 6.6)])
def test_strides_and_a_latency(stride: int | None, max_latency: float | None) -> None:
    part, engine = images(150, 3), TinyStreamingEngine()
    options = {"stride": stride, "max_latency": max_latency}
    watch = Watched(engine, [part, images(90, 4)], **options)
    watch.wait_for_readers()
    watch.end()
    assert detected(watch.events, "camera_0") == alone(part, **options)
    taken = stride or 8  # (32 + 8 + 16 + 16 − 8 + 1) / 10 s = 6.5; with 16 it is 7.3
    assert watch.watcher.delay.usual_s == pytest.approx((WINDOW + taken + 16 + LIVE_CHUNK - 8 + 1) / FPS)
    assert set(whole_windows(part, taken)) <= set(map(as_bytes, engine.windows))


@pytest.mark.parametrize("batch", [1, 4])
def test_windows_of_several_cameras_go_through_the_head_together(batch: int) -> None:
    engine = TinyStreamingEngine()
    engine.gate.clear()
    sizes: list[int] = []
    infer = engine.infer
    engine.infer = lambda inputs: sizes.append(len(inputs["level_0"])) or infer(inputs)  # type: ignore[method-assign, func-returns-value]
    watch = Watched(engine, [images(16 * 8 + 1, 20 + k) for k in range(4)], batch)
    watch.wait_for_readers()
    engine.gate.set()
    watch.end()
    assert max(sizes) == batch


def test_a_lost_camera_comes_back_with_a_new_state() -> None:
    fake, parts = FakeTime(), [images(count, count) for count in (90, 21, 140)]
    readers = [FakeReader(shots(part, first=20.0 if k else 0.1), fake, LOST) for k, part in enumerate(parts)]
    engine = TinyStreamingEngine()
    events = watch_until_exhausted(Connections(*readers), fake, engine)
    assert kinds(events) == ["started", *["lost", "reconnected", "gap"] * 2, "lost", "stopped"]
    starts = [0.0, *(event.to_dict()["segment"][1] for event in events if event.kind == "gap")]
    found = [one[1:] for one in detected(events)]
    for start, part in zip(starts, parts, strict=True):
        want = shifted(alone(part), start)
        assert len(want) > 2
        assert found[: len(want)] == want
        found = found[len(want) :]
    assert not found
    assert [as_bytes(window) for window in engine.windows] == [w for part in parts for w in whole_windows(part)]


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_gap_under_one_connection_begins_a_new_state(restarts: int) -> None:
    fake, parts = FakeTime(), (images(75, 3), images(64, 4))
    script = [*shots(parts[0]), *shots(parts[1], stamp=12.5, restarts=restarts, first=5.1)]
    engine = TinyStreamingEngine()
    events = watch_until_exhausted(Connections(FakeReader(script, fake, LOST)), fake, engine)
    assert kinds(events) == ["started", "gap", "lost", "stopped"]
    before, after = (alone(part) for part in parts)
    assert [one[1:] for one in detected(events)] == [*(one[1:] for one in before), *shifted(after, 12.5)]
    assert [as_bytes(window) for window in engine.windows] == [w for part in parts for w in whole_windows(part)]


@pytest.mark.parametrize("dropped", [1, 5])
def test_a_machine_too_slow_drops_frames_and_begins_a_new_state(dropped: int) -> None:
    fake, engine, silent = FakeTime(), TinyStreamingEngine(), threading.Event()
    first, last = 3 * LIVE_CHUNK, (3 + dropped) * LIVE_CHUNK  # a chunk is in the network, two wait
    part = images(last + 100, 6)
    engine.gate.clear()

    def script() -> Iterator[Shot]:
        for number, shot in enumerate(shots(part)):
            if number == LIVE_CHUNK + 1:  # a frame is known to be over when the next is there
                assert engine.entered.wait(10)
            if number == last + 1:
                engine.gate.set()
                wait_for(lambda: not source.inbox.waiting)
                take_all(watcher)
            yield shot

    reader = FakeReader(script(), fake, silent)
    watcher = Watcher(Detector(engine), [CAMERA], clock=fake.clock, open_source=lambda _: reader)
    (source,) = watcher._sources
    events: list[Event] = []
    thread = threading.Thread(target=lambda: events.extend(watcher))
    thread.start()
    assert reader.exhausted.wait(20)
    wait_for(lambda: not source.inbox.waiting)
    stop(watcher)
    silent.set()
    thread.join(10)
    assert kinds(events) == ["started", "dropped", "lost", "stopped"]
    (drop,) = (event for event in events if isinstance(event, Dropped))
    assert (drop.windows, drop.frames) == (0, dropped * LIVE_CHUNK)
    assert drop.segment == (first / FPS, last / FPS)
    assert drop.utc[1] - drop.utc[0] == pytest.approx(dropped * LIVE_CHUNK / FPS)
    parts = part[:first], part[last:]
    before, after = (alone(one) for one in parts)
    assert len(before) > 2
    assert [one[1:] for one in detected(events)] == [*(one[1:] for one in before), *shifted(after, last / FPS)]
    assert [e.kind for e in events].index("dropped") == 1 + len(before)  # in the order of the video
    assert [as_bytes(window) for window in engine.windows] == [w for one in parts for w in whole_windows(one)]
    for event in events:
        if isinstance(event, Detected):
            assert event.utc is not None
            assert event.utc[0] - event.segment[0] == pytest.approx(drop.utc[0] - drop.segment[0])
    (numbers,) = watcher.numbers().sources
    assert (numbers.dropped_frames, numbers.dropped_windows) == (drop.frames, 0)
    assert numbers.windows == sum(len(whole_windows(one)) for one in parts)


@pytest.mark.parametrize("batch", [1, 2])
def test_files_give_exactly_the_detections_of_detect(tmp_path: Path, batch: int) -> None:
    clips = [write_video(tmp_path / f"clip{k}.mp4", frames=150 + 40 * k, level=100 + 20 * k) for k in range(3)]
    options = DetectorOptions(batch_size=batch)
    engine = TinyStreamingEngine()
    events = list(Detector(engine, options=options).watch([str(clip) for clip in clips]))
    assert set(np.diff(sorted(set(engine.starts)))) == {128}
    for clip in clips:
        want = Detector(TinyStreamingEngine(), options=options).run(clip)
        assert len(want) > 5
        assert detected(events, clip.stem) == [(d.label, d.score, d.start_s, d.end_s) for d in want]
    assert sorted(kinds(events)) == ["ended"] * 3 + ["started"] * 3


def test_a_network_on_flow(tmp_path: Path) -> None:
    clip, options = str(write_video(tmp_path / "clip.mp4", frames=120)), DetectorOptions(flow_method="dis")
    spec = streaming_spec(stream="flow")
    want = Detector(TinyStreamingEngine(spec), options=options).run(clip)
    events = list(Detector(TinyStreamingEngine(spec), options=options).watch([clip]))
    assert len(want)
    assert detected(events, "clip") == [(d.label, d.score, d.start_s, d.end_s) for d in want]


def test_a_file_beside_a_camera_takes_steps_of_the_cameras_length(tmp_path: Path) -> None:
    """An engine holds the step compiled for one length, so two lengths in turn would be compiled again and again."""
    clip, part, silent = write_video(tmp_path / "clip.mp4", frames=150), images(100, 8), threading.Event()
    engine = TinyStreamingEngine()
    lengths: set[int] = set()
    step = engine.step

    def steps(frames: Arrays, states: Arrays, **bounds: Any) -> tuple[Arrays, Arrays]:
        if bounds["valid"] is None:
            lengths.add(frames["frames"].shape[1] - engine.streaming.overlap)
        return step(frames, states, **bounds)

    engine.step = steps  # type: ignore[method-assign, assignment]
    reader = FakeReader(shots(part), FakeTime(), silent)
    watcher = Watcher(Detector(engine), [CAMERA, str(clip)])
    opened = watcher._open
    for source in watcher._sources:
        source._open = lambda given: reader if given == CAMERA else opened(given)  # type: ignore[assignment, return-value]
    take_all(watcher)
    events: list[Event] = []
    thread = threading.Thread(target=lambda: events.extend(watcher))
    thread.start()
    wait_for(lambda: any(event.kind == "ended" for event in events))
    assert reader.exhausted.wait(10)
    wait_for(lambda: not watcher._sources[0].inbox.waiting)
    stop(watcher)
    silent.set()
    thread.join(10)
    assert lengths == {LIVE_CHUNK}
    assert detected(events, "camera_1") == alone(part)
    want = Detector(TinyStreamingEngine()).run(clip)
    assert detected(events, "clip") == [(d.label, d.score, d.start_s, d.end_s) for d in want]


@pytest.mark.parametrize(("frames", "fails_at"), [(200, 7), (90, 6)], ids=["in a stretch", "at its end"])
def test_an_engine_that_fails_ends_the_watch_after_what_is_final(frames: int, fails_at: int) -> None:
    fake, part, engine = FakeTime(), images(frames, 9), TinyStreamingEngine(fails_at=fails_at)
    watcher = Watcher(
        Detector(engine), [CAMERA], clock=fake.clock, open_source=lambda _: FakeReader(shots(part), fake, LOST)
    )
    take_all(watcher)
    events: list[Event] = []
    with pytest.raises(EngineError, match="out of memory"):
        events.extend(watcher)
    assert [as_bytes(window) for window in engine.windows] == whole_windows(part)[: len(engine.windows)]
    assert len(engine.windows) == fails_at - 3  # every 16 frames, the last 16 of which have no features yet
    assert len(detected(events)) > 5
    assert max(end for _, _, _, end in detected(events)) > ((fails_at - 4) * STRIDE + WINDOW / 2) / FPS


def test_a_step_that_fails_loses_no_window_of_the_cameras_before_it() -> None:
    engine, parts = TinyStreamingEngine(fails_at=8), [images(100, 1), images(100, 2)]
    detector = Detector(engine, options=DetectorOptions(batch_size=2))
    watcher = Watcher(detector, ["udp://camera:0", "udp://camera:1"])
    take_all(watcher)
    for source, part in zip(watcher._sources, parts, strict=True):
        source.start = lambda: None  # type: ignore[method-assign]  # its chunks are there already
        video = open_input(FakeReader(shots(part), FakeTime()), detector.spec, chunk=LIVE_CHUNK)
        stretch = Stretch(detector.find_in(video, endless=True), video.rate)
        for chunk in video.windows():
            if isinstance(chunk, Window):
                source.inbox.put(Due(stretch, chunk))
    with pytest.raises(EngineError, match="out of memory"):
        list(watcher)
    first, second = (whole_windows(part) for part in parts)
    assert [as_bytes(window) for window in engine.windows] == [first[0], second[0], first[1]]


def test_stop_ends_in_time_though_each_camera_has_a_step_left() -> None:
    engine = TinyStreamingEngine(keeps=False)
    watch = Watched(engine, [images(70, k) for k in range(12)])
    watch.wait_for_readers()
    wait_for(lambda: not any(source.inbox.waiting for source in watch.watcher._sources))
    step = engine.step

    def slow(frames: Arrays, states: Arrays, **bounds: Any) -> tuple[Arrays, Arrays]:
        time.sleep(0.3)
        return step(frames, states, **bounds)

    engine.step = slow  # type: ignore[method-assign, assignment]
    begun = time.monotonic()
    watch.end()
    assert time.monotonic() - begun < 2.5  # two seconds, and time for a machine that has other work; in full 3.6
    assert [event.kind for event in watch.events].count("stopped") == 12
    assert all(detected(watch.events, f"camera_{k}") for k in range(12))


def test_memory_stays_flat() -> None:
    def losses(rounds: int) -> int:
        fake = FakeTime()
        connections = Connections(*[FakeReader(shots(images(64, 12)), fake, LOST) for _ in range(rounds)])
        return peak_of(fake, connections)

    def one_stretch(frames: int) -> int:  # most of which is dropped, since they come faster than they are taken
        fake, level = FakeTime(), images(1)[0]
        script = (Shot(level, k / FPS, 1 / FPS) for k in range(frames))
        return peak_of(fake, Connections(FakeReader(script, fake, LOST)))

    assert losses(120) < losses(20) + 50_000
    assert one_stretch(4000) < one_stretch(400) + 50_000


def peak_of(fake: FakeTime, connections: Connections) -> int:
    """Bytes held at most while a camera's connections are used up."""

    def sleep(stopped: threading.Event, _: float) -> None:
        wait_for(lambda: stopped.is_set() or not source.inbox.waiting)

    clock = replace(fake.clock, sleep=sleep)
    detector = Detector(TinyStreamingEngine(keeps=False), options=DetectorOptions(min_score=1.0))
    watcher = Watcher(detector, [CAMERA], clock=clock, open_source=connections)
    (source,) = watcher._sources

    connections.exhausted = lambda: stop(watcher)
    return peak_memory(watcher)


def test_a_stride_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(InputError, match="stride: got 12, expected a multiple of 8 frames from 8 to 32"):
        Detector(TinyStreamingEngine(), options=DetectorOptions(stride=12)).watch([CAMERA])
