"""Write synthetic action videos, .mp4 files with an ActivityNet annotation file, reproducible from a seed.

A video shows two or three textured objects over a moving background. All wander slowly; at times one performs one of
six motions (`training.synthetic.motion.ACTION_LABELS`). Looks are drawn independently of motions, and idle objects look
like acting ones, so that a single frame shows neither the class nor whether an action happens.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runtime.common.console import run_command
from runtime.common.ranges import FramesPerSecond, Pixels, Seconds, check_ranges
from runtime.errors import InputError
from training.synthetic.render import render
from training.synthetic.scene import Scene, VideoSeed, plan_scene
from training.synthetic.video_set import make_video_set, write_video

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
    overwrite: bool = False,
) -> Path:
    """Write synthetic videos and their annotations; `video_format` is their size, frame rate and lengths.

    See `training.synthetic.video_set.make_video_set` for the other arguments, what is returned and the errors.
    """
    video_format = video_format or VideoFormat()
    return make_video_set(
        out_dir,
        partial(_write_one, video_format),
        settings=asdict(video_format),
        version=VERSION,
        videos=videos,
        seed=seed,
        subset=subset,
        workers=workers,
        progress=progress,
        overwrite=overwrite,
    )


def _write_one(video_format: VideoFormat, folder: Path, seed: VideoSeed) -> dict[str, Any]:
    size = video_format.size
    scene = plan_scene(seed, fps=video_format.fps, shortest_s=video_format.shortest_s, longest_s=video_format.longest_s)
    write_video(folder / f"{seed.name}.mp4", render(scene, size), scene.fps, size, size)
    return make_entry(scene)


def make_entry(scene: Scene) -> dict[str, Any]:
    """Make the scene's entry of the `database` in an ActivityNet annotation file; times in seconds."""
    annotations = [{"label": a.label, "segment": [a.start_s, a.end_s]} for a in scene.actions]
    return {
        "subset": scene.seed.subset,
        "duration": round(scene.duration_s, 3),
        "fps": scene.fps,
        "annotations": annotations,
    }


def add_make_synthetic(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `make-synthetic`; its parser sets `func`, as `runtime.cli` expects."""
    parser = commands.add_parser(
        "make-synthetic",
        epilog="examples:\n"
        "  afsd make-synthetic mydata --videos 4\n"
        "  afsd make-synthetic runs/synthetic/data --videos 100 --seed 1 --subset training\n",
        help="write synthetic action videos and their annotations",
        description="Write videos of drawn shapes in which only motion tells the class, and their exact annotations: "
        "data to try training, export and detection on.",
    )
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
    parser.add_argument(
        "--overwrite", action="store_true", help="replace videos of the subset made otherwise (default: refuse)"
    )


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
        overwrite=args.overwrite,
    )
    print(path)
    return 0


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(description=__doc__)
    _add_arguments(_parser)
    raise SystemExit(run_command(lambda: _run(_parser.parse_args())))
