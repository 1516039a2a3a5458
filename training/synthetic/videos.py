"""Write synthetic action videos, .mp4 files with an ActivityNet annotation file, reproducible from a seed.

A video shows two or three textured objects over a moving background. All wander slowly; at times one performs one of
six motions (`training.synthetic.motion.ACTION_LABELS`). Looks are drawn independently of motions, and idle objects look
like acting ones, so that a single frame shows neither the class nor whether an action happens.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from runtime.common.children import worker_pool
from runtime.common.console import plain_stderr, run_command, shows_progress
from runtime.common.files import atomic_path, read_json, require_writable_folder, write_json
from runtime.common.locks import lock_folder
from runtime.common.ranges import (
    Count,
    FramesPerSecond,
    Pixels,
    Processes,
    Seconds,
    Seed,
    check_ranges,
    require_in_range,
)
from runtime.common.temporaries import sweep
from runtime.common.text import quote
from runtime.errors import AnnotationError, InputError, VideoError, import_failure
from training.synthetic.render import Image, render
from training.synthetic.scene import Scene, VideoSeed, plan_scene

CODEC = "mp4v"
"""Codec MPEG-4 part 2, which every OpenCV build writes and reads."""
VERSION = "synthetic-1"
"""Value of "version" in the annotation files that are written here."""


@dataclass(frozen=True)
class VideoFormat:
    """Describes size, frame rate and lengths of the video files."""

    size: Pixels = 128
    """Width and height, pixels."""
    fps: FramesPerSecond = 30.0
    shortest_s: Seconds = 20.0
    """Shortest video, seconds."""
    longest_s: Seconds = 120.0
    """Longest video, seconds."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.size < 16 or self.size % 2:
            raise InputError(f"size: got {self.size}, expected an even number of pixels, at least 16")
        if not 2 <= self.shortest_s <= self.longest_s:
            raise InputError(f"lengths: got {self.shortest_s} to {self.longest_s} s, expected 2 <= shortest <= longest")


def make_synthetic(
    out_dir: Path | str,
    *,
    videos: int,
    seed: int,
    subset: str,
    video_format: VideoFormat | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Path:
    """Write `videos` files out_dir/videos/<subset>_<index>.mp4 and their entries in out_dir/annotations.json.

    Entries of other subsets already in the annotation file are kept, so that one folder can hold a training and a
    validation set. Video number i of a subset does not depend on `videos` or on the number of workers.

    Args:
        videos: number of videos, at least 1.
        seed: any integer ≥ 0.
        subset: name of the subset; different names give different videos.
        video_format: size, frame rate and lengths.
        workers: processes; None = one per CPU this process may use.

    Returns: the path of annotations.json.

    Raises:
        InputError: an argument out of range.
        AnnotationError: out_dir/annotations.json is no synthetic annotation file; no video is written.
        VideoError: OpenCV cannot write the video files.
    """
    require_in_range("videos", videos, Count)
    require_in_range("seed", seed, Seed)
    require_in_range("workers", workers, Processes | None)
    if not subset.isidentifier():
        raise InputError(f"subset: got {quote(subset)}, expected letters, digits and underscores")
    video_format = video_format or VideoFormat()
    out_dir = Path(out_dir)
    _read_other_subsets(out_dir / "annotations.json", subset)
    for folder in (out_dir, out_dir / "videos"):
        require_writable_folder(folder)
    workers = min(videos, workers or len(os.sched_getaffinity(0)))
    write = partial(_write_one, out_dir / "videos", video_format)
    seeds = [VideoSeed(seed, subset, index) for index in range(videos)]
    strangers = [path for each in seeds if (path := out_dir / "videos" / f"{each.name}.mp4").exists()]
    if strangers and not (out_dir / "annotations.json").exists():
        raise InputError(f"{strangers[0]}: is there already, and no synthetic data beside it; choose another folder")
    if not (out_dir / "annotations.json").exists():  # says whose the videos are if this is interrupted
        _write_annotations(out_dir / "annotations.json", subset, {})
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise import_failure(error, "tqdm", "train", "making synthetic videos") from None
    with tqdm(
        total=videos,
        desc=f"synthetic {subset}",
        unit="video",
        file=plain_stderr(),
        disable=not (progress and shows_progress()),
    ) as bar:
        entries: dict[str, Any] = {}
        try:
            for name, entry in _map(write, seeds, workers):
                entries[name] = entry
                bar.update()
        finally:
            sweep(out_dir / "videos")  # what workers left that a signal has ended
    return _write_annotations(out_dir / "annotations.json", subset, entries)


def _map(write: partial[tuple[str, Any]], seeds: list[VideoSeed], workers: int) -> Iterable[tuple[str, Any]]:
    if workers <= 1:
        yield from map(write, seeds)
        return
    with worker_pool(workers) as pool:
        yield from pool.map(write, seeds)


def _write_one(folder: Path, video_format: VideoFormat, seed: VideoSeed) -> tuple[str, Any]:
    scene = plan_scene(seed, fps=video_format.fps, shortest_s=video_format.shortest_s, longest_s=video_format.longest_s)
    write_video(folder / f"{seed.name}.mp4", render(scene, video_format.size), scene.fps, video_format.size)
    return seed.name, make_entry(scene)


def make_entry(scene: Scene) -> dict[str, Any]:
    """Make the scene's entry of the `database` in an ActivityNet annotation file; times in seconds."""
    annotations = [{"label": a.label, "segment": [a.start_s, a.end_s]} for a in scene.actions]
    return {
        "subset": scene.seed.subset,
        "duration": round(scene.duration_s, 3),
        "fps": scene.fps,
        "annotations": annotations,
    }


def write_video(path: Path, frames: Iterable[Image], fps: float, size: int) -> None:
    """Write RGB frames uint8 [size, size, 3] atomically as a video.

    Raises:
        VideoError: OpenCV lacks the encoder, or the folder cannot be written.
    """
    with atomic_path(path) as unfinished:
        writer = cv2.VideoWriter(str(unfinished), cv2.VideoWriter.fourcc(*CODEC), fps, (size, size))
        if not writer.isOpened():
            raise VideoError(f"{path}: cannot be written; check the folder's permissions and that OpenCV has FFmpeg")
        try:
            for frame in frames:
                writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        finally:
            writer.release()


def _write_annotations(path: Path, subset: str, entries: Mapping[str, Any]) -> Path:
    with lock_folder(path.parent, "afsd make-synthetic"):
        write_json(path, {"version": VERSION, "database": {**_read_other_subsets(path, subset), **entries}})
    return path


def _read_other_subsets(path: Path, subset: str) -> dict[str, Any]:
    """Read the entries of other subsets; none if there is no file (AnnotationError: it is no synthetic one)."""
    if not path.exists():
        return {}
    document = read_json(path, "synthetic annotation file", AnnotationError)
    try:
        if document["version"] == VERSION:
            return {name: entry for name, entry in document["database"].items() if entry["subset"] != subset}
    except (KeyError, TypeError, AttributeError):
        pass
    raise AnnotationError(f"{path}: not a synthetic annotation file; choose another folder")


def add_make_synthetic(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `make-synthetic`; its parser sets `func`, as `runtime.cli` expects."""
    parser = commands.add_parser("make-synthetic", help="write synthetic action videos and their annotations")
    _add_arguments(parser)
    parser.set_defaults(func=_run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = VideoFormat()
    parser.add_argument("out", type=Path, help="folder for videos/ and annotations.json")
    parser.add_argument("--videos", type=int, default=60, help="number of videos (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--subset", default="training", help="name of the subset (default: %(default)s)")
    parser.add_argument("--size", type=int, default=defaults.size, help="frame edge, pixels (default: %(default)s)")
    parser.add_argument("--shortest", type=float, default=defaults.shortest_s, help="seconds (default: %(default)s)")
    parser.add_argument("--longest", type=float, default=defaults.longest_s, help="seconds (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=None, help="processes (default: one per CPU)")


def _run(args: argparse.Namespace) -> int:
    video_format = VideoFormat(size=args.size, shortest_s=args.shortest, longest_s=args.longest)
    path = make_synthetic(
        args.out,
        videos=args.videos,
        seed=args.seed,
        subset=args.subset,
        video_format=video_format,
        workers=args.workers,
        progress=True,
    )
    print(path)
    return 0


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(description=__doc__)
    _add_arguments(_parser)
    raise SystemExit(run_command(lambda: _run(_parser.parse_args())))
