"""Soft-NMS: the published arithmetic, and the stream against the whole set."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.decoding.candidates import Candidates
from runtime.errors import InputError
from runtime.segments import tiou
from runtime.suppression.nms import Gaussian, Hard, soft_nms, soft_nms_reference
from runtime.suppression.nms_stream import NmsStream

GOLDEN = Path(__file__).parents[2] / "golden" / "soft_nms.npz"
FOREVER = 1e9
FLOOR = 0.001

Row = tuple[float, float, float]
"""start, end, score"""


def plain_tiou(a: Row, b: Row) -> float:
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / (a[1] - a[0] + b[1] - b[0] - shared) if shared else 0.0


def plain_soft_nms(rows: list[Row], sigma: float, top_k: int = 10**9, keep_last: bool = True) -> list[Row]:
    """Soft-NMS one number at a time; the result in the order of the input."""
    left = {i: row[2] for i, row in enumerate(rows) if row[2] >= FLOOR}
    done: dict[int, float] = {}
    while len(left) > (0 if keep_last else 1) and len(done) < top_k:
        best = max(left, key=lambda i: (left[i], -i))
        done[best] = left.pop(best)
        for i in list(left):
            left[i] *= math.exp(-(plain_tiou(rows[best], rows[i]) ** 2) / sigma)
            if left[i] < FLOOR:
                del left[i]
    return [(*rows[i][:2], done[i]) for i in sorted(done)]


def random_rows(count: int, span: float, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, span, count)
    return np.column_stack([start, start + rng.exponential(4, count) + 0.01, rng.uniform(0, 1, count)])


@pytest.mark.parametrize("case", range(7))
def test_reference_golden(case: int) -> None:
    golden = np.load(GOLDEN)
    sigma, top_k = golden[f"case{case}_sigma_topk"]
    got = soft_nms_reference(golden[f"case{case}_input"], float(sigma), int(top_k))
    expected = golden[f"case{case}_output"]
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got[:, :2], expected[:, :2])
    np.testing.assert_allclose(got[:, 2], expected[:, 2], rtol=0, atol=1e-6)


def test_the_reference_loses_the_last_candidate() -> None:
    rows = np.array([[0, 10, 0.9], [1, 11, 0.8], [30, 40, 0.7]])
    np.testing.assert_allclose(soft_nms_reference(rows, 0.5, 5000), rows[[0, 2]], rtol=1e-6)
    kept, scores = soft_nms(rows[:, :2], rows[:, 2], 0.5)
    assert kept.tolist() == [0, 1, 2]
    np.testing.assert_allclose(scores, [0.9, 0.8 * math.exp(-((9 / 11) ** 2) / 0.5), 0.7])


@pytest.mark.parametrize("count", [0, 1, 2, 60])
@pytest.mark.parametrize(("top_k", "keep_last"), [(None, True), (None, False), (7, True)])
def test_whole_set_matches_plain_loop(count: int, top_k: int | None, keep_last: bool) -> None:
    rows = random_rows(count, 20, seed=count)
    before = rows.copy()
    kept, scores = soft_nms(rows[:, :2], rows[:, 2], 0.4, FLOOR, top_k, keep_last)
    expected = plain_soft_nms([tuple(row) for row in rows.tolist()], 0.4, top_k or 10**9, keep_last)
    np.testing.assert_allclose(np.column_stack([rows[kept, :2], scores]), np.reshape(expected, (-1, 3)), rtol=1e-12)
    np.testing.assert_array_equal(rows, before)


def candidates_of(rows: list[Row], labels: list[int] | None = None) -> Candidates:
    array = np.array(rows, np.float64).reshape(-1, 3)
    return Candidates(array[:, :2], np.array(labels or [0] * len(array), np.int32), array[:, 2])


def kept_rows(rows: list[Row], floor: float, streamed: bool) -> list[Row]:
    """What soft-NMS with σ = 1/2 keeps, at once or on a stream."""
    array = np.array(rows, np.float64)
    if not streamed:
        kept, scores = soft_nms(array[:, :2], array[:, 2], 0.5, floor)
        return [(*rows[i][:2], score) for i, score in zip(kept.tolist(), scores.tolist(), strict=True)]
    stream = NmsStream(1, Gaussian(0.5), floor, FOREVER)
    parts = [stream.push(candidates_of(rows), 0.0), stream.finish()]
    found = Candidates.concatenate(parts)
    return [(*segment, score) for segment, score in zip(found.segments.tolist(), found.scores.tolist(), strict=True)]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_score_at_the_floor_is_kept_and_one_below_is_not(streamed: bool) -> None:
    """At first and decayed: two equal segments overlap fully, which leaves exp(−1/σ) of the lower score."""
    low = np.nextafter(0.25, 0)
    assert kept_rows([(0, 1, 0.25), (5, 6, 0.5), (9, 10, low)], 0.25, streamed) == [(0, 1, 0.25), (5, 6, 0.5)]
    decayed = 0.75 * float(np.exp(-2.0))
    pair: list[Row] = [(0, 1, 0.9), (0, 1, 0.75)]
    assert kept_rows(pair, decayed, streamed) == [(0, 1, 0.9), (0, 1, decayed)]
    assert kept_rows(pair, float(np.nextafter(decayed, 1)), streamed) == [(0, 1, 0.9)]
    assert kept_rows([(0, 1, 0.5), (3, 4, 0.0), (6, 7, 0.0)], 0.0, streamed) == [(0, 1, 0.5), (3, 4, 0), (6, 7, 0)]
    many: list[Row] = [(2 * k, 2 * k + 1, 0.5 if k < 5 else 0.0) for k in range(8)]
    assert kept_rows(many, 0.0, streamed) == many


@pytest.mark.parametrize("streamed", [False, True])
def test_the_taken_segment_counts_as_long_as_1e_5_at_least(streamed: bool) -> None:
    """E2: iou = inter / (max(len_top, 1e-5) + len − inter)."""
    rows: list[Row] = [(0, 1e-6, 0.9), (0, 2e-6, 0.8)]
    (_, (*_, score)) = kept_rows(rows, FLOOR, streamed)
    assert score == pytest.approx(0.8 * math.exp(-((1e-6 / (1e-5 + 2e-6 - 1e-6)) ** 2) / 0.5), rel=1e-9)


def test_tiou_of_empty_and_inverted_segments() -> None:
    a = np.array([[0.0, 10], [5, 5], [8, 2]])
    got = tiou(a[:, None], a)
    np.testing.assert_allclose(got, [[1, 0, 0], [0, 0, 0], [0, 0, 0]], atol=1e-12)


# The stream: windows of `LENGTH` seconds every `STRIDE`, as the detector pushes them

LENGTH, STRIDE = 8.0, 4.0


def window(number: int, count: int, classes: int, rng: np.random.Generator) -> Candidates:
    """Random candidates of one window; many scores are equal, some are below the floor."""
    centre, half = rng.uniform(0, LENGTH, count), rng.exponential(rng.choice([0.3, 1.5], count)) + 0.01
    segments = np.clip(np.column_stack([centre - half, centre + half]), 0, LENGTH) + number * STRIDE
    scores = np.round(rng.uniform(0, 1, count), 2) * rng.choice([1, 0.01], count)
    return Candidates(segments, rng.integers(0, classes, count).astype(np.int32), scores)


def streamed(windows: list[Candidates], classes: int, sigma: float, horizon: float = FOREVER) -> Candidates:
    stream = NmsStream(classes, Gaussian(sigma), FLOOR, horizon)
    parts = [stream.push(candidates, (n + 1) * STRIDE) for n, candidates in enumerate(windows)]
    return Candidates.concatenate([*parts, stream.finish()])


def whole(windows: list[Candidates], classes: int, sigma: float) -> Candidates:
    everything = Candidates.concatenate(windows)
    parts = []
    for label in range(classes):
        mine = everything.take(everything.labels == label)
        kept, scores = soft_nms(mine.segments, mine.scores, sigma, FLOOR)
        parts.append(Candidates(mine.segments[kept], mine.labels[kept], scores))
    return Candidates.concatenate(parts)


def table(candidates: Candidates) -> NDArray[np.float64]:
    rows = np.column_stack([candidates.labels, candidates.segments, candidates.scores])
    return rows[np.lexsort(rows.T[::-1])]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.lists(st.integers(0, 25), min_size=0, max_size=8),
    classes=st.integers(1, 3),
    sigma=st.sampled_from([0.1, 0.5, 0.85]),
)
def test_stream_equals_whole_set(seed: int, counts: list[int], classes: int, sigma: float) -> None:
    rng = np.random.default_rng(seed)
    windows = [window(n, count, classes, rng) for n, count in enumerate(counts)]
    np.testing.assert_allclose(
        table(streamed(windows, classes, sigma)), table(whole(windows, classes, sigma)), rtol=1e-9
    )


def test_long_stream_equals_whole_set() -> None:
    rng = np.random.default_rng(3)
    windows = [window(n, 60, 2, rng) for n in range(40)]
    np.testing.assert_allclose(table(streamed(windows, 2, 0.5)), table(whole(windows, 2, 0.5)), rtol=1e-9)


def test_given_out_as_soon_as_final_and_only_then() -> None:
    stream = NmsStream(1, Gaussian(0.5), FLOOR, FOREVER)

    def push(rows: list[Row], frontier: float) -> list[Row]:
        array = np.array(rows, np.float64).reshape(-1, 3)
        given = stream.push(Candidates(array[:, :2], np.zeros(len(array), np.int32), array[:, 2]), frontier)
        return [
            (*segment, score) for segment, score in zip(given.segments.tolist(), given.scores.tolist(), strict=True)
        ]

    assert push([(0, 2, 0.5), (1, 5, 0.9), (1, 4, 0.3)], 3) == []  # (0, 2) waits for (1, 5), which is open
    assert push([(3, 7, 0.95)], 5) == []  # (1, 5) is closed and waits for (3, 7)
    final = push([], 7)
    assert [row[0] for row in final] == [0, 1, 1, 3]
    assert final[3] == (3, 7, 0.95)
    assert final[1][2] == pytest.approx(0.9 * math.exp(-((2 / 6) ** 2) / 0.5))
    assert len(stream) == 0


def test_order_within_a_push() -> None:
    rng = np.random.default_rng(5)
    stream = NmsStream(3, Gaussian(0.5), FLOOR, FOREVER)
    for n in range(6):
        given = stream.push(window(n, 40, 3, rng), (n + 1) * STRIDE)
        order = np.lexsort((given.segments[:, 0], given.labels))
        assert order.tolist() == list(range(len(given)))


@pytest.mark.parametrize("horizon", [0.0, 10.0, 40.0])
def test_memory_is_bounded_under_ever_higher_overlapping_scores(horizon: float) -> None:
    """Each candidate overlaps the next, whose score is higher: nothing is ever the best of its neighbours."""
    stream = NmsStream(1, Gaussian(0.5), FLOOR, horizon)
    most, given = 0, 0
    for n in range(2000):
        chain = Candidates(np.array([[n, n + 1.5]]), np.zeros(1, np.int32), np.array([0.1 + n * 1e-4]))
        final = stream.push(chain, n + 1.0)
        given += len(final)
        most = max(most, len(stream))
        assert np.all(final.segments[:, 1] <= n + 1.0)
    assert most <= horizon + 4
    assert given + len(stream.finish()) == 2000


def test_forced_settling_is_soft_nms_of_what_is_closed() -> None:
    rows = np.column_stack([np.arange(200.0), np.arange(200) + 1.5, 0.1 + np.arange(200) * 1e-3])
    stream = NmsStream(1, Gaussian(0.5), FLOOR, 50.0)
    for row in rows:
        frontier = row[0] + 1
        given = stream.push(Candidates(row[None, :2], np.zeros(1, np.int32), row[2:]), frontier)
        if len(given):
            break
    closed = rows[rows[:, 1] <= frontier]
    assert frontier - rows[0, 1] > 50
    _, scores = soft_nms(closed[:, :2], closed[:, 2], 0.5)
    np.testing.assert_array_equal(given.segments, closed[:, :2])
    np.testing.assert_allclose(given.scores, scores, rtol=1e-12)


def test_settlements_are_counted_and_forgotten_at_the_end() -> None:
    """A chain of ever higher scores, one a second; it is settled each time its first has waited 5 seconds."""
    stream = NmsStream(1, Gaussian(0.5), FLOOR, 5.0)
    counts, settled = [], 0
    for n in range(40):
        given = stream.push(candidates_of([(n, n + 1.5, 0.1 + n * 1e-3)]), n + 1.0)
        settled += len(given) > 0
        counts.append(stream.settlements)
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == settled > 3
    stream.finish()
    assert stream.settlements == 0
    endless = NmsStream(1, Gaussian(0.5), FLOOR, np.inf)
    for n in range(40):
        assert len(endless.push(candidates_of([(n, n + 1.5, 0.1 + n * 1e-3)]), n + 1.0)) == 0
    assert (endless.settlements, len(endless), len(endless.finish())) == (0, 40, 40)


def test_the_number_of_waiting_candidates() -> None:
    stream = NmsStream(2, Gaussian(0.5), 0.0, FOREVER)
    assert len(stream.push(candidates_of([(0, 1, 0.5), (4, 6, 0.5), (4, 7, 0.0)]), 2.0)) == 1
    assert len(stream) == 2
    stream.push(candidates_of([(4, 5, 0.4)], [1]), 2.0)  # the frontier may stay where it is
    assert len(stream) == 3


def test_finish_starts_afresh() -> None:
    rng = np.random.default_rng(1)
    windows = [window(n, 20, 2, rng) for n in range(3)]
    stream = NmsStream(2, Gaussian(0.5), FLOOR, FOREVER)
    results = []
    for _ in range(2):
        parts = [stream.push(candidates, (n + 1) * STRIDE) for n, candidates in enumerate(windows)]
        results.append(table(Candidates.concatenate([*parts, stream.finish()])))
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize(
    ("segment", "label", "score", "frontier", "message"),
    [
        ([6, 8], 2, 0.5, 6, "labels lie in 2..2, expected 0..1"),
        ([6, 8], 0, np.nan, 6, "NaN"),
        ([6, 8], 0, 0.5, 3, "never to decrease"),
        ([1, 8], 0, 0.5, 6, "starts at 1.0 s, before the frontier 5.0 s"),
    ],
)
def test_bad_pushes(segment: list[float], label: int, score: float, frontier: float, message: str) -> None:
    stream = NmsStream(2, Gaussian(0.5), FLOOR, 10.0)
    stream.push(Candidates.empty(), 5.0)
    bad = Candidates(np.array([segment], np.float64), np.array([label], np.int32), np.array([score]))
    with pytest.raises(InputError, match=message):
        stream.push(bad, frontier)


@pytest.mark.parametrize("early", [-1e-6, -0.9e-6, 0.0])
def test_rounding_may_put_a_start_before_the_frontier(early: float) -> None:
    stream = NmsStream(1, Gaussian(0.5), FLOOR, 10.0)
    stream.push(Candidates.empty(), 5.0)
    stream.push(candidates_of([(5.0 + early, 7, 0.5), (8, 9, 0.5)]), 6.0)
    with pytest.raises(InputError, match="before the frontier"):
        stream.push(candidates_of([(6 - 1.1e-6, 7, 0.5), (8, 9, 0.5)]), 7.0)


@pytest.mark.parametrize("labels", [[-1, 1], [1, -1], [0, 2], [2, 0]])
def test_one_label_out_of_range_among_others(labels: list[int]) -> None:
    stream = NmsStream(2, Gaussian(0.5), FLOOR, 10.0)
    with pytest.raises(InputError, match=rf"labels lie in {min(labels)}\.\.{max(labels)}, expected 0\.\.1"):
        stream.push(candidates_of([(0, 1, 0.5), (0, 1, 0.5)], labels), 1.0)


def test_bad_arguments() -> None:
    for below in (-0.5, -1e-9, math.nan):
        with pytest.raises(InputError, match="horizon"):
            NmsStream(1, Gaussian(0.5), FLOOR, below)
        with pytest.raises(InputError, match=r"threshold: got .*, expected"):
            Hard(below)
    with pytest.raises(InputError, match="sigma: got 0, expected above 0"):
        soft_nms(np.zeros((1, 2)), np.ones(1), 0)
    with pytest.raises(InputError, match=r"expected \[N,2\] and \[N\]"):
        soft_nms(np.zeros((1, 3)), np.ones(1), 0.5)
    with pytest.raises(InputError, match="num_classes: got 0, expected 1 …"):
        NmsStream(0, Gaussian(0.5), FLOOR, 1)
