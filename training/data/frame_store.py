"""Frame stores: a folder with one memory-mapped array of sampled, resized frames per video, and an index.

<store>/<video>.npy    uint8 [T,H,W,3] RGB (or [T,H,W,2] flow x, y), the form of the published arrays
<store>/index.json     how they were sampled and what each must look like
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from runtime.atomic import atomic_path
from runtime.errors import InputError
from runtime.resize import FramePreparation
from runtime.sources import find_video
from runtime.structured import from_mapping, to_mapping
from runtime.video import open_frames

INDEX = "index.json"
SAVE_INDEX_EVERY_S = 5.0
"""While building, the index is written at most this often; what an interruption loses is only built again."""


@dataclass(frozen=True)
class Sampling:
    """How frames were taken from the videos."""

    fps: float
    """Frames per second of video time."""
    frame_size: int
    """Pixels of the square frame; the aspect ratio is not kept."""
    channels: int = 3
    """3 = RGB, 2 = flow (x, y)."""

    def __post_init__(self) -> None:
        if not self.fps > 0 or self.frame_size < 1 or self.channels not in (2, 3):
            raise ValueError(
                f"got fps {self.fps}, frame_size {self.frame_size}, channels {self.channels}; "
                "expected positive numbers and 3 (RGB) or 2 (flow) channels"
            )


@dataclass(frozen=True)
class StoredVideo:
    """What the index knows of one array."""

    frames: int
    array_bytes: int
    """Size of the .npy file."""
    source_bytes: int | None = None
    """Size of the video file it was made from; None when it was made elsewhere."""
    source_fps: float | None = None
    """Frame rate of that file."""


@dataclass(frozen=True)
class StoreIndex:
    """The content of index.json."""

    sampling: Sampling
    videos: dict[str, StoredVideo] = field(default_factory=dict)
    schema: int = 1


class FrameStore:
    """The arrays of a store, opened on demand: the data set is never in memory as a whole."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open a store.

        Raises:
            InputError: no index there, or not one of a frame store.
        """
        self.folder = Path(folder)
        self._index = _read_index(self.folder / INDEX)

    @property
    def sampling(self) -> Sampling:
        return self._index.sampling

    @property
    def videos(self) -> Mapping[str, StoredVideo]:
        """The videos by name."""
        return self._index.videos

    def __len__(self) -> int:
        return len(self._index.videos)

    def __getitem__(self, video: str) -> NDArray[np.uint8]:
        """The frames of a video, uint8 [T,H,W,C], as a read-only memory map.

        The file is opened at each call (0.1 ms) and closed with the array, so that open files do not pile up.

        Raises:
            InputError: no such video, or its file is missing, cut off, or not what the index says.
        """
        if video not in self._index.videos:
            raise InputError(f"{self.folder}: no frames of {video!r}; build the frame store again with this video")
        return _open_array(self.folder / f"{video}.npy", self.sampling, self._index.videos[video].frames)


def build_frame_store(
    videos_dir: str | os.PathLike[str],
    names: Iterable[str],
    out_dir: str | os.PathLike[str],
    *,
    sample_fps: float,
    frame_size: int,
    workers: int | None = None,
    progress: bool = True,
) -> FrameStore:
    """Decode, sample and resize the videos `names` into a store; what is there already and fits is not done again.

    Frames are sampled by `runtime.video.open_frames` and resized by `runtime.resize`, the code that detection uses.
    Each array appears under its name only when complete. Videos that a store holds beyond `names` stay in it.

    Args:
        videos_dir: folder with <name>.mp4 (or avi, mkv, mov, webm, m4v).
        names: videos wanted, e.g. of an annotation file.
        sample_fps: sampled frames per second.
        frame_size: pixels of the square frame.
        workers: processes; None = one per CPU this process may use.
        progress: show a progress bar.

    Raises:
        InputError: the folder holds a store of another sampling, or sampling values out of range.
        VideoError: a video is missing (before any is decoded) or damaged (those already built stay).
    """
    out_dir = Path(out_dir)
    sampling = _sampling(sample_fps, frame_size, channels=3)
    sources = {name: find_video(Path(videos_dir), name) for name in names}
    out_dir.mkdir(parents=True, exist_ok=True)
    stored = dict(_existing(out_dir, sampling))
    todo = {name: path for name, path in sources.items() if not _is_done(out_dir, name, path, stored.get(name))}
    workers = min(len(todo), workers or len(os.sched_getaffinity(0)))
    saved = time.monotonic()
    try:
        with tqdm(total=len(sources), initial=len(sources) - len(todo), unit="video", disable=not progress) as bar:
            for name, video in _build_all(out_dir, sampling, todo, workers):
                stored[name] = video
                bar.update()
                if time.monotonic() - saved > SAVE_INDEX_EVERY_S:
                    _write_index(out_dir / INDEX, StoreIndex(sampling, stored))
                    saved = time.monotonic()
    finally:
        _write_index(out_dir / INDEX, StoreIndex(sampling, stored))
    return FrameStore(out_dir)


def index_arrays(
    folder: str | os.PathLike[str], *, sample_fps: float, frame_size: int, channels: int = 3
) -> FrameStore:
    """Make a store of a folder of .npy files made elsewhere (the published RGB or flow arrays): write its index only.

    Raises:
        InputError: no .npy file there, or one that is not uint8 [T, frame_size, frame_size, channels].
    """
    folder = Path(folder)
    sampling = _sampling(sample_fps, frame_size, channels)
    paths = sorted(folder.glob("*.npy"))
    if not paths:
        raise InputError(f"{folder}: holds no .npy file, expected one array [T,H,W,{channels}] per video")
    videos = {path.stem: StoredVideo(len(_open_array(path, sampling)), path.stat().st_size) for path in paths}
    _write_index(folder / INDEX, StoreIndex(sampling, videos))
    return FrameStore(folder)


def _sampling(fps: float, frame_size: int, channels: int) -> Sampling:
    try:
        return Sampling(float(fps), frame_size, channels)
    except ValueError as error:
        raise InputError(f"frame store: {error}") from None


def _open_array(path: Path, sampling: Sampling, frames: int | None = None) -> NDArray[np.uint8]:
    """Memory-map one array and check it; `frames` None takes any number."""
    advice = "delete it and build the frame store again"
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())}); {advice}") from None
    expected = (sampling.frame_size, sampling.frame_size, sampling.channels)
    if (
        array.dtype != np.uint8
        or array.ndim != 4
        or array.shape[1:] != expected
        or len(array) != (frames or len(array))
    ):
        want = ",".join(map(str, (frames or "T", *expected)))
        raise InputError(f"{path}: got {array.dtype} {list(array.shape)}, expected uint8 [{want}]; {advice}")
    return array


def _read_index(path: Path) -> StoreIndex:
    try:
        return from_mapping(StoreIndex, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path.parent}: no frame store there ({path.name} is missing); build it first") from None
    except (OSError, ValueError) as error:  # StructureError is a ValueError
        raise InputError(f"{path}: not the index of a frame store: {' '.join(str(error).split())}") from None


def _write_index(path: Path, index: StoreIndex) -> None:
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(to_mapping(index), indent=1), encoding="utf-8")


def _existing(folder: Path, sampling: Sampling) -> Mapping[str, StoredVideo]:
    """What a store in `folder` holds already; nothing if there is none."""
    if not (folder / INDEX).exists():
        return {}
    index = _read_index(folder / INDEX)
    if index.sampling != sampling:
        raise InputError(
            f"{folder}: holds frames of {index.sampling}, expected {sampling}; choose another folder or delete this"
        )
    return index.videos


def _is_done(folder: Path, name: str, source: Path, stored: StoredVideo | None) -> bool:
    path = folder / f"{name}.npy"
    if stored is None or not path.is_file():
        return False
    return stored.array_bytes == path.stat().st_size and stored.source_bytes == source.stat().st_size


def _build_all(
    folder: Path, sampling: Sampling, todo: Mapping[str, Path], workers: int
) -> Iterator[tuple[str, StoredVideo]]:
    """Build the arrays, one video per process at a time; the first error ends it."""
    build = partial(_build_one, folder, sampling)
    if workers <= 1:
        yield from map(build, todo.items())
        return
    context = multiprocessing.get_context("spawn")  # a forked copy of OpenCV's or torch's threads can hang
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(build, item) for item in todo.items()]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _build_one(folder: Path, sampling: Sampling, item: tuple[str, Path]) -> tuple[str, StoredVideo]:
    name, source = item
    size = (sampling.frame_size, sampling.frame_size)
    path = folder / f"{name}.npy"
    with open_frames(source, sampling.fps, prepare=FramePreparation(size, size)) as frames, atomic_path(path) as new:
        count = _write_array(new, frames, (*size, sampling.channels))
    return name, StoredVideo(count, path.stat().st_size, source.stat().st_size, frames.fps)


def _write_array(path: Path, frames: Iterable[NDArray[np.uint8]], shape: tuple[int, int, int]) -> int:
    """Write frames as they come to an .npy file [T, *shape]; returns T. Memory does not grow with the video.

    The header leaves room for the final T (NumPy's header format reserves it for the growing axis).
    """

    def write_header(count: int) -> None:
        layout = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(file, layout)

    count = 0
    with path.open("wb") as file:
        write_header(0)
        for frame in frames:
            file.write(np.ascontiguousarray(frame).data)
            count += 1
        file.seek(0)
        write_header(count)
    return count
