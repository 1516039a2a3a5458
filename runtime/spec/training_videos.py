"""Define what a model remembers of the videos that it was trained and chosen on, so that nobody judges it on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.common.ranges import Number, check_ranges

LISTED = 20_000
"""Most videos that are listed by name; with their digests they take about 0.7 MB in an artifact."""


@dataclass(frozen=True)
class TrainingVideos:
    """Holds names and contents of the videos that a network was trained on, and of those that chose its epoch."""

    trained: dict[str, str] = field(default_factory=dict)
    """Videos that the network was trained on → the first 16 digits of the SHA-256 of each (`identify_video`), empty
    where it is not known; of more than `LISTED` videos a part."""
    count: Number = 0
    """Number of videos that the network was trained on, also of those that are not listed."""
    chosen: dict[str, str] = field(default_factory=dict)
    """Videos that chose the best epoch of the run, in the same form; none for a network that was not chosen."""
    fold: str = ""
    """Name of the fold whose training videos these are; empty: the data set has one division."""
    feature_fold: str = ""
    """Name of the fold whose features the network was trained on; empty: features are the same for all folds, or the
    network sees frames."""

    def __post_init__(self) -> None:
        check_ranges(self)


def remember_videos(trained: Mapping[str, str], *, fold: str = "", feature_fold: str = "") -> TrainingVideos:
    """Return the record of a training set.

    Args:
        trained: name → digest of each video, see `TrainingVideos.trained`.
        fold, feature_fold: see `TrainingVideos`.
    """
    return TrainingVideos(list_some(trained), len(trained), fold=fold, feature_fold=feature_fold)


def join_training_videos(one: TrainingVideos | None, other: TrainingVideos | None) -> TrainingVideos | None:
    """Return the record of two networks that are used as one; None where neither has a record.

    A video that both were trained on counts once. Folds that differ are left out.
    """
    if one is None or other is None:
        return one or other
    trained = {**other.trained, **one.trained}
    unlisted = max(one.count - len(one.trained), other.count - len(other.trained), 0)
    return TrainingVideos(
        trained=list_some(trained),
        count=len(trained) + unlisted,
        chosen={**other.chosen, **one.chosen},
        fold=one.fold if one.fold == other.fold else "",
        feature_fold=one.feature_fold if one.feature_fold == other.feature_fold else "",
    )


def list_some(videos: Mapping[str, str]) -> dict[str, str]:
    """Return at most `LISTED` of the videos, spread evenly over their sorted names."""
    names = sorted(videos)
    count = min(len(names), LISTED)
    return {name: videos[name] for name in (names[index * len(names) // count] for index in range(count))}
