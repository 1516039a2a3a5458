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
MAX_STRIP_ROWS = 64
"""Rows converted to float32 at once; a strip of a 1080p frame (1.5 MB) stays in the cache."""
MAX_PRODUCT = 2**18
"""Multiply-adds of one matrix product. OpenBLAS does up to this many in the calling thread; more threads would compete
with the engine's."""
OUTPUTS_PER_BAND = 4
"""Neighbouring outputs that share one small matrix product (measured best for 1080p → 112×112)."""

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
    if frame.ndim != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        raise InputError(f"frame: got {frame.dtype} {list(frame.shape)}, expected uint8 [H,W,C] with values 0–255")
    height, width, channels = frame.shape
    rows = frame.reshape(height, width * channels)
    if width != size[1]:
        rows = _resample_rows(rows, _bands(width, size[1], channels), size[1] * channels)
    if height != size[0]:
        rows = _resample_columns(rows, _bands(height, size[0], 1), size[0])
    return rows.reshape(size[0], size[1], channels)


def centre_crop(frames: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Return the centre of [...,H,W,C] in `size`, as a view; offsets are round((H − height)/2), half to even."""
    top = round((frames.shape[-3] - size[0]) / 2)
    left = round((frames.shape[-2] - size[1]) / 2)
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
        return centre_crop(frame if size == self.frame_size else resize_bicubic(frame, self.frame_size), self.crop_size)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate the cubic convolution kernel (Keys, 1981) at distance x."""
    a, d = CUBIC_A, np.abs(x)
    near = ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    far = (((d - 5.0) * d + 8.0) * d - 4.0) * a
    return np.where(d < 1.0, near, np.where(d < 2.0, far, 0.0))


@lru_cache(maxsize=16)
def _bands(size_in: int, size_out: int, channels: int) -> tuple[_Band, ...]:
    """Split the resampling matrix into dense blocks along its diagonal, for `channels` interleaved values per pixel."""
    matrix = bicubic_weights(size_in, size_out)
    bands = []
    for first in range(0, size_out, OUTPUTS_PER_BAND):
        last = min(first + OUTPUTS_PER_BAND, size_out)
        used = np.flatnonzero(matrix[first:last].any(axis=0))
        low, high = int(used[0]), int(used[-1]) + 1
        weights = np.kron(matrix[first:last, low:high].T, np.eye(channels, dtype=np.float32))
        c = channels
        bands.append(_Band(first * c, last * c, low * c, high * c, weights))
    return tuple(bands)


def _resample_rows(rows: NDArray[np.uint8], bands: tuple[_Band, ...], width_out: int) -> NDArray[np.uint8]:
    """Resample [H, W·C] uint8 horizontally to [H, width_out] uint8."""
    out = np.empty((len(rows), width_out), np.uint8)
    height = min(max(MAX_PRODUCT // max(band.weights.size for band in bands), 1), MAX_STRIP_ROWS)
    buffer = np.empty((height, rows.shape[1]), np.float32)
    for top in range(0, len(rows), height):
        taken = rows[top : top + height]
        strip = buffer[: len(taken)]
        np.copyto(strip, taken)
        summed = np.empty((len(taken), width_out), np.float32)
        for band in bands:
            np.matmul(strip[:, band.low : band.high], band.weights, out=summed[:, band.first : band.last])
        out[top : top + height] = _to_levels(summed)
    return out


def _resample_columns(rows: NDArray[np.uint8], bands: tuple[_Band, ...], height_out: int) -> NDArray[np.uint8]:
    """Resample [H, W·C] uint8 vertically to [height_out, W·C] uint8."""
    values = rows.astype(np.float32)
    summed = np.empty((height_out, rows.shape[1]), np.float32)
    for band in bands:
        summed[band.first : band.last] = band.weights.T @ values[band.low : band.high]
    return _to_levels(summed)


def _to_levels(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round half up and clip to 0–255, in place."""
    values += np.float32(0.5)
    np.floor(values, out=values)
    np.clip(values, 0, 255, out=values)
    return values.astype(np.uint8)
