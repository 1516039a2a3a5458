"""Read feature files: one .npy or .npz per video, as ActionFormer and OpenTAD read them.

Both take arrays [T,C], any float type, steps first; an .npz holds them under "feats". This module also reads an .npz
whose only array has another name, and arrays [C,T], which the model's width or the other videos reveal (see axes.py).
Nothing is ever unpickled. Headers are read without the data.
"""

from __future__ import annotations

import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from runtime.common import limits
from runtime.common.files import PathLike, open_file
from runtime.common.text import one_line
from runtime.errors import InputError
from runtime.features.axes import AxisOrder

FEATURE_SUFFIXES = (".npy", ".npz")
NPZ_KEY = "feats"
"""Name of the array in an .npz, in ActionFormer and OpenTAD."""
ADVICE = "copy it again or extract the features of this video again"
UNREADABLE = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, SyntaxError, TypeError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError),
)
"""Errors that numpy, which evaluates a header, and zipfile raise on a damaged or foreign file."""


@dataclass(frozen=True)
class FeatureHeader:
    """Holds the shape and type of the array in a feature file."""

    shape: tuple[int, int]
    """Shape of the array as stored."""
    dtype: np.dtype[Any]

    def steps(self, order: AxisOrder) -> int:
        """Return the number of steps T."""
        return self.shape[0] if order == "steps_first" else self.shape[1]

    def width(self, order: AxisOrder) -> int:
        """Return the number of channels C."""
        return self.shape[1] if order == "steps_first" else self.shape[0]


def read_header(path: PathLike) -> FeatureHeader:
    """Read the shape and type of the array in a feature file, without its data.

    Raises:
        InputError: the file is not found, neither .npy nor .npz, cut off, or not a two-dimensional array of numbers.
    """
    path = Path(path)
    with _open_array(path) as (file, size):
        shape, dtype = _read_array_header(file, path)
        if dtype.hasobject:
            raise InputError(f"{path}: holds Python objects, which are never loaded; save it as a float32 array [T,C]")
        if dtype.kind not in "fiu" or len(shape) != 2 or any(type(n) is not int or n < 0 for n in shape):
            raise InputError(f"{path}: got {dtype} {list(shape)}, expected numbers [T,C]; save it in that form")
        there, expected = size - file.tell(), shape[0] * shape[1] * dtype.itemsize
        if there < expected:
            raise InputError(f"{path}: cut off: holds {there} bytes of {list(shape)}, expected {expected}; {ADVICE}")
    return FeatureHeader((shape[0], shape[1]), dtype)


def read_features(path: PathLike, order: AxisOrder = "steps_first") -> NDArray[Any]:
    """Read the features [T,C] of a file in their own type: an .npy as a read-only memory map, an .npz into memory.

    Values are not checked: see `require_finite`.

    Raises:
        InputError: see `read_header`.
    """
    path = Path(path)
    header = read_header(path)
    if 0 in header.shape:  # an empty file cannot be mapped
        array = np.empty(header.shape, header.dtype)
    else:
        try:
            array = _load(path)
        except UNREADABLE as error:
            raise InputError(f"{path}: cannot be read ({one_line(error)}); {ADVICE}") from None
    return array if order == "steps_first" else array.T


def require_finite(features: NDArray[Any], origin: str, first_step: int = 0, every: int = 1) -> NDArray[np.float32]:
    """Return features [T,C] as contiguous float32, checked to be finite.

    Args:
        features: any numbers [T,C].
        origin: name of the features in errors.
        first_step: number of row 0.
        every: steps of the file from one row to the next; errors give the step in the file.

    Raises:
        InputError: a value is NaN, infinite, or too large for float32.
    """
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(features, np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        step, channel = (int(i) for i in np.argwhere(~finite)[0])
        raise InputError(
            f"{origin}: step {(first_step + step) * every}, channel {channel} is {features[step, channel]} "
            f"({np.count_nonzero(~finite)} such values), expected finite float32; extract the features again"
        )
    return values


def resize_steps(features: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    """Resize features [T,C], T ≥ 1, to `steps` steps by linear interpolation between step centres (no antialiasing).

    New step j lies at (j + ½)·T / steps − ½, clamped to the first and last centre (torch: align_corners=False).
    """
    length = len(features)
    if length == steps:
        return features
    at = np.clip((np.arange(steps) + 0.5) * length / steps - 0.5, 0, length - 1)
    low = at.astype(np.int64)
    high = np.minimum(low + 1, length - 1)
    share = (at - low).astype(np.float32)[:, None]
    return np.asarray(features[low] * (1 - share) + features[high] * share, np.float32)


@contextmanager
def _open_array(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open the array of a file as the bytes of an .npy, with their number."""
    if path.suffix.lower() not in FEATURE_SUFFIXES:
        raise InputError(f"{path}: got {path.suffix or 'no suffix'}, expected a feature file .npy or .npz")
    try:
        if path.suffix.lower() == ".npy":
            with open_file(path) as file:
                yield file, os.fstat(file.fileno()).st_size
            return
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            member = f"{_array_name(path, archive.namelist())}.npy"
            _require_no_bomb(path, archive.getinfo(member))
            with archive.open(member) as stream:
                yield stream, archive.getinfo(member).file_size
    except FileNotFoundError:
        raise InputError(f"{path}: feature file not found") from None
    except UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({one_line(error)}); {ADVICE}") from None


def _require_no_bomb(path: Path, member: zipfile.ZipInfo) -> None:
    """Raise an InputError if an array unpacks to more than features do."""
    size, packed = member.file_size, max(member.compress_size, 1)
    if size > limits.FEATURE_BYTES or (size > limits.PACKED_BYTES and size > limits.FEATURE_RATIO * packed):
        raise InputError(
            f"{path}: {packed:,} bytes that unpack to {size:,}, expected at most {limits.FEATURE_BYTES:,}, and "
            f"{limits.FEATURE_RATIO} times the packed; save it as .npy if it is meant"
        )


def _array_name(path: Path, members: list[str]) -> str:
    names = [member.removesuffix(".npy") for member in members if "." not in member or member.endswith(".npy")]
    if NPZ_KEY in names:
        return NPZ_KEY
    if len(names) != 1:
        there = ", ".join(map(repr, names)) or "none"
        raise InputError(f"{path}: the arrays are {there}; expected one named {NPZ_KEY!r}, or a single one")
    return names[0]


def _read_array_header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{path}: written in .npy version {version}, expected a plain array of numbers [T,C]")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _load(path: Path) -> NDArray[Any]:
    if path.suffix.lower() == ".npy":
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    with np.load(path, allow_pickle=False) as archive:
        loaded: NDArray[Any] = archive[_array_name(path, archive.files)]
        return loaded
