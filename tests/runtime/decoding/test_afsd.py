"""Decoding of AFSD's raw outputs against a plain loop over locations and classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.decoding.afsd import AFSD_OUTPUTS, decode_afsd, level_priors
from runtime.decoding.candidates import Candidates, sigmoid, softmax
from runtime.errors import EngineError, InputError
from runtime.spec.decoding_constants import Decoding
from runtime.spec.model import ModelSpec
from tests.slow import plain_scores, plain_segments
from tests.tiny import tiny_spec

LEVELS = (64, 32, 16, 8, 4, 2)
"""THUMOS14's levels, 126 locations."""


def thumos_spec(classes: int = 20) -> ModelSpec:
    return tiny_spec(
        classes=tuple(f"c{i}" for i in range(classes)),
        window_length=256,
        window_stride=128,
        level_lengths=LEVELS,
    )


def random_outputs(spec: ModelSpec, batch: int = 2, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    shape, classes = (batch, spec.num_locations), len(spec.classes) + 1
    outputs = {
        "loc": rng.exponential(30, (*shape, 2)),
        "conf": rng.normal(0, 3, (*shape, classes)),
        "prop_loc": rng.normal(0, 0.8, (*shape, 2)),
        "prop_conf": rng.normal(0, 3, (*shape, classes)),
        "center": rng.normal(0, 2, (*shape, 1)),
    }
    return {name: array.astype(np.float32) for name, array in outputs.items()}


def plain_decode(
    outputs: dict[str, NDArray[np.float32]], index: int, offset: int, spec: ModelSpec, threshold: float, keep: bool
) -> list[tuple[int, float, float, float]]:
    """The published test script's arithmetic, one number at a time: (class, start, end, score)."""
    one = {name: outputs[name][index : index + 1] for name in AFSD_OUTPUTS}
    segments = plain_segments(one, spec.level_lengths, spec.window_length)
    return [
        (k, (start + offset) / spec.sample_fps, (end + offset) / spec.sample_fps, score)
        for k in range(len(spec.classes))
        for (start, end, _), score in zip(segments, plain_scores(one, k + 1), strict=True)
        if score > threshold and (keep or end > start)
    ]


@pytest.mark.parametrize("keep_empty", [False, True])
@pytest.mark.parametrize(("index", "offset"), [(0, 0), (1, 128), (1, 10_000_000)])
def test_matches_plain_loop(index: int, offset: int, keep_empty: bool) -> None:
    spec = thumos_spec()
    outputs = random_outputs(spec, seed=offset % 7)
    expected = plain_decode(outputs, index, offset, spec, 0.01, keep_empty)
    got = decode_afsd(outputs, index, offset, spec, keep_empty=keep_empty)
    assert got.labels.tolist() == [row[0] for row in expected]
    np.testing.assert_allclose(got.segments, [row[1:3] for row in expected], rtol=0, atol=2e-5)
    np.testing.assert_allclose(got.scores, [row[3] for row in expected], rtol=2e-5)
    inverted = got.segments[:, 1] <= got.segments[:, 0]
    assert inverted.any() == keep_empty


def test_empty_segments_are_left_out_by_default() -> None:
    spec = thumos_spec()
    found = decode_afsd(random_outputs(spec), 0, 0, spec)
    assert len(found) == len(plain_decode(random_outputs(spec), 0, 0, spec, 0.01, keep=False))


def test_nothing_above_the_threshold() -> None:
    spec = thumos_spec()
    got = decode_afsd(random_outputs(spec), 0, 0, spec, score_threshold=1.0)
    assert len(got) == 0
    assert got.segments.shape == (0, 2)


def test_threshold_is_strict() -> None:
    spec = thumos_spec(1)
    outputs = random_outputs(spec)
    for name in ("conf", "prop_conf", "center", "prop_loc"):
        outputs[name][:] = 0  # each score is (1/2 + 1/2)/2 · 1/2
    assert len(decode_afsd(outputs, 0, 0, spec, score_threshold=0.25)) == 0
    assert len(decode_afsd(outputs, 0, 0, spec, score_threshold=0.2499)) == spec.num_locations


def test_without_a_quality_head_scores_are_class_probabilities() -> None:
    spec = replace(thumos_spec(), decoding=Decoding(quality=False))
    outputs = random_outputs(spec)
    certain = {**outputs, "center": np.full_like(outputs["center"], 100)}  # a sigmoid of 1
    found, want = decode_afsd(outputs, 0, 0, spec), decode_afsd(certain, 0, 0, thumos_spec())
    assert len(want) > len(decode_afsd(outputs, 0, 0, thumos_spec()))
    np.testing.assert_array_equal(found.scores, want.scores)
    np.testing.assert_array_equal(found.segments, want.segments)


def test_level_priors() -> None:
    np.testing.assert_allclose(level_priors((4, 2)), [0.125, 0.375, 0.625, 0.875, 0.25, 0.75])


def test_infinite_distance_is_clamped_to_the_window() -> None:
    spec = thumos_spec(1)
    outputs = random_outputs(spec)
    outputs["loc"][:], outputs["prop_loc"][:] = np.inf, 1
    got = decode_afsd(outputs, 0, 0, spec, score_threshold=0.0)
    assert len(got) == spec.num_locations
    assert np.unique(got.segments, axis=0).tolist() == [[0.0, 25.6]]


@pytest.mark.parametrize("name", AFSD_OUTPUTS)
def test_nan_is_an_error(name: str) -> None:
    spec = thumos_spec()
    outputs = random_outputs(spec)
    outputs[name][1, 3, 0] = np.nan
    decode_afsd(outputs, 0, 0, spec)
    with pytest.raises(EngineError, match=r"NaN in the window at 12\.8 s"):
        decode_afsd(outputs, 1, 128, spec)


@pytest.mark.parametrize("name", AFSD_OUTPUTS)
def test_wrong_outputs(name: str) -> None:
    spec = thumos_spec()
    outputs = random_outputs(spec)
    with pytest.raises(InputError, match=name):
        decode_afsd({**outputs, name: outputs[name][:, :-1]}, 0, 0, spec)
    with pytest.raises(InputError, match=name):
        decode_afsd({key: value for key, value in outputs.items() if key != name}, 0, 0, spec)
    for index in (-1, 2):
        with pytest.raises(InputError, match="loc"):
            decode_afsd(outputs, index, 0, spec)


def test_sigmoid_has_no_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        assert sigmoid(np.array([-200, 0, 200], np.float32)).tolist() == [0.0, 0.5, 1.0]


def test_softmax_has_no_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        assert softmax(np.array([[200, 200], [300, -300], [-300, -300]], np.float32)).tolist() == [
            [0.5, 0.5], [1.0, 0.0], [0.5, 0.5],
        ]  # fmt: skip


def test_concatenate_candidates() -> None:
    assert len(Candidates.concatenate([])) == 0
    spec = thumos_spec()
    a, b = (decode_afsd(random_outputs(spec), i, 128 * i, spec) for i in range(2))
    both = Candidates.concatenate([a, Candidates.empty(), b])
    assert both.scores.tolist() == a.scores.tolist() + b.scores.tolist()
    assert both.labels.dtype == np.int32
