"""Chains of ever better overlapping candidates: exact where a source has an end, settled and said where it has none."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime import detector as detector_module
from runtime.decoding.candidates import Candidates
from runtime.detector import Detector, DetectorOptions
from runtime.errors import InputError, SourceLostError, VideoWarning
from runtime.families import FAMILIES
from runtime.live.events import Detected
from runtime.live.watcher import Watcher
from runtime.results.detections import Detections
from runtime.spec.model import ModelSpec
from tests.runtime.live.fakes import Connections, FakeReader, FakeTime, Shot
from tests.runtime.suppression.test_nms import Row, plain_soft_nms
from tests.tiny import TinyEngine

WINDOWS = 24
FRAMES = 8 * (WINDOWS + 1)
"""Frames of WINDOWS windows of 1.6 s, each 0.8 s after the one before."""


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Candidates that a network finds, window by window: a chain through the whole video, each better than the last."""
    starts = np.arange(0, FRAMES / 10 - 0.6, 0.2)
    ladder = np.column_stack([starts, starts + 0.55, np.linspace(0.2, 0.95, len(starts))])
    rows: list[Row] = []

    def decode(outputs: Any, index: int, offset: int, spec: ModelSpec, *_: Any, **__: Any) -> Candidates:
        start, end = offset / spec.sample_fps, (offset + spec.window_length) / spec.sample_fps
        inside = ladder[(ladder[:, 0] >= start) & (ladder[:, 1] <= end)]
        rows.extend(tuple(row) for row in inside.tolist())
        return Candidates(inside[:, :2], np.zeros(len(inside), np.int32), inside[:, 2])

    monkeypatch.setattr(detector_module, "family_of", lambda _: replace(FAMILIES["afsd"], decode=decode))
    return rows


def frames() -> NDArray[np.uint8]:
    return np.zeros((FRAMES, 12, 14, 3), np.uint8)


def camera() -> FakeReader:
    """A source without end; the test's ends all the same, after FRAMES frames."""
    reader = FakeReader((Shot(image, k / 10, 0.1) for k, image in enumerate(frames())), FakeTime())
    reader.fps, reader.endless = 10.0, True
    return reader


def table(found: Detections) -> NDArray[np.float64]:
    rows = np.array([[d.start_s, d.end_s, d.score] for d in found])
    return rows[np.lexsort(rows.T[::-1])]


def exact(found: list[Row]) -> NDArray[np.float64]:
    rows = np.array(plain_soft_nms(found, 0.5))
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("settle", [None, 0.1])
def test_a_source_with_an_end_is_exact_however_long_the_chain(found: list[Row], settle: float | None) -> None:
    detector = Detector(TinyEngine(), options=DetectorOptions(settle_seconds=settle))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = detector.run(frames(), fps=10)
    assert len(found) > 2 * WINDOWS
    np.testing.assert_allclose(table(got), exact(found), rtol=1e-9)
    assert detector.timing.settlements == 0


@pytest.mark.parametrize("settle", [None, 3.0])
def test_a_source_without_end_settles_and_says_so_once(found: list[Row], settle: float | None) -> None:
    detector = Detector(TinyEngine(), options=DetectorOptions(settle_seconds=settle))
    with pytest.warns(VideoWarning, match=rf"chain of more than {settle or 6.4:g} s") as said:
        parts = list(detector.stream(camera()))  # type: ignore[arg-type]  # a reader is a source, too
    assert len(said) == 1
    got, expected = table(Detections.concatenate(parts)), exact(found)
    np.testing.assert_allclose(got[:, :2], expected[:, :2], rtol=1e-9)
    assert np.abs(got[:, 2] - expected[:, 2]).max() > 0.01
    chain = FRAMES / 10 / ((settle or 6.4) + 0.8)  # a settlement at most every so many seconds
    assert 2 <= detector.timing.settlements <= chain
    assert f"; {detector.timing.settlements} chains settled early" in detector.timing.summary()


@pytest.mark.parametrize(("settle", "settlements"), [(None, 0), (3.0, 5)])
def test_an_iterable_is_settled_only_if_asked(found: list[Row], settle: float | None, settlements: int) -> None:
    detector = Detector(TinyEngine(), options=DetectorOptions(settle_seconds=settle))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        list(detector.stream(iter(frames()), fps=10))
    assert detector.timing.settlements == settlements


def test_a_watch_counts_settlements_and_says_so_once(found: list[Row]) -> None:
    fake = FakeTime()
    parts = [[Shot(image, k / 10, 0.1) for k, image in enumerate(frames())] for _ in range(2)]
    connections = Connections(*(FakeReader(part, fake, SourceLostError("broken")) for part in parts))
    watcher = Watcher(Detector(TinyEngine()), ["udp://camera:1"], clock=fake.clock, open_source=connections)
    (source,) = watcher._sources
    source.inbox._capacity = 10**6  # let no window be dropped, though fake sources are faster than any engine

    def stop() -> None:
        watcher.stop()
        source.stopped.wait(20)

    connections.exhausted = stop
    with pytest.warns(VideoWarning, match=r"^fake: candidates overlap in a chain of more than 6.4 s") as said:
        assert sum(isinstance(event, Detected) for event in watcher) == len(found)
    assert len(said) == 1
    (numbers,) = watcher.numbers().sources
    assert numbers.settlements == 4  # two in each part of 20 s


def test_a_bound_longer_than_the_chain_is_exact(found: list[Row]) -> None:
    detector = Detector(TinyEngine(), options=DetectorOptions(settle_seconds=100.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = Detections.concatenate(list(detector.stream(camera())))  # type: ignore[arg-type]
    np.testing.assert_allclose(table(got), exact(found), rtol=1e-9)


@pytest.mark.parametrize(
    ("value", "message"), [(0, "above 0"), (-1, "above 0"), (float("nan"), "finite"), ("4", "number")]
)
def test_bad_bounds(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"^settle_seconds: got .*{message}"):
        DetectorOptions(settle_seconds=value)
    with pytest.raises(InputError, match="waits for the whole video"):
        DetectorOptions(settle_seconds=4, nms="reference")
