"""A video of which features are at hand in place of frames: its files, by what it is known, where it is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from runtime.annotations.activitynet import VideoAnnotation
from runtime.errors import InputError
from runtime.features.files import FEATURE_SUFFIXES, find_features
from runtime.video.names import DIGITS, video_digest
from runtime.video.readers import natural_key


@dataclass(frozen=True)
class FeatureVideo:
    """The features of one video, as `runtime.feature_detector.FeatureDetector.run` takes them."""

    name: str
    files: tuple[Path, ...]
    """One per stream."""
    fps: float | None = None
    """Frames per second of the video; None where it is not known, or the model knows one for all."""
    duration_s: float | None = None

    def __str__(self) -> str:
        return str(self.files[0])


Source = Path | FeatureVideo
"""A video file, or the features of a video."""


def source_digest(source: Source) -> str:
    """By what a video is known under any name: first digits of its file's SHA-256; of several files, over theirs."""
    if isinstance(source, Path):
        return video_digest(source)
    digests = [video_digest(file) for file in source.files]
    return digests[0] if len(digests) == 1 else sha256(" ".join(digests).encode()).hexdigest()[:DIGITS]


def feature_videos(folders: Sequence[Path], names: Sequence[str] = ()) -> list[FeatureVideo]:
    """The videos of a feature set: those named, or all that the first folder has, in natural order.

    Args:
        folders: of <video>.npy or .npz, one per stream.
        names: of videos.

    Raises:
        InputError: no such folder, no feature file in it, or a video without features in one of them.
    """
    _require_folders(folders)
    there = {path.stem for path in folders[0].iterdir() if path.suffix in FEATURE_SUFFIXES}
    if not there:
        raise InputError(f"{folders[0]}: holds no .npy or .npz, expected a feature file per video")
    return [_found(folders, name) for name in (names or sorted(there, key=natural_key))]


def annotated_feature_videos(folders: Sequence[Path], truth: Sequence[VideoAnnotation]) -> list[FeatureVideo]:
    """The features of annotated videos, with their rates and durations (InputError: a folder or a video's file is
    missing)."""
    _require_folders(folders)
    return [_found(folders, video.name, video.fps, video.duration_s) for video in truth]


def _require_folders(folders: Sequence[Path]) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected one with a feature file per video")


def _found(
    folders: Sequence[Path], name: str, fps: float | None = None, duration_s: float | None = None
) -> FeatureVideo:
    return FeatureVideo(name, tuple(find_features(folder, name) for folder in folders), fps, duration_s)
