"""The window rule (AFSD, test windows) against its definition, and the buffer against the rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InputError
from runtime.inputs import make_engine_inputs
from runtime.windows import WindowBuffer, cut_windows, pad, repeat_last, window_offsets
from tests.slow import plain_offsets
from tests.tiny import tiny_spec


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, []),
        (1, [0]),
        (255, [0]),
        (256, [0]),
        (257, [0, 1]),
        (384, [0, 128]),
        (400, [0, 128, 144]),
        (640, [0, 128, 256, 384]),
        (641, [0, 128, 256, 384, 385]),
    ],
)
def test_offsets_of_the_published_protocol(n: int, expected: list[int]) -> None:
    assert window_offsets(n, 256, 128) == expected


@settings(max_examples=200, deadline=None)
@given(n=st.integers(0, 70), length=st.integers(1, 20), stride=st.integers(1, 20), cuts=st.lists(st.integers(0, 9)))
def test_buffer_gives_the_windows_of_the_rule_however_frames_are_chunked(
    n: int, length: int, stride: int, cuts: list[int]
) -> None:
    stride = min(stride, length)
    video = np.arange(1, n + 1, dtype=np.uint8).reshape(n, 1, 1, 1) * np.ones((1, 2, 3, 1), np.uint8)
    buffer = WindowBuffer(length, stride)
    windows, start = [], 0
    for size in cuts:
        windows += buffer.push(video[start : start + size])
        start += size
    for frame in video[start:]:
        windows += buffer.push(frame)
    windows += buffer.finish()

    offsets = plain_offsets(n, length, stride)
    assert window_offsets(n, length, stride) == offsets
    assert [w.offset for w in windows] == offsets
    for window in windows:
        taken = video[window.offset : window.offset + length]
        assert window.length == len(taken)
        np.testing.assert_array_equal(window.frames[: len(taken)], taken)
        assert window.frames.shape == (length, 2, 3, 1)
        assert not window.frames[len(taken) :].any()


def test_a_window_comes_with_its_last_frame_and_stays_unchanged() -> None:
    buffer = WindowBuffer(4, 2)
    frame = np.zeros((1, 1, 1), np.uint8)
    given = [len(buffer.push(frame + t)) for t in range(8)]
    assert given == [0, 0, 0, 1, 0, 1, 0, 1]
    first = WindowBuffer(2, 1)
    (window,) = first.push(np.array([1, 2], np.uint8).reshape(2, 1, 1, 1))
    first.push(np.array([3, 4], np.uint8).reshape(2, 1, 1, 1))
    assert window.frames.ravel().tolist() == [1, 2]


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 200), length=st.integers(1, 20), stride=st.integers(1, 20))
def test_windows_that_are_kept_stay_what_they_are(n: int, length: int, stride: int) -> None:
    """All windows of a video at once, each still its own frames, and none of them writable."""
    stride = min(stride, length)
    video = np.arange(1, n + 1, dtype=np.int64).reshape(n, 1)
    buffer = WindowBuffer(length, stride)
    kept = [window for step in video for window in buffer.push(step[None])] + buffer.finish()
    for window in kept:
        valid = window.frames[: window.length, 0]
        np.testing.assert_array_equal(valid, np.arange(window.offset + 1, window.offset + 1 + window.length))
        assert not window.frames[window.length :].any()
        assert window.frames.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            window.frames[0] = 0


def test_neighbouring_windows_share_memory_and_a_batch_of_one_is_a_view() -> None:
    buffer = WindowBuffer(16, 8)
    first, second = buffer.push(np.random.default_rng(0).integers(0, 256, (24, 8, 10, 3), np.uint8))
    assert np.shares_memory(first.frames, second.frames)
    inputs = make_engine_inputs([second], 1, tiny_spec())
    assert np.shares_memory(inputs["frames"], second.frames)
    np.testing.assert_array_equal(inputs["frames"], second.frames[None])
    kept = second.frames.copy()
    frames = inputs["frames"]
    del buffer, first, second, inputs
    np.testing.assert_array_equal(frames[0], kept)  # the batch keeps the memory alive


@pytest.mark.parametrize(("length", "stride"), [(0, 1), (4, 0), (4, 5)])
def test_impossible_windows(length: int, stride: int) -> None:
    with pytest.raises(InputError, match="expected 0 < stride ≤ length"):
        WindowBuffer(length, stride)


def test_frames_of_another_size_and_frames_after_the_end() -> None:
    buffer = WindowBuffer(4, 2)
    buffer.push(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(InputError, match=r"frame 1 has shape \(2, 3, 3\)"):
        buffer.push(np.zeros((2, 3, 3), np.uint8))
    buffer.finish()
    with pytest.raises(InputError, match="after finish"):
        buffer.push(np.zeros((2, 2, 3), np.uint8))


@settings(max_examples=200, deadline=None)
@given(n=st.integers(0, 70), length=st.integers(1, 20), stride=st.integers(1, 20))
def test_every_step_of_features_is_in_a_window_and_the_last_ends_with_the_video(
    n: int, length: int, stride: int
) -> None:
    stride = min(stride, length)
    features = np.arange(1, 2 * n + 1, dtype=np.float32).reshape(n, 2)
    windows = list(cut_windows(features, length, stride))
    seen = np.zeros(n, bool)
    for window in windows:
        seen[window.offset : window.offset + window.length] = True
        rows = [features[at] if at < n else (0, 0) for at in range(window.offset, window.offset + length)]
        np.testing.assert_array_equal(window.frames, rows)
        assert window.length == min(n, length)
    assert seen.all()
    assert len({window.offset for window in windows}) == len(windows)
    assert not windows or windows[-1].offset + windows[-1].length == n


def test_short_features_are_padded_with_zeros() -> None:
    features = np.ones((3, 2), np.float32)
    (window,) = cut_windows(features, 5, 5)
    assert (window.offset, window.length) == (0, 3)
    assert window.frames.tolist() == [[1, 1]] * 3 + [[0, 0]] * 2
    window.frames[:] = 7
    assert features.max() == 1
    with pytest.raises(InputError, match="windows of 4 steps every 5: expected 0 < stride ≤ length"):
        cut_windows(features, 4, 5)


@pytest.mark.parametrize("frames", [512, 516, 636, 640, 1000, 4096])
@pytest.mark.parametrize("stride", [128, 256])
def test_windows_of_steps_are_a2nets_windows_of_frames(frames: int, stride: int) -> None:
    """A2Net cuts windows of 512 frames, 128 steps of 4; it may give the last one twice, here there is one."""
    published = {k * stride for k in range(int((frames + stride - 512) / stride))} | {frames - 512}
    assert [4 * offset for offset in window_offsets(frames // 4, 128, stride // 4)] == sorted(published)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_padding_repeats_the_last_step_or_is_zero(count: int) -> None:
    steps = np.arange(1, 2 * count + 1, dtype=np.float32).reshape(count, 2)
    last = [2 * count - 1, 2 * count]
    assert repeat_last(steps, 5).tolist() == steps.tolist() + [last] * (5 - count)
    assert pad(steps, 5).tolist() == steps.tolist() + [[0, 0]] * (5 - count)
    assert repeat_last(steps, 5).dtype == pad(steps, 5).dtype == np.float32


def test_the_buffer_counts_what_it_was_given() -> None:
    buffer = WindowBuffer(4, 2)
    counts = [buffer.pushed]
    for size in (3, 0, 4):
        buffer.push(np.zeros((size, 1, 1, 3), np.uint8))
        counts.append(buffer.pushed)
    buffer.push(np.zeros((1, 1, 3), np.uint8))
    assert [*counts, buffer.pushed] == [0, 3, 3, 7, 8]
