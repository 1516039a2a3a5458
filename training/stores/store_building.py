"""Build frame stores from videos in parallel, and resume interrupted builds (flow: flow_store.py).

Several processes may build one store, each its own videos.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from runtime.common.children import worker_pool
from runtime.common.console import plain_stderr, shows_progress
from runtime.common.files import is_file, require_writable_folder
from runtime.common.locks import lock_folder
from runtime.common.names import require_safe_names
from runtime.common.npy_writer import grow_npy
from runtime.common.processors import usable_cores
from runtime.common.stops import LONGEST_SAVE_S, give_out_at_stop
from runtime.common.temporaries import sweep
from runtime.common.text import one_line
from runtime.errors import AfsdError, InputError, VideoError
from runtime.video.names import find_video, video_digest
from runtime.video.resize import FramePreparation
from runtime.video.sampling import FrameTiming, open_frames
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

SAVE_INDEX_AFTER = 50.0
"""Time from one write of the index to the next, in times that a write takes: 2 % of the work. Arrays that are missing
in the index of a run that was killed are built again."""
RGB_STORE = "frames"
"""Name of the folder of a data set's RGB arrays, from which flow is made."""

OnFailure = Callable[[str, AfsdError], None]
"""Function called with the name of a video that cannot be built, and the reason."""
BuildOne = Callable[[str, Path], StoredVideo]
"""Function that writes the array of a video (name, file); must be picklable, as it runs in another process."""

BuildAll = Callable[[BuildOne, Mapping[str, Path]], Generator[tuple[str, StoredVideo | AfsdError], None, None]]
"""Function that builds the arrays of several videos (name → file) and yields each when it is complete, or what keeps it
from being built; closing the generator ends the work."""

IsCurrent = Callable[[str, Path, StoredVideo], bool]
"""Function that says whether an array is of the video (name, file)."""


def build_frame_store(
    videos_dir: str | os.PathLike[str],
    names: Iterable[str],
    out_dir: str | os.PathLike[str],
    *,
    frame_size: int,
    sample_fps: float | None = None,
    whole_frames: int | None = None,
    timing: FrameTiming | None = None,
    allow_truncated: bool = False,
    workers: int | None = None,
    progress: bool = True,
    on_failure: OnFailure | None = None,
    build_all: BuildAll | None = None,
) -> FrameStore:
    """Decode, sample and resize the videos `names` into a store; complete arrays are not built again.

    An array is built again if its video file has another content. Arrays whose video file is gone, arrays made by
    other software (`index_arrays`) and videos beyond `names` stay in the store.

    Frames are sampled by `runtime.video.sampling.open_frames` and resized by `runtime.video.resize`, as in detection.
    Arrays are written atomically.

    Args:
        videos_dir: folder with <name>.mp4 (or avi, mkv, mov, webm, m4v).
        names: names of the videos, e.g. of an annotation file.
        frame_size: side of the square frame, pixels.
        sample_fps: sampled frames per second, or None with `whole_frames`.
        whole_frames: T; each video is sampled at fps·min(T/frames, 1) and gives its first T frames (ActivityNet).
        timing: rule by which frames are taken (see `FrameTiming`); None: that of the store, "presented" in a
            new one.
        allow_truncated: take what can be read of a video that is cut off or damaged.
        workers: processes; None = one per CPU this process may use.
        progress: show a progress bar.
        on_failure: called for each missing or damaged video; the others continue. None: the first error is raised.
        build_all: builds the arrays, as on other machines; None: `workers` processes of this one.

    Raises:
        InputError: the folder holds a store of another sampling, sampling values are out of range, or a name leads out
            of the folder.
        VideoError: a video is missing (raised before any is decoded) or damaged (arrays already built stay).
    """
    names = list(names)
    require_safe_names(names)
    out, files = Path(out_dir), {}
    if timing is None:
        timing = read_index(out / INDEX).sampling.timing if (out / INDEX).exists() else "presented"
    sampling = make_sampling(fps=sample_fps, frame_size=frame_size, whole_frames=whole_frames, timing=timing)
    index = find_index(out, StoreIndex(sampling))
    for name in names:
        try:
            files[name] = find_video(Path(videos_dir), name)
        except VideoError as error:
            if is_complete(out, name, index.videos.get(name)):
                continue
            if on_failure is None:
                raise
            on_failure(name, error)
    build = partial(_build_rgb, out, sampling, allow_truncated)
    return complete_store(out, index, files, build, workers, progress, on_failure, build_all=build_all)


def find_index(folder: Path, wanted: StoreIndex) -> StoreIndex:
    """Return the index of the store in `folder`, or `wanted` if there is none (InputError: another sampling or
    method, or arrays of unknown origin)."""
    if not (folder / INDEX).exists():
        stranger = next((path for path in folder.glob("[!.]*.npy") if path.is_file()), None)
        if stranger is not None:
            raise InputError(
                f"{stranger}: of unknown origin ({INDEX} is missing) and could be written over; use another folder, "
                "delete this one, or index it (`index_arrays`)"
            )
        return wanted
    index = read_index(folder / INDEX)
    if index.sampling != wanted.sampling:
        raise InputError(
            f"{folder}: holds arrays of {index.sampling}; asked for are {wanted.sampling}. "
            "Use the former sampling, choose another folder, or delete this one"
        )
    if not _same_method(index.flow_method, wanted.flow_method):
        raise InputError(
            f"{folder}: holds flow by {index.flow_method or 'an unknown method'}, expected {wanted.flow_method}; "
            "use that method, choose another folder, or delete this one"
        )
    return index


def _same_method(one: str, other: str) -> bool:
    """Return whether two names of flow methods differ at most in the library's version, in brackets."""
    return re.sub(r" \(.*?\)", "", one) == re.sub(r" \(.*?\)", "", other)


def is_complete(folder: Path, name: str, stored: StoredVideo | None) -> bool:
    """Return whether a store has the complete array of a video."""
    path = folder / f"{name}.npy"
    return stored is not None and is_file(path) and stored.array_bytes == path.stat().st_size


def is_of_file(_: str, file: Path, stored: StoredVideo) -> bool:
    """Return whether an array was made from a video file as it is now; of an array of other software, True."""
    state = file.stat()
    if stored.source_bytes is None or stored.source_modified_ns == state.st_mtime_ns:
        return stored.source_bytes in (None, state.st_size)
    return stored.source_bytes == state.st_size and (
        not stored.source_digest or stored.source_digest == video_digest(file)
    )


def complete_store(
    out: Path,
    index: StoreIndex,
    files: Mapping[str, Path],
    build: BuildOne,
    workers: int | None,
    progress: bool,
    on_failure: OnFailure | None,
    is_current: IsCurrent = is_of_file,
    build_all: BuildAll | None = None,
) -> FrameStore:
    """Build the arrays that the store lacks, and write its index at intervals and at the end, even after an error.

    `is_current` says whether an array was made from what is there now; other arrays are built again. `build_all`
    builds them; None: so many processes of this machine.
    """
    built: dict[str, StoredVideo] = {}

    def is_done(name: str, file: Path) -> bool:
        stored = index.videos.get(name)
        return stored is not None and is_complete(out, name, stored) and is_current(name, file, stored)

    todo = {name: path for name, path in files.items() if not (path.is_file() and is_done(name, path))}
    if not todo and (out / INDEX).exists():
        sweep(out)  # what a killed command left after its last array
        return FrameStore(out)  # nothing is written, so the folder may be read-only
    require_writable_folder(out)
    if build_all is None:
        build_all = partial(_build_in_processes, min(len(todo), workers or usable_cores()))

    def save() -> float:
        """Write the index and return the time at which to do so again."""
        began = time.monotonic()
        with lock_folder(out, "afsd prepare"):  # other processes may have added arrays since the index was read
            there = find_index(out, index)
            write_index(out / INDEX, replace(there, videos={**there.videos, **built}))
        now = time.monotonic()
        return now + SAVE_INDEX_AFTER * (now - began)

    save_at = save()  # from here on another process must ask for the same sampling
    try:
        with (
            closing(build_all(build, todo)) as results,
            give_out_at_stop(save, LONGEST_SAVE_S),
            tqdm(
                total=len(files),
                initial=len(files) - len(todo),
                desc=one_line(out.name),
                unit="video",
                file=plain_stderr(),
                disable=not (progress and shows_progress()),
            ) as bar,
        ):
            for name, result in results:
                if isinstance(result, AfsdError):
                    if on_failure is None:
                        raise result
                    on_failure(name, result)
                else:
                    built[name] = result
                bar.update()
                if time.monotonic() >= save_at:
                    save_at = save()
    finally:
        save()
        sweep(out)  # what killed workers left
    return FrameStore(out)


def _build_in_processes(
    workers: int, build: BuildOne, todo: Mapping[str, Path]
) -> Generator[tuple[str, StoredVideo | AfsdError], None, None]:
    """Build the arrays, one video per process at a time, and yield them as they are completed."""
    attempt = partial(attempt_build, build)
    if workers <= 1:
        yield from map(attempt, todo.items())
        return
    try:
        with worker_pool(workers) as pool:
            for future in as_completed([pool.submit(attempt, item) for item in todo.items()]):
                yield future.result()
    except BrokenProcessPool:
        raise VideoError(
            f"a process that decodes videos was killed, perhaps for lack of memory; completed arrays stay, "
            f"run again with fewer than {workers} workers"
        ) from None


def attempt_build(build: BuildOne, item: tuple[str, Path]) -> tuple[str, StoredVideo | AfsdError]:
    """Build the array of a video (name, file) and return it with the name, or what keeps it from being built."""
    name, file = item
    try:
        return name, build(name, file)
    except AfsdError as error:
        return name, error
    except OSError as error:  # a name that is too long, a full disk: the other videos go on
        return name, InputError(f"{name}: {one_line(error)}; no array of this video is written")


def _build_rgb(folder: Path, sampling: Sampling, allow_truncated: bool, name: str, file: Path) -> StoredVideo:
    size = (sampling.frame_size, sampling.frame_size)
    path = folder / f"{name}.npy"
    fps = sampling.fps or 1.0  # whole videos have their own rates
    resize = FramePreparation(size, size)
    count, digest, state = 0, video_digest(file), file.stat()
    with (
        open_frames(
            file,
            fps,
            prepare=resize,
            max_frames=sampling.whole_frames,
            timing=sampling.timing,
            allow_truncated=allow_truncated,
        ) as frames,
        grow_npy(path, (*size, sampling.channels), "|u1") as append,
    ):
        for frame in frames:
            count = append(frame[None])
    return StoredVideo(
        frames=count,
        array_bytes=path.stat().st_size,
        source_bytes=state.st_size,
        source_digest=digest,
        source_modified_ns=state.st_mtime_ns,
        source_fps=frames.fps,
        source_frames=frames.decoded,
        declared_frames=frames.declared,
        sample_fps=None if sampling.fps else frames.sample_fps,
    )
