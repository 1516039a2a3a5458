"""Read a folder of images as a video."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from runtime.common import limits
from runtime.common.files import describe_mode, exists, open_file, read_bytes
from runtime.common.natural_order import natural_key
from runtime.errors import VideoError, VideoWarning
from runtime.results.picture_mark import PICTURE_START, is_picture
from runtime.video.readers.base import Frame, Picture, require_pixels
from runtime.video.readers.image_size import image_size
from runtime.video.sources import VIDEO_SUFFIXES, name_of

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MOST_LOOKED_AT = 10_000
"""Files and folders among which videos are looked for, where a folder that was given holds none."""


class FolderReader:
    """Reads a folder of images in natural order (frame2 before frame10)."""

    background = True
    endless: bool | None = False
    timed = False
    fps: float | None = None
    duration: float | None = None
    time = end = longest_jump = 0.0

    def __init__(self, folder: Path) -> None:
        self.name, self.label = name_of(str(folder))
        self._images = list_images(folder)
        if not self._images:
            raise VideoError(_describe_lack(folder))
        _require_one_series(folder, self._images)
        self.count: int | None = len(self._images)
        self._next = 0

    def grab(self) -> bool:
        """See `Reader`."""
        self._next += 1
        return self._next <= len(self._images)

    def hold(self) -> Picture:
        """See `Reader`."""
        path = self._images[self._next - 1]
        return lambda: read_image(path)

    def scan(self) -> tuple[int, float] | None:
        """See `Reader`."""
        return None

    def shortfall(self) -> str | None:
        """See `Reader`."""
        return None

    def close(self) -> None:
        """See `Reader`."""


def read_image(path: Path) -> Frame:
    """Read an image as uint8 [H,W,3] RGB.

    Raises:
        VideoError: not an image that OpenCV can read, or one of more pixels than `limits.IMAGE_PIXELS`.
    """
    import cv2

    try:
        content = read_bytes(path, limits.IMAGE_BYTES)
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror}); expected an image") from None
    require_pixels(*(image_size(content) or (0, 0)), str(path))
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error:
        image = None
    if image is None:
        raise VideoError(f"{path}: not a readable image; remove it or write it again")
    rgb: Frame = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb


def list_images(folder: Path) -> list[Path]:
    """List the image files of a folder in natural order, without hidden ones (macOS writes ._name beside name).

    The timeline of this project that was written into the folder, under its name, is no frame of it.

    Raises:
        VideoError: a pipe, socket or device has the name of an image.
    """
    named = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    odd = next((path for path in named if exists(path) and not (path.is_file() or path.is_dir())), None)
    if odd is not None:
        raise VideoError(f"{odd}: {describe_mode(odd.stat().st_mode)}, no file; take it out of the folder")
    name = folder.resolve().name
    frames = (path for path in named if path.is_file() and not _is_result(path, name))
    return sorted(frames, key=lambda path: natural_key(path.name))


def _is_result(path: Path, name: str) -> bool:
    """Return whether an image is a result of a folder of this name; few begin so, and only these are opened."""
    if path.suffix != ".png" or not path.stem.startswith(name):
        return False
    try:
        with open_file(path) as file:
            return is_picture(file.read(PICTURE_START))
    except OSError:  # said when it is read
        return False


def _describe_lack(folder: Path) -> str:
    """Return the error of a folder that is no video, and from which no videos were taken: what it holds instead."""
    expected = f"videos ({_listed(VIDEO_SUFFIXES)}) or the images of one ({_listed(IMAGE_SUFFIXES)})"
    below = _first_video(folder)
    if below is not None and below.parent == folder:
        return f"{folder}: the folder holds videos, as {below.name}, and is none itself; give the videos one by one"
    if below is not None:
        return (
            f"{folder}: the folder holds videos only in its folders, as {below.relative_to(folder).as_posix()}; give "
            "--recursive (recursive=True), or the folder that they are in"
        )
    if not any(folder.iterdir()):
        return f"{folder}: the folder is empty, expected {expected}"
    return f"{folder}: got a folder without videos and images, expected {expected}"


def _listed(suffixes: Iterable[str]) -> str:
    return ", ".join(sorted(suffixes))


def _first_video(folder: Path) -> Path | None:
    """Return a video in a folder or below it, those in the folder itself first; None: none is among the first files."""
    seen = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=natural_key)
        for name in sorted(files, key=natural_key):
            if Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith("."):
                return Path(place, name)
        seen += len(folders) + len(files)
        if seen > MOST_LOOKED_AT:
            break
    return None


def _require_one_series(folder: Path, images: list[Path]) -> None:
    """Refuse several numbered series, such as the img_*, flow_x_* and flow_y_* of one video; warn of holes in one."""
    series: dict[str, set[int]] = defaultdict(set)
    for path in images:
        numbered = re.fullmatch(r"(.*?)([0-9]+)", path.stem)
        if numbered:
            series[numbered[1]].add(int(numbered[2]))
    several = [name for name, numbers in series.items() if len(numbers) > 1]
    if len(series) == 1 and len(several) == 1:
        numbers = series[several[0]]
        missing = max(numbers) - min(numbers) + 1 - len(numbers)
        if missing:
            warnings.warn(
                f"{folder}: {missing} of the numbers {min(numbers)} to {max(numbers)} of its images are missing; times "
                "count the images that are there",
                VideoWarning,
                stacklevel=2,
            )
    if len(several) > 1 and set.intersection(*(series[name] for name in several)):
        shown = ", ".join(f"{name}*" for name in sorted(several)[:4])
        raise VideoError(
            f"{folder}: got {len(several)} numbered series of images ({shown}), expected the images of one video; "
            "move each series into a folder of its own"
        )
