"""The frame resize against Pillow, whose BICUBIC made the published frames."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from runtime.errors import InputError
from runtime.video.resize import FramePreparation, bicubic_weights, centre_crop, resize_bicubic
from runtime.video.sampling import open_frames
from tests.shared import shared

SIZES = [
    ((112, 112), (112, 112)),
    ((240, 320), (112, 112)),
    ((256, 340), (112, 112)),
    ((360, 360), (112, 112)),
    ((1080, 1920), (112, 112)),
    ((224, 224), (112, 112)),
    ((112, 320), (112, 112)),
    ((300, 112), (112, 112)),
    ((50, 70), (112, 112)),
    ((37, 300), (41, 97)),
    ((1, 1), (5, 7)),
    ((480, 854), (1, 1)),
]
MAX_SHARE = 1e-3
"""Share of values that may differ, by one level."""


def assert_as_pillow(frame: np.ndarray, size: tuple[int, int]) -> None:
    expected = np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BICUBIC))
    difference = np.abs(resize_bicubic(frame, size).astype(int) - expected)
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= MAX_SHARE * difference.size


@pytest.mark.parametrize(("size_in", "size_out"), SIZES)
def test_random_pixels_as_pillow(size_in: tuple[int, int], size_out: tuple[int, int]) -> None:
    frame = np.random.default_rng(size_in).integers(0, 256, (*size_in, 3), dtype=np.uint8)
    assert_as_pillow(frame, size_out)


def test_overshoot_is_clipped_as_pillow_does() -> None:
    stripes = np.zeros((60, 80, 3), np.uint8)
    stripes[:, ::7] = 255
    stripes[20:, 40:] ^= 255
    assert_as_pillow(stripes, (112, 112))
    assert_as_pillow(stripes, (31, 29))


@pytest.mark.parametrize("name", ["carving_ice.mp4", "drink.avi", "street.mp4", "test.avi"])
def test_real_frames_as_pillow(name: str) -> None:
    with open_frames(shared("data/videos") / name, 1.0) as frames:
        assert_as_pillow(next(frames), (112, 112))


def test_two_channels_are_resized_one_by_one() -> None:
    flow = np.random.default_rng(0).integers(0, 256, (60, 50, 2), dtype=np.uint8)
    both = resize_bicubic(flow, (30, 40))
    for channel in range(2):
        alone = resize_bicubic(np.ascontiguousarray(flow[..., channel : channel + 1]), (30, 40))
        np.testing.assert_array_equal(both[..., channel], alone[..., 0])


@pytest.mark.parametrize("size", [(240, 426), (90, 120), (1080, 1920), (112, 300), (300, 112)])
def test_a_crop_is_the_middle_of_the_whole(size: tuple[int, int]) -> None:
    """Only what the crop shows is computed, in other matrix products; a view of a larger frame is a frame, too."""
    larger = np.random.default_rng(size).integers(0, 256, (size[0] + 3, size[1] + 5, 3), dtype=np.uint8)
    frame = larger[2:-1, 4:-1]
    whole = resize_bicubic(np.ascontiguousarray(frame), (112, 112))
    for crop in ((96, 96), (111, 97), (112, 112), (1, 2)):
        expected = centre_crop(whole, crop)
        assert (FramePreparation((112, 112), crop)(frame) != expected).mean() <= MAX_SHARE


def test_a_constant_frame_stays_constant() -> None:
    assert (resize_bicubic(np.full((77, 133, 3), 201, np.uint8), (112, 112)) == 201).all()
    np.testing.assert_allclose(bicubic_weights(1920, 112).sum(axis=1), 1, atol=1e-4)


@pytest.mark.parametrize(
    ("frame", "got"),
    [
        (np.zeros((4, 4), np.uint8), r"uint8 \[4, 4\]"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), r"\[0, 4, 3\]"),
    ],
)
def test_frames_that_cannot_be_resized(frame: np.ndarray, got: str) -> None:
    with pytest.raises(InputError, match=got):
        resize_bicubic(frame, (2, 2))


@pytest.mark.parametrize(("size", "offset"), [((112, 112), 8), ((97, 97), 0), ((99, 101), 2)])
def test_centre_crop_rounds_half_to_even(size: tuple[int, int], offset: int) -> None:
    frame = np.arange(size[0] * size[1], dtype=np.uint32).astype(np.uint8).reshape(*size, 1)
    expected = frame[offset : offset + 96, round((size[1] - 96) / 2) :][:, :96]
    np.testing.assert_array_equal(centre_crop(frame, (96, 96)), expected)


def test_preparation_by_size() -> None:
    prepare = FramePreparation((112, 112), (96, 96))
    rng = np.random.default_rng(1)
    small, stored, large = (rng.integers(0, 256, (s, s, 3), dtype=np.uint8) for s in (96, 112, 150))
    assert prepare(small) is small
    np.testing.assert_array_equal(prepare(stored), stored[8:104, 8:104])
    np.testing.assert_array_equal(prepare(large), resize_bicubic(large, (112, 112))[8:104, 8:104])
