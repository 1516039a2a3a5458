"""Prepare a feature set: make a description and a report from folders of feature files and annotations.

<out>/features.json         see `runtime.features.description`; features and annotations stay in place
<out>/prepare_report.json
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from runtime.annotations.activitynet import VideoAnnotation, load_annotations, read_document
from runtime.common.console import ProgressLine
from runtime.common.files import require_writable_folder
from runtime.common.text import counted
from runtime.errors import InputError
from runtime.features.description import FEATURES, FOLD, FeatureDescription, read_description, write_description
from runtime.features.feature_set import FeatureSet
from runtime.features.files import FEATURE_SUFFIXES
from runtime.features.scan import FeatureScan, scan_features
from training.preparation.annotation_faults import list_classes, note_annotations
from training.preparation.preparation_report import Findings, PreparationReport


def prepare_features(given: FeatureDescription, out: Path, *, classes_file: Path | None = None) -> PreparationReport:
    """Check every value of a feature set, describe the set in `out`/features.json, and report what is odd.

    Args:
        given: description with folders and annotations relative to the working directory.
        out: folder of the description that is written, with folders relative to `out`.
        classes_file: the model's classes, one a line; default: the labels of the annotations.

    Raises:
        AnnotationError: the annotations cannot be read, or have a label that is not in the list of classes.
        InputError: a folder is missing, the layout is ambiguous, no video has valid features, or the folder has a
            features.json of another kind.
    """
    if (out / FEATURES).exists():
        read_description(out / FEATURES)  # raises for another file, which would be lost
    require_writable_folder(out, "choose another --out")
    found = Findings()
    videos = load_annotations(given.annotations)
    classes = list_classes(videos, classes_file)
    folds = _find_folds(given)
    sets = {fold: _open_set(given, videos, fold, found) for fold in folds}
    first = sets[folds[0]]
    there = [video for video in videos if video.name in first.videos]
    for fold in folds[1:]:
        for name in sorted(first.videos.keys() & sets[fold].videos.keys()):
            if sets[fold].steps(name) != first.steps(name):
                found.note(f"videos with other numbers of steps in fold {fold}", name)
    _note_times(there, first, found)
    _note_label_ids(given.annotations, found)
    write_description(out / FEATURES, _describe(given, out, first))
    report = PreparationReport(_describe_content(given, out, there, first, folds, classes), found)
    report.write(out)
    return report


def _find_folds(given: FeatureDescription) -> list[str]:
    """Find the replacements for `{fold}` among the folders; one empty name if all folds share their features."""
    if not given.per_fold:
        return [""]
    pattern = next(Path(stream.folder) for stream in given.streams if FOLD in stream.folder)
    if FOLD not in pattern.name or FOLD in str(pattern.parent):
        raise InputError(f"{pattern}: expected {FOLD} only in the last folder's name")
    before, after = map(len, pattern.name.split(FOLD, 1))
    folders = (path for path in pattern.parent.glob(pattern.name.replace(FOLD, "*")) if path.is_dir())
    folds = sorted(path.name[before : len(path.name) - after] for path in folders)
    if not folds:
        raise InputError(f"{pattern}: no folder found, expected one per fold")
    return folds


def _open_set(given: FeatureDescription, videos: Sequence[VideoAnnotation], fold: str, found: Findings) -> FeatureSet:
    """Open the videos whose features have only valid values; the others are noted."""
    scan = scan_features(given, Path(), videos, fold=fold)
    faults = scan.missing | scan.faults
    sound = [video for video in videos if video.name not in faults]
    if not sound:
        raise next(iter(faults.values()), InputError(f"{given.annotations}: names no video; annotate at least one"))
    features = FeatureSet(given, Path(), sound, fold=fold)
    with ProgressLine() as line:
        for number, video in enumerate(sound):
            line.show(f"features {number + 1} of {len(sound)}: {video.name}")
            try:
                features.read(video.name)
            except InputError as error:
                faults[video.name] = error
    for name, fault in faults.items():
        found.fail(f"{name} (fold {fold})" if fold else name, fault)
    _note_unannotated(scan, given, fold, found)
    left = [video for video in sound if video.name not in faults]
    if not left:
        raise next(iter(faults.values()))
    return FeatureSet(given, Path(), left, fold=fold)


def _note_unannotated(scan: FeatureScan, given: FeatureDescription, fold: str, found: Findings) -> None:
    """Note feature files without annotation."""
    for stream in given.streams:
        for path in sorted(Path(stream.folder.replace(FOLD, fold)).iterdir()):
            if path.suffix.lower() in FEATURE_SUFFIXES and path not in scan.files:
                found.note("feature files without annotation, left out", path.name)


def _note_times(videos: Sequence[VideoAnnotation], features: FeatureSet, found: Findings) -> None:
    """Note faults of annotations against the time that the features cover."""
    time_axes = {video.name: features.time_axis(video.name) for video in videos}
    extents = {name: axis.extent_s(features.steps(name)) for name, axis in time_axes.items()}
    note_annotations(videos, extents, found, slack_s=max(axis.step_s for axis in time_axes.values()))
    for video in videos:
        short = sum(0 < i.end_s - i.start_s < time_axes[video.name].step_s for i in video.instances)
        found.note("actions shorter than one step", video.name, count=short)
        found.note("actions annotated twice", video.name, len(video.instances) - len(set(video.instances)))


def _note_label_ids(annotations: str, found: Findings) -> None:
    """Note labels with several numbers, and numbers with several labels (`label_id`, ActionFormer)."""
    document = read_document(annotations)
    pairs = {
        (item["label"], str(item["label_id"]))
        for video in document["database"].values()  # type: ignore[index]  # load_annotations has read it
        for item in video["annotations"]
        if "label_id" in item
    }
    for label, times in Counter(label for label, _ in pairs).items():
        if times > 1:
            found.note("labels with several label_id; classes go by label", label)
    for number, times in Counter(number for _, number in pairs).items():
        if times > 1:
            found.note("label_id that several labels share; classes go by label", number)


def _describe(given: FeatureDescription, out: Path, features: FeatureSet) -> FeatureDescription:
    """Complete the description with layout and width, and make its paths relative to `out`."""
    orders = set(features.orders)
    return replace(
        given,
        annotations=_relative(given.annotations, out),
        streams=tuple(replace(stream, folder=_relative(stream.folder, out)) for stream in given.streams),
        layout=orders.pop() if len(orders) == 1 else "auto",
        width=features.width,
    )


def _relative(path: str, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _describe_content(
    given: FeatureDescription,
    out: Path,
    videos: Sequence[VideoAnnotation],
    features: FeatureSet,
    folds: Sequence[str],
    classes: Sequence[str],
) -> Mapping[str, str]:
    """Describe steps, videos, actions, classes and subsets of the set."""
    steps = [features.steps(video.name) for video in videos]
    step_s = [features.time_axis(video.name).step_s for video in videos]
    seconds = [features.time_axis(video.name).extent_s(count) for video, count in zip(videos, steps, strict=True)]
    widths = " + ".join(map(str, features.widths))
    where = ", ".join(stream.folder for stream in given.streams)
    per_fold = f", {counted(len(folds), 'fold')}: {', '.join(folds)}" if given.per_fold else ""
    actions = [(i.end_s - i.start_s, at) for video, at in zip(videos, step_s, strict=True) for i in video.instances]
    counts = Counter(instance.label for video in videos for instance in video.instances)
    subsets = Counter(video.subset or "(none)" for video in videos)
    return {
        "features": f"{counted(len(videos), 'video')}, {counted(sum(steps), 'step')} of {widths} channels, in {where}"
        + per_fold,
        "steps": f"{_spread(steps)} in a video; {_spread(step_s, ' s')} from one to the next",
        "videos": f"{_spread(seconds, ' s')} long, {sum(seconds) / 60:.1f} minutes together",
        "actions": f"{len(actions)}: {_spread([length for length, _ in actions], ' s')}; "
        f"{_spread([length / at for length, at in actions], ' steps')}",
        "classes": f"{len(classes)}: " + ", ".join(f"{name} {counts[name]}" for name in classes),
        "subsets": ", ".join(f"{name} {count}" for name, count in sorted(subsets.items())),
        "description": str(out / FEATURES),
    }


def _spread(values: Sequence[float], unit: str = "") -> str:
    """Format the smallest, largest and median value."""
    if not values:
        return "none"
    low, middle, high = min(values), float(np.median(values)), max(values)
    if low == high:
        return f"{low:.4g}{unit}"
    return f"{low:.4g} to {high:.4g}{unit} (median {middle:.4g})"
