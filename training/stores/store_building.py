"""Building frame stores from videos: in parallel, resumed where it was interrupted (flow: flow_store.py).

One process at a time may build a store.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import cv2
from tqdm import tqdm

from runtime.common.npy_writer import grow_npy
from runtime.errors import AfsdError, InputError, VideoError
from runtime.video.names import find_video
from runtime.video.resize import FramePreparation
from runtime.video.sampling import open_frames
from training.stores.frame_store import (
    INDEX,
    FrameStore,
    Sampling,
    StoredVideo,
    StoreIndex,
    make_sampling,
    read_index,
    write_index,
)

SAVE_INDEX_EVERY_S = 5.0
"""While building, the index is written at most this often; what an interruption loses is only built again."""
LEFTOVER_S = 600.0
"""Unfinished arrays that have not grown for so long are nobody's."""
RGB_STORE = "frames"
"""Folder of a data set's RGB arrays, from which its flow is made."""

OnFailure = Callable[[str, AfsdError], None]
"""Told the name of a video that cannot be had and why."""
BuildOne = Callable[[str, Path], StoredVideo]
"""Writes one array from its source; runs in a process of its own, so it must be picklable."""


def build_frame_store(
    videos_dir: str | os.PathLike[str],
    names: Iterable[str],
    out_dir: str | os.PathLike[str],
    *,
    frame_size: int,
    sample_fps: float | None = None,
    whole_frames: int | None = None,
    workers: int | None = None,
    progress: bool = True,
    on_failure: OnFailure | None = None,
) -> FrameStore:
    """Decode, sample and resize the videos `names` into a store; what is there already and fits is not done again.

    An array is done again when its video file has another size than the one it was made from. Arrays whose video is not
    there any more, and arrays made elsewhere (`index_arrays`), stay as they are.

    Frames are sampled by `runtime.video.sampling.open_frames` and resized by `runtime.video.resize`, the code that
    detection uses.
    Each array appears under its name only when complete. Videos that a store holds beyond `names` stay in it.

    Args:
        videos_dir: folder with <name>.mp4 (or avi, mkv, mov, webm, m4v).
        names: videos wanted, e.g. of an annotation file.
        frame_size: pixels of the square frame.
        sample_fps: sampled frames per second; or
        whole_frames: T; each video is sampled at fps·min(T/frames, 1) and gives its first T frames (ActivityNet).
        workers: processes; None = one per CPU this process may use.
        progress: show a progress bar.
        on_failure: told of each video that is missing or damaged, and the others go on; None: the first is raised.

    Raises:
        InputError: the folder holds a store of another sampling, or sampling values out of range.
        VideoError: a video is missing (before any is decoded) or damaged (those already built stay).
    """
    sampling = make_sampling(fps=sample_fps, frame_size=frame_size, whole_frames=whole_frames)
    out, sources = Path(out_dir), {}
    index = find_index(out, StoreIndex(sampling))
    for name in names:
        try:
            sources[name] = find_video(Path(videos_dir), name)
        except VideoError as error:
            if is_complete(out, name, index.videos.get(name)):
                continue
            if on_failure is None:
                raise
            on_failure(name, error)
    return complete_store(out, index, sources, partial(_build_rgb, out, sampling), workers, progress, on_failure)


def find_index(folder: Path, wanted: StoreIndex) -> StoreIndex:
    """What a store in `folder` holds already, which must have been made as wanted; nothing if there is none."""
    if not (folder / INDEX).exists():
        return wanted
    index = read_index(folder / INDEX)
    if index.sampling != wanted.sampling:
        raise InputError(
            f"{folder}: holds arrays of {index.sampling}; asked for are {wanted.sampling}. "
            "Ask for the former, choose another folder, or delete this"
        )
    if not _same_method(index.flow_method, wanted.flow_method):
        raise InputError(
            f"{folder}: holds flow by {index.flow_method or 'a method unknown'}, expected {wanted.flow_method}; "
            "ask for that method, choose another folder, or delete this"
        )
    return index


def _same_method(one: str, other: str) -> bool:
    """Whether two names of flow methods differ in the version of the library at most, which stands in brackets."""
    return re.sub(r" \(.*?\)", "", one) == re.sub(r" \(.*?\)", "", other)


def is_complete(folder: Path, name: str, stored: StoredVideo | None) -> bool:
    """Whether a store has the whole array of a video."""
    path = folder / f"{name}.npy"
    return stored is not None and path.is_file() and stored.array_bytes == path.stat().st_size


def complete_store(
    out: Path,
    index: StoreIndex,
    sources: Mapping[str, Path],
    build: BuildOne,
    workers: int | None,
    progress: bool,
    on_failure: OnFailure | None,
    made_from: Callable[[str, Path], int | None] = lambda _, path: path.stat().st_size,
) -> FrameStore:
    """Build what the store lacks, and write its index now and then and at the end, however it ends.

    `made_from` (name, source) is what an array's `source_bytes` must be; other arrays are built again.
    """
    stored = dict(index.videos)

    def is_done(name: str, source: Path) -> bool:
        if not is_complete(out, name, stored.get(name)):
            return False
        return stored[name].source_bytes in (None, made_from(name, source))

    todo = {name: path for name, path in sources.items() if not (path.is_file() and is_done(name, path))}
    if not todo and (out / INDEX).exists():
        return FrameStore(out)  # nothing is written, so a folder that is read-only will do
    out.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(out)
    workers = min(len(todo), workers or len(os.sched_getaffinity(0)))

    def save() -> None:
        write_index(out / INDEX, StoreIndex(index.sampling, stored, index.flow_method))

    saved = time.monotonic()
    try:
        with tqdm(
            total=len(sources), initial=len(sources) - len(todo), desc=out.name, unit="video", disable=not progress
        ) as bar:
            for name, built in _build_all(build, todo, workers):
                if isinstance(built, AfsdError):
                    if on_failure is None:
                        raise built
                    on_failure(name, built)
                else:
                    stored[name] = built
                bar.update()
                if time.monotonic() - saved > SAVE_INDEX_EVERY_S:
                    save()
                    saved = time.monotonic()
    finally:
        save()
    return FrameStore(out)


def _remove_leftovers(folder: Path) -> None:
    """Unfinished arrays of a process that was killed; one that is being written has changed just now."""
    for unfinished in folder.glob(".*.tmp.npy"):
        if time.time() - unfinished.stat().st_mtime > LEFTOVER_S:
            unfinished.unlink(missing_ok=True)


def _build_all(
    build: BuildOne, todo: Mapping[str, Path], workers: int
) -> Iterator[tuple[str, StoredVideo | AfsdError]]:
    """Build the arrays, one video per process at a time, in the order in which they are done."""
    attempt = partial(_attempt, build)
    if workers <= 1:
        yield from map(attempt, todo.items())
        return
    context = multiprocessing.get_context("spawn")  # a forked copy of OpenCV's or torch's threads can hang
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        futures = [pool.submit(attempt, item) for item in todo.items()]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise VideoError(
                f"a process that decodes videos was killed, perhaps for lack of memory; what is done stays, "
                f"run again with fewer than {workers} workers"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _attempt(build: BuildOne, item: tuple[str, Path]) -> tuple[str, StoredVideo | AfsdError]:
    name, source = item
    try:
        return name, build(name, source)
    except AfsdError as error:
        return name, error


def _build_rgb(folder: Path, sampling: Sampling, name: str, source: Path) -> StoredVideo:
    size = (sampling.frame_size, sampling.frame_size)
    path = folder / f"{name}.npy"
    fps = sampling.fps or 1.0  # whole videos have a rate of their own
    resized = FramePreparation(size, size)
    count = 0
    with (
        open_frames(source, fps, prepare=resized, max_frames=sampling.whole_frames) as frames,
        grow_npy(path, (*size, sampling.channels), "|u1") as append,
    ):
        for frame in frames:
            count = append(frame[None])
    return StoredVideo(
        frames=count,
        array_bytes=path.stat().st_size,
        source_bytes=source.stat().st_size,
        source_fps=frames.fps,
        source_frames=frames.decoded,
        declared_frames=frames.declared,
        sample_fps=None if sampling.fps else frames.sample_fps,
    )
