"""The files of a feature set: where they are, and what their headers say; each fault told by video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.annotations.activitynet import VideoAnnotation
from runtime.errors import InputError
from runtime.features.axes import find_layout
from runtime.features.description import FOLD, FeatureSource, FeatureStream
from runtime.features.files import FEATURE_SUFFIXES, UNEVEN_STEPS, FeatureHeader, Layout, read_header
from runtime.spec.time_axis import FeatureSampling
from runtime.video.names import other_name

AGAIN = "extract the features of this video again"
Files = list[tuple[Path, FeatureHeader]]
"""Of one video, one per stream."""


@dataclass(frozen=True)
class VideoFeatures:
    """The feature files of one video."""

    paths: tuple[Path, ...]
    """One per stream."""
    common: int
    """Steps that every stream is cut or stretched to …"""
    steps: int
    """… and T, those that are used, after `every` and `resize`."""


@dataclass
class FeatureScan:
    """What the files of a feature set are, before anybody insists on their being right."""

    layouts: tuple[Layout, ...] = ()
    """Per stream."""
    widths: tuple[int, ...] = ()
    """Per stream."""
    videos: dict[str, VideoFeatures] = field(default_factory=dict)
    """Those without a fault."""
    missing: dict[str, InputError] = field(default_factory=dict)
    """Videos without a file."""
    faults: dict[str, InputError] = field(default_factory=dict)
    """Videos with another fault."""
    files: set[Path] = field(default_factory=set)
    """All files that belong to a video, sound or not."""


def scan_features(
    source: FeatureSource, root: Path, videos: Iterable[VideoAnnotation], *, fold: str = ""
) -> FeatureScan:
    """Look at the headers of all files; faults are collected by video.

    Raises:
        InputError: a folder is missing, `fold` is wanted or not, the layout is in doubt, or the width is not as told.
    """
    folders = [_folder(root, stream, source, fold) for stream in source.streams]
    videos, scan = list(videos), FeatureScan()
    headers: dict[str, Files] = {}
    for video in videos:
        try:
            found = [_find(folder, stream, video.name) for folder, stream in zip(folders, source.streams, strict=True)]
            scan.files.update(path for candidates in found for path in candidates)
            paths = [_only(candidates, video.name) for candidates in found]
            headers[video.name] = [(path, read_header(path)) for path in paths]
        except _MissingFeaturesError as error:
            scan.missing[video.name] = error
        except InputError as error:
            scan.faults[video.name] = error
    if headers:
        _judge(scan, source, folders, headers, _expected_steps(source.sampling, videos))
    return scan


class _MissingFeaturesError(InputError):
    """A video has no feature file."""


def _folder(root: Path, stream: FeatureStream, source: FeatureSource, fold: str) -> Path:
    if source.per_fold and not fold:
        raise InputError(f"{stream.folder}: features made for every fold; say which fold they are wanted for")
    folder = root / stream.folder.replace(FOLD, fold)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected one with a feature file per video")
    return folder


def _find(folder: Path, stream: FeatureStream, video: str) -> list[Path]:
    """The files of a video under its name, or else its `other_name`; at least one."""
    for name in (video, other_name(video)):
        stem = f"{stream.prefix}{name}{stream.suffix}"
        found = [path for path in (folder / f"{stem}{kind}" for kind in FEATURE_SUFFIXES) if path.is_file()]
        if found:
            return found
    expected = folder / f"{stream.prefix}{video}{stream.suffix}{FEATURE_SUFFIXES[0]}"
    raise _MissingFeaturesError(f"{expected}: no features of {video!r}; extract them, or leave out the video")


def _only(files: list[Path], video: str) -> Path:
    if len(files) > 1:
        names = " and ".join(path.name for path in files)
        raise InputError(f"{files[0].parent}: features of {video!r} are there twice, as {names}; keep one of them")
    return files[0]


def _expected_steps(sampling: FeatureSampling, videos: Iterable[VideoAnnotation]) -> dict[str, float]:
    """Steps (before `every`) that the durations let expect, where the rate is known and the same for all of a video."""
    if sampling.whole_video:
        return {}
    rates = ((video, sampling.fps or video.fps) for video in videos)
    return {video.name: video.duration_s * fps / sampling.stride for video, fps in rates if video.duration_s and fps}


def _judge(
    scan: FeatureScan,
    source: FeatureSource,
    folders: list[Path],
    headers: Mapping[str, Files],
    expected_steps: Mapping[str, float],
) -> None:
    """Find layouts and widths, then take each video into the scan, as sound or with its fault."""
    layouts: list[Layout] = []
    for index, folder in enumerate(folders):
        shapes = {video: files[index][1].shape for video, files in headers.items()}
        width = source.width if len(folders) == 1 else None
        found = find_layout(shapes, str(folder), width, expected_steps) if source.layout == "auto" else source.layout
        layouts.append(found)
    scan.layouts = tuple(layouts)
    scan.widths = tuple(
        Counter(files[index][1].width(layout) for files in headers.values()).most_common(1)[0][0]
        for index, layout in enumerate(layouts)
    )
    if source.width not in (None, sum(scan.widths)):
        parts = " + ".join(map(str, scan.widths))
        raise InputError(f"{folders[0]}: features of {parts} channels, expected {source.width} as told; correct one")
    for video, files in headers.items():
        try:
            scan.videos[video] = _checked(files, source, scan)
        except InputError as error:
            scan.faults[video] = error


def _checked(files: Files, source: FeatureSource, scan: FeatureScan) -> VideoFeatures:
    for (path, header), layout, width in zip(files, scan.layouts, scan.widths, strict=True):
        if header.width(layout) != width:
            raise InputError(
                f"{path}: {header.width(layout)} channels in {list(header.shape)}, most others have {width}; {AGAIN}"
            )
        if header.steps(layout) == 0:
            raise InputError(
                f"{path}: no steps at all, expected at least one; extract the features of this video again"
            )
    stored = tuple(header.steps(layout) for (_, header), layout in zip(files, scan.layouts, strict=True))
    if source.uneven == "cut" and max(stored) - min(stored) > UNEVEN_STEPS:
        raise InputError(
            f"{files[0][0]}: streams of {' and '.join(map(str, stored))} steps, expected at most {UNEVEN_STEPS} of "
            "difference; extract both from the same frames, or stretch them: uneven stretch"
        )
    common = min(stored) if source.uneven == "cut" else max(stored)
    steps = source.resize or -(-common // source.sampling.every)
    return VideoFeatures(tuple(path for path, _ in files), common, steps)
