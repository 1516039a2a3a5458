"""Selection of detections for people, whole and as a stream, against plain loops over lists."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from runtime.decoding.candidates import Candidates
from runtime.detector import Detector, DetectorOptions
from runtime.errors import InputError
from runtime.results.detections import Detections
from runtime.suppression.selection import EXCLUSIVE, Selection
from tests.tiny import CROP, TinyEngine

Row = tuple[float, float, int, float]
"""Start, end, label, score."""
CLASSES = 3


def rows_of(found: Candidates | Detections) -> list[Row]:
    """Detections as sorted rows."""
    columns = (*found.segments.T.tolist(), found.labels.tolist(), found.scores.tolist())
    return sorted(zip(*columns, strict=True))


def candidates_of(rows: list[Row]) -> Candidates:
    table = np.array(rows, np.float64).reshape(-1, 4)
    return Candidates(table[:, :2], table[:, 2].astype(np.int32), table[:, 3])


def end_of(row: Row) -> float:
    """End of a detection, of one without length a little later."""
    return max(row[1], row[0] + 1e-6)


def plain(rows: list[Row], exclusive: str, gap: float | None, shortest: float) -> list[Row]:
    """The three steps as sentences: a list of rows in, a list of rows out."""
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: -row[3]):  # stable: of equal scores the first given
        rivals = [other for other in kept if exclusive == "all" or (exclusive == "class" and other[2] == row[2])]
        if not any(row[0] < end_of(other) and other[0] < end_of(row) for other in rivals):
            kept.append(row)
    while gap is not None:
        for a, b in itertools.permutations(kept, 2):
            near = a[2] == b[2] and a[:2] <= b[:2] and b[0] - a[1] <= gap
            between = exclusive == "all" and any(a[1] <= c[0] and c[1] <= b[0] for c in kept if c not in (a, b))
            if near and not between:
                kept.remove(a)
                kept.remove(b)
                kept.append((a[0], max(a[1], b[1]), a[2], max(a[3], b[3])))
                break
        else:
            break
    return sorted(row for row in kept if row[1] - row[0] >= shortest)


def made(rng: np.random.Generator, count: int) -> list[Row]:
    """Random rows on a coarse grid, so that segments touch, have no length and scores are equal now and then."""
    starts = rng.integers(0, 4 * count, count) / 2
    ends = starts + rng.integers(0, 12, count) / 2
    labels, scores = rng.integers(0, CLASSES, count), rng.integers(1, 20, count) / 20
    return [(float(s), float(e), int(k), float(v)) for s, e, k, v in zip(starts, ends, labels, scores, strict=True)]


OPTIONS = [(exclusive, gap, shortest) for exclusive in EXCLUSIVE for gap in (None, 0.0, 1.0) for shortest in (0.0, 1.5)]


@pytest.mark.parametrize(("exclusive", "gap", "shortest"), OPTIONS)
def test_whole_and_stream_give_what_plain_loops_give(exclusive: str, gap: float | None, shortest: float) -> None:
    options = {"exclusive": exclusive, "merge_gap": gap, "min_length": shortest}
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rows = sorted(made(rng, int(rng.integers(0, 25))), key=lambda row: row[0])
        expected = plain(rows, exclusive, gap, shortest)
        whole = candidates_of(rows)
        found = Detections(whole.segments, whole.labels, whole.scores, tuple("abc")).select(**options)  # type: ignore[arg-type]
        assert rows_of(found) == expected, seed
        selection = Selection(CLASSES, **options)  # type: ignore[arg-type]
        given: list[Row] = []
        position = 0
        while position < len(rows):
            step = int(rng.integers(1, 5))
            later = rows[position + step :]
            frontier = later[0][0] if later else math.inf
            if rng.random() < 0.3 and later:
                frontier -= 0.25  # one that is known only roughly
            given += rows_of(selection.push(candidates_of(rows[position : position + step]), frontier))
            position += step
        given += rows_of(selection.push(Candidates.empty(), math.inf))
        assert sorted(given) == expected, seed
        assert selection.settlements == 0


def test_what_a_winner_displaces_displaces_nothing() -> None:
    chain = [(0.0, 2.0, 0, 0.5), (1.0, 4.0, 0, 0.9), (3.0, 6.0, 0, 0.8), (5.0, 7.0, 0, 0.7)]
    found = Selection(1, exclusive="class").push(candidates_of(chain), math.inf)
    assert rows_of(found) == [chain[1], chain[3]]


def test_in_a_source_without_end_nothing_waits_longer_than_the_horizon() -> None:
    selection = Selection(1, merge_gap=1.0, horizon=10.0)
    given: list[Row] = []
    for second in range(100):
        given += rows_of(selection.push(candidates_of([(second, second + 0.5, 0, 0.5)]), second + 1.0))
        assert second + 1.0 - max([0.0, *(row[1] for row in given)]) <= 10.0 + 1.0
    assert selection.settlements == 9
    assert rows_of(selection.push(Candidates.empty(), math.inf))
    chain = Selection(1, exclusive="class", horizon=5.0)  # ever better, each overlaps the next
    given = []
    for second in range(60):
        given += rows_of(chain.push(candidates_of([(second, second + 1.5, 0, 0.1 + second / 100)]), second + 1.0))
    assert len(given) >= 20
    assert chain.settlements > 0
    for a, b in itertools.pairwise(sorted(given)):
        assert a[1] <= b[0]


@pytest.mark.parametrize("exclusive", EXCLUSIVE)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_detector_streams_what_selecting_in_its_whole_result_gives(exclusive: str, batch: int) -> None:
    frames = np.random.default_rng(4).integers(0, 256, (300, *CROP, 3), dtype=np.uint8)
    everything = Detector(TinyEngine(), options=DetectorOptions(min_score=0.2)).run(frames)
    options = DetectorOptions(
        batch_size=batch,
        min_score=0.2,
        exclusive=exclusive,
        merge_gap=0.3,
        min_length=0.4,  # type: ignore[arg-type]
    )
    parts = list(Detector(TinyEngine(), options=options).stream(frames))
    expected = everything.select(exclusive=exclusive, merge_gap=0.3, min_length=0.4)  # type: ignore[arg-type]
    assert rows_of(Detections.concatenate(parts)) == rows_of(expected)
    assert 0 < len(expected) < len(everything)
    assert len(parts) > 1  # some were given before the end


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exclusive": "both"}, "exclusive: got 'both', expected one of none, class, all"),
        ({"merge_gap": -1.0}, "merge_gap: got -1.0, expected 0 … 1e.09 seconds"),
        ({"min_length": math.nan}, "min_length: got nan, expected a finite number, 0 … 1e.09 seconds"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        Selection(2, **options)  # type: ignore[arg-type]
