"""Prepare a data set: make frame stores, one annotation file and a report from videos and annotations.

<out>/frames/            RGB store        (see frame_store.py)
<out>/flow/              flow store, if requested
<out>/annotations.json   ActivityNet form, seconds: the one annotation format of training
<out>/prepare_report.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from runtime.annotations.activitynet import class_names, parse_annotations
from runtime.annotations.ground_truth import load_ground_truth
from runtime.common.files import read_json, require_writable_folder, write_json, write_text
from runtime.common.locks import lock_folder
from runtime.common.ranges import Frames, FramesPerSecond, Pixels, Processes, check_ranges
from runtime.common.text import counted
from runtime.errors import AnnotationError, InputError
from runtime.fleet.options import FleetOptions
from runtime.video.flow import FlowEstimator, FlowMethod
from runtime.video.names import ID_PREFIX, spell_name
from runtime.video.sampling import FrameTiming
from runtime.video.sources import VIDEO_SUFFIXES
from training.preparation.annotation_faults import list_classes, note_annotations, note_rates, read_durations
from training.preparation.fleet import build_on_ray
from training.preparation.preparation_report import Findings, PreparationReport
from training.preparation.thumos14 import (
    SUBSET_NAMES,
    Faults,
    Subset,
    ThumosTables,
    find_faults,
    make_database,
    read_tables,
)
from training.stores.flow_store import FLOW_STORE, build_flow_store
from training.stores.frame_store import INDEX, FrameStore
from training.stores.store_building import RGB_STORE, build_frame_store

ANNOTATIONS = "annotations.json"
CLASSES = "classes.txt"
WRITTEN = "afsd prepare 1"
"""Value of "version" in the annotation files that are written here; another file is not written over."""
THUMOS_FPS = 10.0
ACTIVITYNET_FRAMES = 768
Stream = Literal["rgb", "flow"]


@dataclass(frozen=True)
class StoreOptions:
    """Holds the options of the frame stores."""

    streams: tuple[Stream, ...] = ("rgb",)
    """Streams to store; "flow" is computed from the RGB arrays, which are always made."""
    flow_method: FlowMethod = "auto"
    flow_jpeg: bool = False
    """Compress frames and flow by JPEG, as the published flow was."""
    sample_fps: FramesPerSecond | None = 10.0
    """Sampled frames per second; None with `whole_frames`."""
    whole_frames: Frames | None = None
    """Number T of frames to which whole videos are sampled down."""
    timing: FrameTiming | None = None
    """Rule by which frames of own videos are taken; None: that of the store, by time stamps in a new one. Frames of the
    published data sets are counted, as their arrays were."""
    frame_size: Pixels = 112
    """Side of the square frame, pixels."""
    allow_truncated: bool = False
    """Take what can be read of a video that is cut off or damaged."""
    workers: Processes | None = None
    """Number of processes; None: one per CPU."""
    progress: bool = True
    fleet: FleetOptions | None = None
    """Build the stores on Ray, with these options, in place of processes of this machine; None: do not."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class _Stores:
    rgb: FrameStore
    flow: FrameStore | None

    def facts(self) -> dict[str, str]:
        """Describe the stores."""
        found = {"RGB": _describe_store(self.rgb)}
        if self.flow is not None:
            found["flow"] = f"{_describe_store(self.flow)}, {self.flow.flow_method}"
        return found


def prepare_thumos14(
    videos_dir: Path,
    tables_dir: Path,
    out: Path,
    *,
    subsets: Sequence[Subset] = ("val", "test"),
    faults: Faults = "keep",
    options: StoreOptions,
) -> PreparationReport:
    """Prepare THUMOS14 from its videos and the published tables; the module's docstring lists the files written.

    Args:
        videos_dir: folder with <video>.mp4 of the subsets.
        tables_dir: see `training.preparation.thumos14`.
        subsets: val (the training set, "training" in the annotation file), test, or both.
        faults: whether the tables' known faults are kept or repaired; "keep" gives the published training clips.

    Raises:
        AnnotationError: a table is missing or malformed; raised before any video is read.
        InputError: the folder of videos is missing, or `out` holds stores of another kind.
    """
    require_writable_folder(out, "choose another --out")
    _require_ours(out)
    tables = {subset: read_tables(tables_dir, subset) for subset in subsets}
    found = Findings()
    for each in tables.values():
        find_faults(each, faults, found)
    _read_other_subsets(out / ANNOTATIONS, subsets)  # raises before any video is read
    names = [video.name for each in tables.values() for video in each.videos]
    stores = _build_stores(videos_dir, names, out, replace(options, timing="counted"), found)
    for each in tables.values():
        _compare_counts(each, stores.rgb, found)
    database = {
        name: entry for subset, each in tables.items() for name, entry in make_database(each, subset, faults).items()
    }
    return _finish(
        out,
        lambda: _read_other_subsets(out / ANNOTATIONS, subsets) | database,
        stores,
        found,
        {"times": f"faults of the tables: {faults}"},
    )


def _require_ours(out: Path, classes_file: Path | None = None) -> None:
    """Raise an InputError if a file of others is where the annotations or the list of classes will be written."""
    path = out / ANNOTATIONS
    if path.exists():
        document = read_json(path, "file of annotations", AnnotationError)
        ours = isinstance(document, Mapping) and document.get("version") == WRITTEN
        if not ours and not (out / RGB_STORE / INDEX).exists():  # earlier releases wrote no version
            raise InputError(
                f"{path}: is there already, not written by afsd prepare, and would be lost; use another --out"
            )
    listed = out / CLASSES
    if listed.exists() and not path.exists() and not (classes_file and listed.samefile(classes_file)):
        raise InputError(f"{listed}: is there already and would be lost; use another --out")


def _read_other_subsets(path: Path, subsets: Sequence[Subset]) -> dict[str, Any]:
    """Read the entries to keep from an earlier annotation file: those of subsets that are not prepared now."""
    if not path.is_file():
        return {}
    written = {SUBSET_NAMES[subset] for subset in subsets}
    entries = _read_database(path, Findings())
    return {name: entry for name, entry in entries.items() if entry.get("subset") not in written}


def prepare_activitynet(
    videos_dir: Path, annotations: Path, out: Path, *, classes_file: Path | None = None, options: StoreOptions
) -> PreparationReport:
    """Prepare ActivityNet from its videos and JSON: each video at fps·min(768/frames, 1), its first 768 frames.

    Frames are decoded and resized directly; the released code re-encodes the videos with ffmpeg first. Videos are named
    v_<id> in the output, as the published arrays are; a video file may be called v_<id> or <id>. Videos of subset
    "testing" and instances that do not end after they start are left out.

    Args:
        annotations: activity_net.v1-3.json or another file of its form.
        classes_file: class names, one a line; default: the labels of the annotations, sorted.

    Raises:
        AnnotationError: the annotations cannot be read, or a label is not in the list.
        InputError: the folder of videos or the list of classes is missing, or `out` holds stores of another kind.
    """
    _require_ours(out, classes_file)
    found = Findings()
    database = {
        name: entry for name, entry in _read_database(annotations, found).items() if entry.get("subset") != "testing"
    }
    videos = parse_annotations({"database": database}, str(annotations))
    if not videos:
        raise AnnotationError(f"{annotations}: no video outside the subset 'testing'; is it the ActivityNet file?")
    classes = list_classes(videos, classes_file)
    renamed = _use_file_names(database)
    require_writable_folder(out, "choose another --out")
    stores = _build_stores(videos_dir, list(renamed), out, replace(options, timing="counted"), found)
    videos = parse_annotations({"database": renamed}, str(annotations))
    note_annotations(videos, read_durations(stores.rgb), found)
    note_rates(videos, stores.rgb, found)
    write_text(out / CLASSES, "".join(f"{name}\n" for name in classes))
    return _finish(out, lambda: renamed, stores, found, {"classes": f"{len(classes)}, in {out / CLASSES}"})


def prepare_own(root: Path, *, annotations: str = ANNOTATIONS, options: StoreOptions) -> PreparationReport:
    """Prepare a user's data set: `root`/videos and annotations, which stay unchanged.

    Raises:
        AnnotationError: the annotations cannot be read.
        InputError: the folder `root`/videos is missing, or `root` holds stores of another kind.
    """
    found = Findings()
    if not root.is_dir():
        raise InputError(f"{root}: folder not found; expected one with videos/ and {annotations}")
    videos = load_ground_truth(root / annotations)
    if not videos:
        raise AnnotationError(f"{root / annotations}: names no video; annotate at least one")
    require_writable_folder(root, "choose another folder")
    stores = _build_stores(root / "videos", [video.name for video in videos], root, options, found)
    note_annotations(videos, read_durations(stores.rgb), found)
    note_rates(videos, stores.rgb, found)
    counts = {subset: [v for v in videos if v.subset == subset] for subset in sorted({v.subset for v in videos})}
    facts = {
        "classes": ", ".join(class_names(videos)) or "none",
        "subsets": ", ".join(f"{subset or '(none)'} {len(members)}" for subset, members in counts.items()),
    }
    report = PreparationReport({**stores.facts(), **facts}, found)
    report.write(root)
    return report


def _build_stores(videos_dir: Path, names: Sequence[str], out: Path, options: StoreOptions, found: Findings) -> _Stores:
    """Build the stores of the videos `names`; failures are noted and the other videos continue."""
    if not videos_dir.is_dir():
        raise InputError(
            f"{videos_dir}: folder of videos not found; expected one with the videos, called as in the annotations: "
            f"{names[0] if names else 'name'}.mp4 or another format"
        )
    if "flow" in options.streams:
        FlowEstimator(options.flow_method)  # raises for a method that OpenCV lacks, before hours of decoding
    build_all = None if options.fleet is None else partial(build_on_ray, options.fleet, out)
    _note_unannotated(videos_dir, names, found)
    rgb = build_frame_store(
        videos_dir,
        names,
        out / RGB_STORE,
        frame_size=options.frame_size,
        sample_fps=options.sample_fps,
        whole_frames=options.whole_frames,
        timing=options.timing,
        allow_truncated=options.allow_truncated,
        workers=options.workers,
        progress=options.progress,
        on_failure=found.fail,
        build_all=build_all,
    )
    there = [name for name in names if name in rgb.videos and name not in found.failures]
    for name in there:
        video = rgb.videos[name]
        if None not in (video.declared_frames, video.source_frames) and video.declared_frames != video.source_frames:
            found.note("videos with more or fewer frames than they declare", name)
    if "flow" not in options.streams:
        return _Stores(rgb, None)
    flow = build_flow_store(
        rgb,
        there,
        out / FLOW_STORE,
        method=options.flow_method,
        jpeg=options.flow_jpeg,
        workers=options.workers,
        progress=options.progress,
        on_failure=found.fail,
        build_all=build_all,
    )
    return _Stores(rgb, flow)


def _finish(
    out: Path, collect: Callable[[], dict[str, Any]], stores: _Stores, found: Findings, facts: Mapping[str, str]
) -> PreparationReport:
    """Write the annotations of the videos that were prepared, and the report.

    `collect` returns the entries, with those that another process has written to the folder by now.
    """
    with lock_folder(out, "afsd prepare"):
        database = collect()
        kept = {name: entry for name, entry in database.items() if name not in found.failures}
        write_json(out / ANNOTATIONS, {"version": WRITTEN, "database": kept})
    instances = sum(len(entry["annotations"]) for entry in kept.values())
    annotated = (
        f"{counted(instances, 'action')} in {len(kept)} of {counted(len(database), 'video')}, in {out / ANNOTATIONS}"
    )
    report = PreparationReport({**stores.facts(), "annotations": annotated, **facts}, found)
    report.write(out)
    return report


def _describe_store(store: FrameStore) -> str:
    frames = sum(video.frames for video in store.videos.values())
    sampling = store.sampling
    rate = f"{sampling.fps:g} fps" if sampling.fps else f"whole videos in up to {sampling.whole_frames} frames"
    held = f"{counted(len(store), 'video')}, {counted(frames, 'frame')}"
    return f"{held} of {sampling.frame_size} pixels, {rate}, in {store.folder}"


def _compare_counts(tables: ThumosTables, store: FrameStore, found: Findings) -> None:
    for video in tables.videos:
        stored = store.videos.get(video.name)
        if stored is None:
            continue
        if stored.frames != video.sampled:
            found.note("videos with another number of sampled frames than the table's sample_count", video.name)
        if stored.source_frames not in (None, int(video.frames)):
            found.note("videos with another number of frames than the table's count", video.name)


def _note_unannotated(videos_dir: Path, names: Sequence[str], found: Findings) -> None:
    """Note video files without annotation, and files that share their name with another file."""
    known = {spelling for name in names for spelling in spell_name(name)}
    seen: set[str] = set()
    for path in sorted(videos_dir.rglob("*")):
        place = path.relative_to(videos_dir)
        hidden = any(part.startswith(".") for part in place.parts[:-1])
        if hidden or path.suffix.lower() not in VIDEO_SUFFIXES or not path.is_file():
            continue
        if len(place.parts) > 1:
            if place.with_suffix("").as_posix() not in known:
                found.note(
                    "videos in folders, left out; annotations name one with its folder, as in day1/v", str(place)
                )
            continue
        if path.stem not in known:
            found.note("videos without annotation, left out", path.name)
        elif path.stem in seen:
            found.note("files that share their name with another file; rename them", path.name)
        seen.add(path.stem)


def _read_database(path: Path, found: Findings) -> dict[str, Any]:
    """Read the `database` of an ActivityNet file; instances that do not end after they start are noted and left out."""
    document = read_json(path, "ActivityNet annotation file", AnnotationError)
    try:
        entries = {str(name): dict(entry) for name, entry in document["database"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AnnotationError(f'{path}: not an ActivityNet file: expected {{"database": {{video: {{…}}}}}}') from None
    for name, entry in entries.items():
        if isinstance(entry.get("annotations"), list):
            kept = [item for item in entry["annotations"] if not _is_empty(item)]
            found.note(
                "actions that do not end after they start, left out", name, len(entry["annotations"]) - len(kept)
            )
            entry["annotations"] = kept
    return entries


def _is_empty(item: object) -> bool:
    """Return whether a well-formed annotation does not end after its start; the reader rejects malformed ones."""
    segment = item.get("segment") if isinstance(item, Mapping) else None
    try:
        start, end = map(float, segment or ())
    except (TypeError, ValueError):
        return False
    return end <= start


def _use_file_names(database: Mapping[str, Any]) -> dict[str, Any]:
    """Rename entries to ActivityNet's file names, v_<id>; if all names begin with v_, they are file names already."""
    if all(name.startswith(ID_PREFIX) for name in database):
        return dict(database)
    return {f"{ID_PREFIX}{name}": entry for name, entry in database.items()}
