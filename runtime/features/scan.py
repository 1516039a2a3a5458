"""Find the files of a feature set and read their headers; faults are reported by video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.files import is_file, is_folder
from runtime.common.names import require_safe_name
from runtime.errors import InputError
from runtime.features.axes import AxisOrder, axis_orders_by_width, find_axis_order
from runtime.features.description import FOLD, FeatureDescription, StreamFolder
from runtime.features.files import FEATURE_SUFFIXES, FeatureHeader, read_header
from runtime.features.video_features import StepReader, align_streams
from runtime.spec.time_axis import FeatureSampling
from runtime.video.names import spell_name

AGAIN = "extract the features of this video again"
Files = list[tuple[Path, FeatureHeader]]
"""Files and headers of one video, one pair per stream."""


class MissingFeaturesError(InputError):
    """Reports a video without a feature file."""


@dataclass
class FeatureScan:
    """Holds the files of a feature set, sound and faulty, by video."""

    orders: tuple[AxisOrder, ...] = ()
    """Axis order of each stream."""
    widths: tuple[int, ...] = ()
    """Channels of each stream."""
    videos: dict[str, StepReader] = field(default_factory=dict)
    """Readers of the videos without a fault."""
    missing: dict[str, InputError] = field(default_factory=dict)
    """Errors of the videos without a file."""
    faults: dict[str, InputError] = field(default_factory=dict)
    """Errors of the videos with another fault."""
    files: set[Path] = field(default_factory=set)
    """All files that belong to a video, sound or faulty."""


def scan_features(
    description: FeatureDescription, root: Path, videos: Iterable[VideoAnnotation], *, fold: str = ""
) -> FeatureScan:
    """Read the headers of all files and collect faults by video.

    Raises:
        InputError: a folder or `fold` is missing, the axis order is in doubt, or the width is not the description's.
    """
    folders = [stream_folder(root, stream, description, fold) for stream in description.streams]
    videos, scan = list(videos), FeatureScan()
    headers: dict[str, Files] = {}
    for video in videos:
        try:
            places = zip(folders, description.streams, strict=True)
            found = [find_files(folder, stream, video.name) for folder, stream in places]
            scan.files.update(path for candidates in found for path in candidates)
            paths = [require_one(candidates, video.name) for candidates in found]
            headers[video.name] = [(path, read_header(path)) for path in paths]
        except MissingFeaturesError as error:
            scan.missing[video.name] = error
        except InputError as error:
            scan.faults[video.name] = error
    if headers:
        _sort_videos(scan, description, folders, headers, _expected_steps(description.sampling, videos))
    return scan


def find_files(folder: Path, stream: StreamFolder, video: str) -> list[Path]:
    """Find the feature files of a video in a folder by the first spelling of its name that has any (see `spell_name`).

    Raises:
        MissingFeaturesError: there is no file.
        InputError: the name leads out of the folder, see `path_in`.
    """
    require_safe_name(video, FEATURE_SUFFIXES[0], deep=True)
    for name in spell_name(video):
        stem = f"{stream.prefix}{name}{stream.suffix}"
        found = [path for path in (folder / f"{stem}{kind}" for kind in FEATURE_SUFFIXES) if is_file(path)]
        if found:
            return found
    expected = folder / f"{stream.prefix}{video}{stream.suffix}{FEATURE_SUFFIXES[0]}"
    raise MissingFeaturesError(f"{expected}: no features of {video!r}; extract them, or leave out the video")


def require_one(files: Sequence[Path], video: str) -> Path:
    """Return the only one of a video's feature files (InputError: there are several)."""
    if len(files) > 1:
        names = " and ".join(path.name for path in files)
        raise InputError(f"{files[0].parent}: features of {video!r} exist twice, as {names}; keep one of them")
    return files[0]


def require_folder(folder: Path) -> Path:
    """Return the folder of a stream (InputError: the folder does not exist)."""
    if not is_folder(folder):
        raise InputError(f"{folder}: folder not found, expected one with a feature file per video")
    return folder


def stream_folder(root: Path, stream: StreamFolder, description: FeatureDescription, fold: str) -> Path:
    """Return the folder of a stream's files, of a fold where each has its own (InputError: missing folder or fold)."""
    if description.per_fold and not fold:
        raise InputError(f"{stream.folder}: features made for every fold; give the fold")
    if description.per_fold:
        require_safe_name(fold, what="the name of a fold")
    return require_folder(root / stream.folder.replace(FOLD, fold))


def _expected_steps(sampling: FeatureSampling, videos: Iterable[VideoAnnotation]) -> dict[str, float]:
    """Return the steps (before `every`) expected from each video's duration, where rate and duration are known."""
    if sampling.whole_video:
        return {}
    rates = ((video, sampling.fps or video.fps) for video in videos)
    return {video.name: video.duration_s * fps / sampling.stride for video, fps in rates if video.duration_s and fps}


def _sort_videos(
    scan: FeatureScan,
    description: FeatureDescription,
    folders: Sequence[Path],
    headers: Mapping[str, Files],
    expected_steps: Mapping[str, float],
) -> None:
    """Find axis orders and widths, then enter each video into the scan, as sound or with its fault."""
    scan.orders = _axis_orders(description, folders, headers, expected_steps)
    scan.widths = tuple(
        Counter(files[index][1].width(order) for files in headers.values()).most_common(1)[0][0]
        for index, order in enumerate(scan.orders)
    )
    if description.width not in (None, sum(scan.widths)):
        parts = " + ".join(map(str, scan.widths))
        raise InputError(f"{folders[0]}: features of {parts} channels, expected {description.width}; correct one")
    for video, files in headers.items():
        try:
            scan.videos[video] = _make_reader(files, description, scan)
        except InputError as error:
            scan.faults[video] = error


def _axis_orders(
    description: FeatureDescription,
    folders: Sequence[Path],
    headers: Mapping[str, Files],
    expected_steps: Mapping[str, float],
) -> tuple[AxisOrder, ...]:
    """Find the axis order of each stream: as described, else by the width of all streams, else stream by stream."""
    if description.layout != "auto":
        return (description.layout,) * len(folders)
    shapes = {video: [header.shape for _, header in files] for video, files in headers.items()}
    if description.width is not None:
        fitting = axis_orders_by_width(list(shapes.values()), description.width)
        if len(fitting) == 1:
            return fitting[0]
    return tuple(
        find_axis_order({video: streams[index] for video, streams in shapes.items()}, str(folder), expected_steps)
        for index, folder in enumerate(folders)
    )


def _make_reader(files: Files, description: FeatureDescription, scan: FeatureScan) -> StepReader:
    for (path, header), order, width in zip(files, scan.orders, scan.widths, strict=True):
        if header.width(order) != width:
            raise InputError(
                f"{path}: {header.width(order)} channels in {list(header.shape)}, most others have {width}; {AGAIN}"
            )
        if header.steps(order) == 0:
            raise InputError(f"{path}: no steps at all, expected at least one; {AGAIN}")
    steps = [header.steps(order) for (_, header), order in zip(files, scan.orders, strict=True)]
    return StepReader(
        streams=tuple(path for path, _ in files),
        orders=scan.orders,
        common=align_streams(steps, description.uneven, str(files[0][0])),
        stretch=description.uneven == "stretch",
        every=description.sampling.every,
        resize=description.resize,
    )
