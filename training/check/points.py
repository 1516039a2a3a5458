"""Judge what was seen and measured of a training, point by point."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.common.sizes import file_size, memory_size
from runtime.common.text import one_line, some
from runtime.spec.model import ModelSpec
from training.check.measure import Cost, count_windows
from training.check.survey import Survey
from training.data.clips import find_unseen_instances
from training.loop.trainer import LAST

Verdict = Literal["ok", "look", "will fail"]

FEW = 10
"""Number of instances or clips below which a class is called rare."""
NAMED = 4
"""Number of names that a point shows."""
NARROW = 0.8
"""Share of memory or of free disk above which the use of it is worth a look."""
ADAM_COPIES = 2
"""Numbers that Adam keeps for each weight."""


@dataclass(frozen=True)
class Point:
    """Holds the verdict about one point, and what was found."""

    name: str
    verdict: Verdict
    found: str


def check_videos(seen: Survey) -> Point:
    """Judge whether all videos are there and can be opened."""
    counts = f"{len(seen.training)} to train on" + (f", {len(seen.validation)} to validate" if seen.validation else "")
    if seen.unreadable:
        name, reason = next(iter(seen.unreadable.items()))
        total = len(seen.training) + len(seen.validation)
        return Point("videos", "will fail", f"{len(seen.unreadable)} of {total} cannot be read, {name!r}: {reason}")
    without = sorted({video.name for video in seen.annotated if video.instances} - {clip.video for clip in seen.clips})
    if without:
        return Point("videos", "look", f"{counts}; {len(without)} give no clip: {some(without, NAMED)}")
    return Point("videos", "ok", counts)


def check_longest(seen: Survey) -> Point:
    """Judge whether the actions fit into a window."""
    config, unit = seen.config, _unit(seen)
    lengths = [instance.length for video in seen.annotated for instance in video.instances]
    if not lengths:
        return Point("longest action", "will fail", "no action in any training video; expected one at least")
    window, rate = config.window_length, config.data.sample_fps
    if config.data.sampling == "whole_video":
        return Point("longest action", "ok", "each window is a whole video")
    longest = max(lengths)
    text = f"{longest:.0f} {unit} ({longest / rate:.1f} s) in windows of {window} ({window / rate:.1f} s)"
    too_long = sum(length > window for length in lengths)
    stride, keep = config.data.clip_stride, config.data.keep_share
    unseen = sum(
        len(find_unseen_instances(video, clip_length=window, stride=stride, keep=keep)) for video in seen.annotated
    )
    if not too_long and not unseen:
        return Point("longest action", "ok", f"{text}, so all fit")
    share = f"{100 * too_long / len(lengths):.1f} %"
    found = f"{text}: {too_long} of {len(lengths)} actions ({share}) do not fit, {unseen} are a target in no window"
    return Point("longest action", "look", f"{found}; make windows longer, or data.clip_stride shorter")


def check_shortest(seen: Survey, spec: ModelSpec) -> Point:
    """Judge whether the finest level of the network can express the shortest actions."""
    unit, rate = _unit(seen), seen.config.data.sample_fps
    lengths = [instance.length for video in seen.annotated for instance in video.instances]
    if not lengths:
        return Point("shortest action", "ok", "no action")
    spacing = spec.window_length / spec.level_lengths[0]
    short = sum(length < spacing for length in lengths)
    text = f"{min(lengths):.1f} {unit} ({min(lengths) / rate:.2f} s); the finest level has a location every {spacing:g}"
    if not short:
        return Point("shortest action", "ok", text)
    found = f"{text}: {short} of {len(lengths)} actions may lie between two of them"
    return Point("shortest action", "look", f"{found}; raise data.sample_fps, or take a finer network")


def check_classes(seen: Survey) -> Point:
    """Judge whether every class has examples, in training and validation."""
    actions = Counter(instance.label for video in seen.training for instance in video.instances)
    judged = {instance.label for video in seen.validation for instance in video.instances}
    none = [name for name in seen.classes if not actions[name]] if not seen.config.data.class_agnostic else []
    rare = [name for name in seen.classes if 0 < actions[name] < FEW]
    unknown = sorted(judged - set(actions)) if not seen.config.data.class_agnostic else []
    found = [f"{len(seen.classes)}, {actions.total()} actions together"]
    if none:
        found.append(f"{len(none)} without any action in training: {some(none, NAMED)}")
    if unknown:
        found.append(f"{len(unknown)} to validate that training lacks, whose AP is 0: {some(unknown, NAMED)}")
    if rare:
        found.append(f"{len(rare)} with fewer than {FEW} actions: {some((f'{n} {actions[n]}' for n in rare), NAMED)}")
    return Point("classes", "look" if len(found) > 1 else "ok", "; ".join(found))


def check_clips(seen: Survey) -> Point:
    """Judge whether there are clips to train on, of every class."""
    batch = seen.config.optimiser.batch_size * seen.config.run.devices
    if len(seen.clips) < batch:
        found = f"{len(seen.clips)}, and a batch takes {batch}: an action must lie within a window"
        return Point("clips", "will fail", f"{found}; make windows longer, or data.clip_stride shorter")
    shown = count_clips(seen)
    names = seen.classes if not seen.config.data.class_agnostic else ()
    few = sorted((name for name in names if shown[name] < FEW), key=lambda name: (shown[name], name))
    if few:
        listed = some((f"{name} {shown[name]}" for name in few), NAMED)
        return Point(
            "clips",
            "look",
            f"{len(seen.clips)}; {len(few)} of {len(names)} classes in fewer than {FEW} clips: {listed}",
        )
    return Point(
        "clips", "ok", f"{len(seen.clips)}" + (f", {min(shown.values())} or more of each class" if shown else "")
    )


def count_clips(seen: Survey) -> Counter[str]:
    """Count the clips that show each class, each clip once."""
    labels = ({instance.label for instance in clip.instances} for clip in seen.clips)
    return Counter(seen.classes[label - 1] for shown in labels for label in shown)


def check_memory(cost: Cost, batch_size: int) -> Point:
    """Judge the memory of an optimiser step, as it was measured."""
    limit, used = cost.memory_limit, cost.memory_bytes
    of = f" of {memory_size(limit)}" if limit else ""
    verdict: Verdict = "look" if limit and used > NARROW * limit else "ok"
    return Point("memory", verdict, f"{memory_size(used)}{of} on {cost.device} with real steps of {batch_size} clips")


def check_time(seen: Survey, cost: Cost) -> Point:
    """Judge the time of an epoch and of the run, from the steps that were measured."""
    config = seen.config
    judging_s = count_windows(seen) * cost.window_s
    epochs = cost.total_steps / cost.steps_per_epoch
    training_s = cost.total_steps * cost.step_s
    total_s = training_s + judging_s * max(1.0, epochs / config.run.validate_every)
    parts = [
        f"{_time(cost.steps_per_epoch * cost.step_s)} an epoch ({cost.steps_per_epoch} steps of {cost.step_s:.3g} s, "
        f"{cost.steps} measured{'' if seen.is_stored else ' on random frames'})"
    ]
    if seen.validation:
        parts.append(f"{_time(judging_s)} a validation")
    parts.append(f"{_time(total_s)} in all")
    minutes = config.run.max_minutes
    if minutes and total_s > 60 * minutes:
        return Point("time", "look", f"{', '.join(parts)}; run.max_minutes ends the run after {minutes:g} min")
    return Point("time", "ok", ", ".join(parts))


def check_disk(seen: Survey, cost: Cost | None, out: Path | None) -> Iterator[Point]:
    """Judge the room for the arrays that are still to be made, and for the checkpoints; one point per disk."""
    needs: dict[Path, list[tuple[str, int]]] = {}
    if seen.bytes_to_store:
        needs.setdefault(_existing(Path(seen.config.data.root)), []).append(("frame store", seen.bytes_to_store))
    if cost is not None:
        place = _existing(Path.cwd() if out is None else out)
        needs.setdefault(_same_disk(place, needs), []).append(("checkpoints", _checkpoint_bytes(seen, cost)))
    for place, parts in needs.items():
        need, free = sum(size for _, size in parts), shutil.disk_usage(place).free
        listed = ", ".join(f"{name} {file_size(size)}" for name, size in parts)
        text = f"{listed}; {file_size(free)} free at {place}"
        verdict: Verdict = "will fail" if need > free else "look" if need > NARROW * free else "ok"
        yield Point("disk", verdict, text)


def check_out(out: Path | None, resume: Path | None) -> list[Point]:
    """Judge the folder of the run; nothing is said of a folder that is free."""
    if out is None or resume is not None or not (out / LAST).exists():
        return []
    return [Point("folder", "will fail", f"{out} holds a run already; continue it (--resume), or choose another --out")]


def fail(name: str, error: Exception) -> Point:
    """Return the point of a step that raised an error."""
    return Point(name, "will fail", one_line(error)[:300])


def is_memory_error(error: Exception) -> bool:
    """Return whether an error of PyTorch says that there is too little memory."""
    return isinstance(error, MemoryError) or "memory" in str(error).lower()


def _checkpoint_bytes(seen: Survey, cost: Cost) -> int:
    """Return the bytes of the checkpoints of a run at its end, and of one more while it is written."""
    config, weights = seen.config, cost.weight_bytes
    state = weights * (1 + ADAM_COPIES + (1 if config.optimiser.ema else 0))
    epochs = cost.total_steps // cost.steps_per_epoch if config.run.keep_epochs else 0
    return 2 * state + weights * epochs + (2 * weights if seen.validation else 0)


def _existing(path: Path) -> Path:
    """Return the nearest folder of a path that exists."""
    path = path.resolve()
    return next(place for place in (path, *path.parents) if place.is_dir())


def _same_disk(place: Path, others: Iterable[Path]) -> Path:
    """Return one of the other places that is on the same disk, else the place itself."""
    disk = os.stat(place).st_dev  # noqa: PTH116
    return next((other for other in others if os.stat(other).st_dev == disk), place)  # noqa: PTH116


def _unit(seen: Survey) -> str:
    return "steps" if seen.config.stream == "features" else "frames"


def _time(seconds: float) -> str:
    """Format a length of time: "12 s", "3.4 min", "5.6 h", "2.1 days"."""
    for unit, factor in (("days", 172_800), ("h", 5400), ("min", 90)):
        if seconds >= factor:
            whole = {"days": 86_400, "h": 3600, "min": 60}[unit]
            return f"{seconds / whole:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1g} s"


def list_classes(seen: Survey) -> Sequence[Sequence[str]]:
    """Return a table of the classes, rarest first: actions, videos and clips of training, actions of validation."""
    actions = Counter(instance.label for video in seen.training for instance in video.instances)
    videos = Counter(label for video in seen.training for label in {instance.label for instance in video.instances})
    judged = Counter(instance.label for video in seen.validation for instance in video.instances)
    clips = count_clips(seen)
    header = ["class", "actions", "videos", "clips", *(["to validate"] if seen.validation else [])]
    names = sorted({*seen.classes, *judged}, key=lambda name: (actions[name], name))
    rows = [
        [
            name,
            str(actions[name]),
            str(videos[name]),
            str(clips[name]),
            *([str(judged[name])] if seen.validation else []),
        ]
        for name in names
    ]
    return [header, *rows]
