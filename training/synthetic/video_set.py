"""Write sets of made videos with an ActivityNet annotation file, in parallel and reproducible from a seed.

<out>/videos/<subset>_<index>.mp4   the video files
<out>/annotations.json              their annotations; its "version" says which kind of video they are, and "made"
                                    with which seed and settings each subset was made
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.common.children import worker_pool
from runtime.common.console import plain_stderr, shows_progress
from runtime.common.files import atomic_path, read_json, require_writable_folder, write_json
from runtime.common.locks import lock_folder
from runtime.common.processors import usable_cores
from runtime.common.ranges import Count, Processes, Seed, require_in_range
from runtime.common.temporaries import sweep
from runtime.common.text import counted, quote
from runtime.errors import AnnotationError, InputError, VideoError, import_failure
from training.synthetic.scene import VideoSeed

CODEC = "mp4v"
"""Codec MPEG-4 part 2, which every OpenCV build writes and reads."""

WriteOne = Callable[[Path, VideoSeed], dict[str, Any]]
"""Function that writes one video into a folder and returns its entry of the annotation file; must be picklable."""


def make_video_set(
    out_dir: Path | str,
    write: WriteOne,
    *,
    version: str,
    videos: int,
    seed: int,
    subset: str,
    settings: Mapping[str, Any],
    workers: int | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write `videos` files out_dir/videos/<subset>_<index>.mp4 and their entries in out_dir/annotations.json.

    Entries of other subsets already in the annotation file are kept, so that one folder can hold a training and a
    validation set. Video number i of a subset does not depend on `videos` or on the number of workers, so a subset can
    be made again, and be given more videos.

    Args:
        write: what writes one video.
        version: kind of the videos, "version" of the annotation file; its first word names it in messages.
        videos: number of videos, at least 1.
        seed: any integer ≥ 0.
        subset: name of the subset; different names give different videos.
        settings: what else the videos depend on, of what JSON holds.
        workers: processes; None = one per CPU this process may use.
        overwrite: replace videos of the same subset that were made otherwise, or are more.

    Returns: the path of annotations.json.

    Raises:
        InputError: an argument out of range, or the folder holds other videos; nothing is written.
        AnnotationError: out_dir/annotations.json is no annotation file of this kind; no video is written.
        VideoError: OpenCV cannot write the video files.
    """
    require_in_range("videos", videos, Count)
    require_in_range("seed", seed, Seed)
    require_in_range("workers", workers, Processes | None)
    if not subset.isidentifier():
        raise InputError(f"subset: got {quote(subset)}, expected letters, digits and underscores")
    kind = version.partition("-")[0]
    out_dir = Path(out_dir)
    annotations, recipe = out_dir / "annotations.json", {"seed": seed, **settings}
    document = _read(annotations, version)
    before = {name for name, entry in document["database"].items() if entry["subset"] == subset}
    if before and not overwrite:
        _require_same(annotations, subset, document.get("made", {}).get(subset), recipe, len(before), videos)
    for folder in (out_dir, out_dir / "videos"):
        require_writable_folder(folder)
    workers = min(videos, workers or usable_cores())
    seeds = [VideoSeed(seed, subset, index) for index in range(videos)]
    strangers = [path for each in seeds if (path := out_dir / "videos" / f"{each.name}.mp4").exists()]
    if strangers and not overwrite and not annotations.exists():
        raise InputError(f"{strangers[0]}: is there already, and no {kind} data beside it; choose another folder")
    if overwrite or not before:  # says whose the videos are if this is interrupted, and not that they are whole
        _write_annotations(annotations, subset, version, recipe, {})
        for name in before - {each.name for each in seeds}:
            (out_dir / "videos" / f"{name}.mp4").unlink(missing_ok=True)
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise import_failure(error, "tqdm", "train", f"making {kind} videos") from None
    with tqdm(
        total=videos,
        desc=f"{kind} {subset}",
        unit="video",
        file=plain_stderr(),
        disable=not (progress and shows_progress()),
    ) as bar:
        entries: dict[str, Any] = {}
        try:
            for each, entry in zip(seeds, _map(write, out_dir / "videos", seeds, workers), strict=True):
                entries[each.name] = entry
                bar.update()
        finally:
            sweep(out_dir / "videos")  # what workers left that a signal has ended
    return _write_annotations(annotations, subset, version, recipe, entries)


def _map(write: WriteOne, folder: Path, seeds: list[VideoSeed], workers: int) -> Iterable[dict[str, Any]]:
    if workers <= 1:
        yield from (write(folder, seed) for seed in seeds)
        return
    with worker_pool(workers) as pool:
        yield from pool.map(write, [folder] * len(seeds), seeds)


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float, width: int, height: int) -> None:
    """Write RGB frames uint8 [height, width, 3] atomically as a video.

    Raises:
        VideoError: OpenCV lacks the encoder, or the folder cannot be written.
    """
    with atomic_path(path) as unfinished:
        writer = cv2.VideoWriter(str(unfinished), cv2.VideoWriter.fourcc(*CODEC), fps, (width, height))
        if not writer.isOpened():
            raise VideoError(f"{path}: cannot be written; check the folder's permissions and that OpenCV has FFmpeg")
        try:
            for frame in frames:
                writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        finally:
            writer.release()


def _require_same(
    path: Path, subset: str, made: Mapping[str, Any] | None, recipe: Mapping[str, Any], there: int, videos: int
) -> None:
    """Check that a subset which is there becomes no other one (InputError)."""
    holds = f"{path}: holds {counted(there, 'video')} of the subset {subset}"
    advice = "choose another folder or --subset, or give --overwrite"
    if made is None:
        raise InputError(f"{holds} and does not say with which seed they were made; {advice}")
    others = [f"{name} {made.get(name)}, not {value}" for name, value in recipe.items() if made.get(name) != value]
    if others:
        raise InputError(f"{holds}, made with {', '.join(others)}; {advice}")
    if there > videos:
        raise InputError(f"{holds}, and {videos} are fewer; {advice}")


def _write_annotations(
    path: Path, subset: str, version: str, recipe: Mapping[str, Any], entries: Mapping[str, Any]
) -> Path:
    """Write the entries of a subset in place of those there."""
    with lock_folder(path.parent, "afsd make-synthetic"):
        document = _read(path, version)
        others = {name: entry for name, entry in document["database"].items() if entry["subset"] != subset}
        made = {**document.get("made", {}), subset: recipe}
        write_json(path, {"version": version, "made": made, "database": {**others, **entries}})
    return path


def _read(path: Path, version: str) -> dict[str, Any]:
    """Read the annotation file; an empty one if there is none (AnnotationError: it is not of this kind)."""
    kind = version.partition("-")[0]
    if not path.exists():
        return {"database": {}}
    document = read_json(path, f"{kind} annotation file", AnnotationError)
    with suppress(KeyError, TypeError, AttributeError):
        whole = all("subset" in entry for entry in document["database"].values())
        if whole and document["version"] == version and isinstance(document.get("made", {}), dict):
            return dict(document)
    raise AnnotationError(f"{path}: not a {kind} annotation file; choose another folder")
