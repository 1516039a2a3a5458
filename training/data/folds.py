"""Divide videos into training and test videos: by subset, list, group, or at random.

A single split is one fold; a cross-validation has several. `make_folds` checks that each video is in a fold once and
is in the annotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

from runtime.annotations.activitynet import VideoAnnotation, parse_annotations, parse_splits, read_document
from runtime.common.files import read_text
from runtime.common.ranges import Count, Seed, check_ranges
from runtime.common.text import one_line, quote
from runtime.errors import AnnotationError, InputError
from runtime.features.description import FOLD
from runtime.video.names import find_name

By = Literal["subsets", "splits", "lists", "groups", "random"]


@dataclass(frozen=True)
class Fold:
    """Holds one division of the videos into training and test videos."""

    name: str
    train: tuple[str, ...]
    """Names of the training videos."""
    test: tuple[str, ...]
    """Names of the test videos."""
    features: str = ""
    """Replacement for `{fold}` in the folders of features made for every fold; empty: the fold's name."""

    @property
    def feature_fold(self) -> str:
        """Replacement for `{fold}` in the folders of features."""
        return self.features or self.name


@dataclass(frozen=True)
class FoldRule:
    """Describes how folds are made from an annotation file; see `make_folds`."""

    by: By = "subsets"
    """Origin of the folds. "subsets": one fold, by the subsets of the videos. "splits": the entry "splits" of the
    annotation file, {fold: {"train": [video, …], "test": […]}}. "lists": text files, one video a line. "groups": leave
    one group out. "random": `count` folds of sizes that differ by at most one video, drawn with `seed`."""
    train: str = "training"
    """Subset of the training videos; or path of their lists, relative to the annotation file, with `{fold}` for the
    name."""
    test: str = "test"
    """Subset of the test videos, or path of their lists."""
    group: str = ""
    """Regular expression of a video's group in its name: the first bracket, or the whole match (GTEA: ^S.)."""
    count: Count = 5
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.by == "lists" and (FOLD in self.train) != (FOLD in self.test):
            raise ValueError(f"train {self.train!r}, test {self.test!r}: expected {FOLD} in both, or in neither")
        if self.by == "groups" and not self.group:
            raise ValueError("group is empty, expected a regular expression that finds a video's group in its name")
        require_regular_expression("group", self.group)


def require_regular_expression(name: str, text: str) -> None:
    """Raise a ValueError unless a setting is a regular expression."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{name} {quote(text)} is not a regular expression: {one_line(error)}") from None


def make_folds(annotations: Path, rule: FoldRule) -> tuple[Fold, ...]:
    """Make the folds of a data set.

    Args:
        annotations: ActivityNet JSON.
        rule: how the folds are made.

    Raises:
        AnnotationError: the annotation file cannot be read, lacks the subset, or has no or malformed "splits".
        InputError: a list is missing or names an unknown video, a video is in a fold twice, or a fold has a side
            without any video.
    """
    document = read_document(annotations)
    videos = parse_annotations(document, str(annotations))
    names = [video.name for video in videos]
    if rule.by == "subsets":
        train, test = (_find_subset(videos, subset, annotations) for subset in (rule.train, rule.test))
        folds = [Fold("all", train, test)]
    elif rule.by == "splits":
        folds = _read_splits(document, annotations)
    elif rule.by == "lists":
        folds = _read_lists(annotations.parent, rule)
    elif rule.by == "groups":
        folds = leave_one_group_out(names, rule.group)
    else:
        folds = draw_folds(names, rule.count, rule.seed)
    return tuple(_match_names(fold, names, str(annotations)) for fold in folds)


def leave_one_group_out(names: Sequence[str], group: str) -> list[Fold]:
    """Make one fold per group, tested on the group and named after it, in sorted order.

    Args:
        names: names of the videos.
        group: see `FoldRule.group`.

    Raises:
        InputError: a video without a group, or fewer than two groups.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        found = re.search(group, name)
        if found is None:
            raise InputError(f"{name}: the group {group!r} is not in the video's name; give another expression")
        part = found.group(1) if found.re.groups else found.group()
        if not part:
            raise InputError(f"{name}: the group {group!r} is empty in the video's name; give another expression")
        groups.setdefault(part, []).append(name)
    if len(groups) < 2:
        raise InputError(f"group {group!r} gives {len(groups)} groups of {len(names)} videos, expected two or more")
    return [
        Fold(key, tuple(n for other in sorted(groups) if other != key for n in groups[other]), tuple(groups[key]))
        for key in sorted(groups)
    ]


def draw_folds(names: Sequence[str], count: int, seed: int = 0) -> list[Fold]:
    """Draw `count` folds named 1, 2, …; each video is tested in one of them, whatever the order of the names.

    Raises:
        InputError: fewer than two folds, or more than videos.
    """
    if not 2 <= count <= len(names):
        raise InputError(f"{count} folds of {len(names)} videos: expected 2 to as many as there are videos")
    drawn = sorted(names)
    Random(seed).shuffle(drawn)
    parts = [tuple(sorted(drawn[index::count])) for index in range(count)]
    return [Fold(str(index + 1), tuple(sorted(set(drawn) - set(part))), part) for index, part in enumerate(parts)]


def make_inner_folds(fold: Fold, group: str, unseen_in: Sequence[Fold] | None = None) -> tuple[Fold, ...]:
    """Divide a fold's training videos into inner folds, one per group, to choose settings without its test videos.

    Args:
        fold: the outer fold.
        group: see `FoldRule.group`.
        unseen_in: folds that test the groups; an inner fold takes the features of the fold that tests its group, whose
            extractor has not seen the group. None: the features of the outer fold.

    Raises:
        InputError: see `leave_one_group_out`; or a group that no fold of `unseen_in` tests whole.
    """
    inner = leave_one_group_out(fold.train, group)
    features = [fold.feature_fold if unseen_in is None else _find_test(each, unseen_in).feature_fold for each in inner]
    return tuple(
        replace(each, name=f"{fold.name}/{each.name}", features=own) for each, own in zip(inner, features, strict=True)
    )


def _find_test(inner: Fold, folds: Sequence[Fold]) -> Fold:
    """Return the fold that tests all test videos of an inner fold."""
    found = next((fold for fold in folds if set(inner.test) <= set(fold.test)), None)
    if found is None:
        raise InputError(f"group {inner.name}: no fold tests all of it; set data.inner_features to fold")
    return found


def _find_subset(videos: Iterable[VideoAnnotation], subset: str, origin: Path) -> tuple[str, ...]:
    """Return the videos of a subset, in any case of its name as in ActionFormer, unless that joins two subsets."""
    videos = list(videos)
    there = {video.subset for video in videos}
    alike = {name for name in there if name.lower() == subset.lower()}
    chosen = {subset} if subset in there else alike
    if len(chosen) != 1:
        listed = ", ".join(sorted(map(repr, there))) or "no video at all"
        raise AnnotationError(f"{origin}: no video of subset {subset!r}, or several such; the file has {listed}")
    return tuple(video.name for video in videos if video.subset in chosen)


def _read_splits(document: object, origin: Path) -> list[Fold]:
    splits = parse_splits(document, str(origin))
    if not splits:
        raise AnnotationError(
            f'{origin}: no "splits"; expected {{fold: {{"train": [video, …], "test": […]}}}}, or other folds: '
            "data.split.by subsets, lists, groups or random"
        )
    return [Fold(name, train, test) for name, (train, test) in splits.items()]


def _read_lists(root: Path, rule: FoldRule) -> list[Fold]:
    if FOLD not in rule.test:
        return [Fold("all", read_list(root / rule.train), read_list(root / rule.test))]
    pattern = root / rule.test
    first = next(index for index, part in enumerate(pattern.parts) if FOLD in part)
    found = Path(*pattern.parts[:first]).glob("/".join(pattern.parts[first:]).replace(FOLD, "*"))
    before, after = map(len, pattern.as_posix().split(FOLD, 1))
    names = sorted(path.as_posix()[before : len(path.as_posix()) - after] for path in found)
    if not names:
        raise InputError(f"{pattern}: no list found, expected one file per fold, a video a line")
    sides = ((rule.train.replace(FOLD, name), rule.test.replace(FOLD, name)) for name in names)
    return [
        Fold(name, read_list(root / train), read_list(root / test))
        for name, (train, test) in zip(names, sides, strict=True)
    ]


def read_list(path: Path) -> tuple[str, ...]:
    """Read a list of names, one a line; blank lines are skipped (InputError: the file cannot be read)."""
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of names, one a line: {error}") from None
    return tuple(line.strip() for line in lines if line.strip())


def _match_names(fold: Fold, names: Sequence[str], origin: str) -> Fold:
    """Return the fold with the annotations' names of its videos (InputError: unknown, twice or no video)."""
    known = set(names)
    train, test = (
        tuple(_match_name(video, known, fold.name, origin) for video in side) for side in (fold.train, fold.test)
    )
    for side, videos in (("train", train), ("test", test)):
        if not videos:
            raise InputError(f"{origin}: fold {fold.name}: no video to {side} on, expected at least one")
    together = [*train, *test]
    if len(set(together)) < len(together):
        twice = next(video for video in together if together.count(video) > 1)
        raise InputError(f"{origin}: fold {fold.name}: {twice!r} is listed twice, expected once, in train or in test")
    return replace(fold, train=train, test=test)


def _match_name(video: str, known: set[str], fold: str, origin: str) -> str:
    """Return the annotations' name of a video or of a file of it (S1_Tea_C1.txt)."""
    found = find_name(video, known) or find_name(Path(video).stem, known)
    if found is None:
        raise InputError(f"{origin}: fold {fold}: {video!r} is not among the annotated videos; correct the list")
    return found
