"""Look at a training before its hours are spent, and print a table with a verdict for each point."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runtime.common.console import ProgressLine
from runtime.common.tables import align
from runtime.errors import AfsdError
from training.check.measure import measure
from training.check.points import (
    Point,
    check_classes,
    check_clips,
    check_disk,
    check_longest,
    check_memory,
    check_out,
    check_shortest,
    check_time,
    check_videos,
    fail,
    is_memory_error,
    list_classes,
)
from training.check.survey import Survey, survey
from training.config.settings import Config
from training.deployment.views import model_spec

CLASSES_SHOWN = 30
"""Most classes that the table shows, the rarest."""


@dataclass(frozen=True)
class CheckReport:
    """Holds the points of a check, and the classes of the data."""

    points: tuple[Point, ...]
    classes: list[list[str]] = field(default_factory=list)
    """Table of the classes, rarest first, under a header."""

    @property
    def will_fail(self) -> bool:
        """Whether the training cannot work."""
        return any(point.verdict == "will fail" for point in self.points)

    def text(self) -> str:
        """Format the points and the rarest classes as tables."""
        rows = [["point", "verdict", "what was found"], *([p.name, p.verdict, p.found] for p in self.points)]
        parts = [align(rows, "lll")]
        if len(self.classes) > 1:
            shown, more = self.classes[: CLASSES_SHOWN + 1], len(self.classes) - 1 - CLASSES_SHOWN
            parts.append(align(shown) + (f"\nand {more} more classes with more actions" if more > 0 else ""))
        return "\n\n".join(parts)


def check_training(config: Config, out: Path | None = None, resume: Path | None = None) -> CheckReport:
    """Look at data, memory, disk and time of a training; nothing is kept of the steps that are tried.

    Args:
        config: configuration of the training.
        out: folder of the run; None: not known yet.
        resume: checkpoint that is to be resumed.

    Raises:
        ConfigError, AnnotationError, InputError: settings or annotations of which nothing can be said.
    """
    with ProgressLine() as progress:
        progress.show("looking at the videos")
        seen = survey(config)
        points = [*check_out(out, resume), check_videos(seen)]
        if not seen.annotated:
            return CheckReport(tuple(points))
        spec = model_spec(seen.config, seen.classes)
        points += [check_longest(seen), check_shortest(seen, spec), check_classes(seen), check_clips(seen)]
        if seen.dataset is not None and points[-1].verdict != "will fail":
            progress.show("trying a few steps")
            points += _try_steps(seen, out)
        else:
            points += check_disk(seen, None, out)
    return CheckReport(tuple(points), [list(row) for row in list_classes(seen)])


def _try_steps(seen: Survey, out: Path | None) -> list[Point]:
    """Return the points of memory, time and disk, after a few real optimiser steps."""
    batch_size = seen.config.optimiser.batch_size
    try:
        cost = measure(seen)
    except (MemoryError, RuntimeError) as error:
        if not is_memory_error(error):
            raise
        advice = "lower optimiser.batch_size, or the length or size of the clips"
        return [Point("memory", "will fail", f"a step of {batch_size} clips takes more than there is; {advice}")]
    except AfsdError as error:
        return [fail("first steps", error), *check_disk(seen, None, out)]
    return [check_memory(cost, batch_size), check_time(seen, cost), *check_disk(seen, cost, out)]
