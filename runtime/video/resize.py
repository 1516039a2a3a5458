"""Resize frames to the network's size by antialiased bicubic, as the published frames were made, then crop.

The arithmetic is that of Pillow's BICUBIC: the kernel (a = −1/2) is stretched by the downscale factor, rows are
resampled first and rounded to uint8, then columns. Pillow's weights are multiples of 2⁻²²; this module holds the same
numbers in float32, so at most a few values in 100,000 differ, by one level.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError

CUBIC_A = -0.5
"""Shape parameter a of the cubic convolution kernel."""
CUBIC_SUPPORT = 2.0
"""Half-width of the kernel in pixels of the coarser grid."""
WEIGHT_BITS = 22
"""Number of fractional bits of a weight: weights are multiples of 2^−22, as in 8-bit fixed-point resampling."""
MAX_STRIP_ROWS = 256
"""Rows of a channel converted to float32 at once; at 1080p `MAX_PRODUCT` allows fewer, which stay in the cache."""
MAX_PRODUCT = 2**18
"""Multiply-adds of one matrix product. OpenBLAS does up to this many in the calling thread; more threads would compete
with the engine's."""
OUTPUTS_PER_BAND = 16
"""Neighbouring outputs that share one matrix product: fewer products cost more in calls than they save in zeros."""

Size = tuple[int, int]
"""Size of a frame: (height, width) in pixels."""


@dataclass(frozen=True)
class _Band:
    """Holds the weights by which outputs first … last − 1 are sums of inputs low … high − 1."""

    first: int
    last: int
    low: int
    high: int
    weights: NDArray[np.float32]
    """Weights [high − low, last − first]."""


@dataclass(frozen=True)
class _Axis:
    """Holds the resampling of one axis, as far as its outputs are wanted."""

    low: int
    """First input that is used."""
    high: int
    """One past the last input that is used."""
    outputs: int
    """Number of outputs."""
    bands: tuple[_Band, ...]
    """Dense blocks of the resampling matrix along its diagonal; inputs count from `low`."""


def bicubic_weights(size_in: int, size_out: int) -> NDArray[np.float32]:
    """Return the resampling matrix [size_out, size_in] of one axis; each row sums to 1 within 2⁻²² per weight."""
    scale = size_in / size_out
    stretch = max(scale, 1.0)
    centres = (np.arange(size_out) + 0.5) * scale
    low = np.maximum((centres - CUBIC_SUPPORT * stretch + 0.5).astype(np.int64), 0)
    high = np.minimum((centres + CUBIC_SUPPORT * stretch + 0.5).astype(np.int64), size_in)
    pixels = np.arange(size_in)
    inside = (pixels >= low[:, None]) & (pixels < high[:, None])
    weights = np.where(inside, _cubic((pixels + 0.5 - centres[:, None]) / stretch), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    unit = 2.0**WEIGHT_BITS
    rounded: NDArray[np.float32] = (np.copysign(np.floor(np.abs(weights) * unit + 0.5), weights) / unit).astype(
        np.float32
    )
    return rounded


def resize_bicubic(frame: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Resample a frame [H,W,C] uint8 0–255 to [size[0],size[1],C]; the aspect ratio is not kept.

    Raises:
        InputError: not a uint8 array of three dimensions, or an empty one.
    """
    _require_frame(frame)
    return _resample(frame, size, size)


def centre_crop(frames: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Return the centre of [...,H,W,C] in `size`, as a view; offsets are round((H − height)/2), half to even."""
    top, left = _margin(frames.shape[-3], size[0]), _margin(frames.shape[-2], size[1])
    return frames[..., top : top + size[0], left : left + size[1], :]


@dataclass(frozen=True)
class FramePreparation:
    """Resizes and crops a decoded frame to what the network sees; called once for every kept frame."""

    frame_size: Size
    """Size to which a frame is resampled."""
    crop_size: Size
    """Size of the centre crop of the resampled frame."""

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a frame [H,W,C] uint8 as [crop height, crop width, C] uint8.

        A frame that already has `frame_size` is only cropped; a frame of `crop_size` is returned as it is.
        """
        size = frame.shape[:2]
        if size == self.crop_size:
            return frame
        if size == self.frame_size:
            return centre_crop(frame, self.crop_size)
        _require_frame(frame)
        return _resample(frame, self.frame_size, self.crop_size)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate the cubic convolution kernel (Keys, 1981) at distance x."""
    a, d = CUBIC_A, np.abs(x)
    near = ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    far = (((d - 5.0) * d + 8.0) * d - 4.0) * a
    return np.where(d < 1.0, near, np.where(d < 2.0, far, 0.0))


def _require_frame(frame: NDArray[np.uint8]) -> None:
    if frame.ndim != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        raise InputError(f"frame: got {frame.dtype} {list(frame.shape)}, expected uint8 [H,W,C] with values 0–255")


def _margin(size: int, wanted: int) -> int:
    """Return the offset of a centre crop along one axis."""
    return round((size - wanted) / 2)


@lru_cache(maxsize=16)
def _axis(size_in: int, size_out: int, wanted: int) -> _Axis:
    """Return the resampling of one axis to `size_out`, of which the `wanted` ones in the centre are computed."""
    start = _margin(size_out, wanted)
    matrix = bicubic_weights(size_in, size_out)[start : start + wanted]
    used = np.flatnonzero(matrix.any(axis=0))
    lowest, highest = int(used[0]), int(used[-1]) + 1
    bands = []
    for first in range(0, wanted, OUTPUTS_PER_BAND):
        last = min(first + OUTPUTS_PER_BAND, wanted)
        used = np.flatnonzero(matrix[first:last].any(axis=0))
        low, high = int(used[0]), int(used[-1]) + 1
        weights = np.ascontiguousarray(matrix[first:last, low:high].T)
        bands.append(_Band(first, last, low - lowest, high - lowest, weights))
    return _Axis(lowest, highest, wanted, tuple(bands))


def _resample(frame: NDArray[np.uint8], size: Size, crop: Size) -> NDArray[np.uint8]:
    """Return the centre `crop` of a frame [H,W,C] resampled to `size`; what the crop does not show is not computed."""
    down, across = _axis(frame.shape[0], size[0], crop[0]), _axis(frame.shape[1], size[1], crop[1])
    used = frame[down.low : down.high]
    if frame.shape[1] == size[1]:
        rows = np.ascontiguousarray(centre_crop(used, (len(used), crop[1])).transpose(0, 2, 1))
    else:
        rows = _to_levels(_resample_rows(used[:, across.low : across.high], across)).astype(np.uint8)
    if frame.shape[0] != size[0]:
        rows = _resample_columns(rows, down)
    return np.ascontiguousarray(rows.transpose(0, 2, 1))


def _resample_rows(frame: NDArray[np.uint8], across: _Axis) -> NDArray[np.float32]:
    """Resample [H,W,C] uint8 horizontally to [H,C,outputs] float32, a few rows of one channel at a time."""
    import cv2

    height, width, channels = frame.shape
    out = np.empty((height, channels, across.outputs), np.float32)
    strip = min(max(MAX_PRODUCT // max(band.weights.size for band in across.bands), 1), MAX_STRIP_ROWS, height)
    planes = [np.empty((strip, width), np.uint8) for _ in range(channels)]
    buffer = np.empty((strip, width), np.float32)
    for top in range(0, height, strip):
        taken = frame[top : top + strip]
        rows = len(taken)
        split = cv2.split(taken, [plane[:rows] for plane in planes])
        for channel in range(channels):
            np.copyto(buffer[:rows], split[channel])
            for band in across.bands:
                summed = out[top : top + rows, channel, band.first : band.last]
                np.matmul(buffer[:rows, band.low : band.high], band.weights, out=summed)
    return out


def _resample_columns(rows: NDArray[np.uint8], down: _Axis) -> NDArray[np.uint8]:
    """Resample [H,C,W] uint8 vertically to [outputs,C,W] uint8."""
    values = rows.reshape(len(rows), -1).astype(np.float32)
    summed = np.empty((down.outputs, values.shape[1]), np.float32)
    for band in down.bands:
        np.matmul(band.weights.T, values[band.low : band.high], out=summed[band.first : band.last])
    return _to_levels(summed).astype(np.uint8).reshape(down.outputs, *rows.shape[1:])


def _to_levels(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add a half and clip to 0–255, in place, so that the conversion to uint8, which cuts, rounds half up."""
    values += np.float32(0.5)
    return np.clip(values, 0, 255, out=values)
