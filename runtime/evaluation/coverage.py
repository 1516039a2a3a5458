"""Say which annotated videos the detections lack, and which of their videos are not annotated."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.text import counted, quote, some
from runtime.errors import InputError
from runtime.evaluation.matching import Rule
from runtime.results.detections import Detections
from runtime.video.names import find_name


def require_common(
    found: Sequence[Detections], truth: Sequence[VideoAnnotation], origin: str, judged_by: str, choose: str = ""
) -> None:
    """Check that the detections are of one annotated video at least, which says that both name videos alike.

    Detections of no video at all pass: some formats hold no video in which nothing was found. Detections of other
    videos alone do not, in any format: an mAP of 0 would say of the model what is a mistake in names or in the choice.

    Args:
        found: the detections.
        truth: the annotated videos that are judged.
        origin: file or folder of the detections, for the error.
        judged_by: what the annotations are, for the error, as in "fold 1 of truth.json".
        choose: flag that chooses other videos to judge; empty: none does.

    Raises:
        InputError: videos on both sides, and none of one is among the other's.
    """
    there = {part.video for part in found}
    if not there or not truth or any(find_name(video.name, there) is not None for video in truth):
        return
    stems = {part.video.rpartition("/")[2]: part.video for part in reversed(found)}
    alike = ((video.name, find_name(video.name.rpartition("/")[2], stems)) for video in truth)
    name, stem = next((pair for pair in alike if pair[1] is not None), (truth[0].name, None))
    other = found[0].video if stem is None else stems[stem]
    others = f", or judge others with {choose}" if choose else ""
    raise InputError(
        f"{origin}: got results of {counted(len(there), 'video')}, such as {quote(other)}, expected any of the "
        f"{len(truth)} judged by {judged_by}, such as {quote(name)}; give both the same names, "
        f"folders included{others}"
    )


def describe_coverage(found: Sequence[Detections], truth: Sequence[VideoAnnotation], rule: Rule) -> str:
    """Return a line on the videos that only the annotations or only the detections have; empty if there are none."""
    known, there = {video.name for video in truth}, {part.video for part in found}
    missing = [video.name for video in truth if find_name(video.name, there) is None]
    others = list(dict.fromkeys(part.video for part in found if len(part) and find_name(part.video, known) is None))
    parts = []
    if missing:
        parts.append(
            f"{len(missing)} of {counted(len(truth), 'annotated video')} {'has' if len(missing) == 1 else 'have'} no "
            f"detections ({some(missing)}), so what is annotated there counts as missed"
        )
    if others:
        counts = "false positives by this rule" if rule == "thumos14" else "not judged"
        parts.append(
            f"{counted(len(others), 'video')} with detections {'is' if len(others) == 1 else 'are'} not annotated "
            f"({some(others)}): {counts}"
        )
    return "; ".join(parts)
