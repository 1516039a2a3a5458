"""Compare the reports of two benchmarks row by row: ratios with the range that the spread of both leaves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from runtime.benchmark.report import Measurement, Report, clip_fps_spread
from runtime.benchmark.spread import Quartiles, quartiles
from runtime.common.mappings import to_mapping
from runtime.common.tables import align

Measure = Literal["clip fps", "video fps"]


@dataclass(frozen=True)
class Change:
    """Holds how a speed changed from an older report to a newer one."""

    name: str
    precision: str
    batch: int
    measure: Measure
    old_fps: float
    new_fps: float
    ratio: float
    """New speed / old speed, of medians."""
    low: float
    """Smallest ratio between the quartiles: new first quartile / old third quartile."""
    high: float
    """Largest ratio between the quartiles: new third quartile / old first quartile."""
    overlap: bool
    """Whether the quartiles of both overlap, so that the difference is within the spread."""

    @property
    def verdict(self) -> str:
        """What can be said of the change."""
        return "quartiles overlap" if self.overlap else "faster" if self.ratio > 1 else "slower"


@dataclass(frozen=True)
class Comparison:
    """Holds all changes from an older report to a newer one."""

    old: str
    """Name of the older report."""
    changes: tuple[Change, ...]
    ceilings: dict[str, float]
    """New / old ceiling of the processor; what changed there is no change of this project."""
    only_old: tuple[str, ...]
    """Rows that the newer report lacks."""
    only_new: tuple[str, ...]
    """Rows that the older report lacks."""
    warnings: tuple[str, ...]
    """Reasons for which the numbers may not be compared."""

    def to_mapping(self) -> dict[str, Any]:
        """Return the comparison as a mapping for JSON."""
        content: dict[str, Any] = to_mapping(self)
        return content


def compare_reports(old: Report, new: Report, name: str) -> Comparison:
    """Compare two reports; rows are matched by name, precision and batch, several of one key in their order.

    Args:
        old: older report.
        new: newer report.
        name: names the older report.
    """
    before, after = _index(old.measurements), _index(new.measurements)
    pairs = [(before[key], after[key]) for key in before if key in after]
    changes = [
        change
        for was, now in pairs
        for change in (
            _change(was, now, "clip fps", clip_fps_spread(was), clip_fps_spread(now)),
            _change(was, now, "video fps", _video_spread(was), _video_spread(now)),
        )
        if change is not None
    ]
    return Comparison(
        old=name,
        changes=tuple(changes),
        ceilings={k: new.ceilings[k] / v for k, v in old.ceilings.items() if v and k in new.ceilings},
        only_old=tuple(_title(was) for key, was in before.items() if key not in after),
        only_new=tuple(_title(now) for key, now in after.items() if key not in before),
        warnings=tuple(_warnings(old, new, name)),
    )


def format_comparison(comparison: Comparison) -> str:
    """Format a comparison as text: a table of ratios, then what is missing."""
    lines = [f"compared with {comparison.old} (ratios new / old, in brackets what the quartiles of both allow):"]
    rows = [["engine", "precision", "batch", "measure", "old", "new", "ratio", ""]]
    for c in comparison.changes:
        ratio = f"{c.ratio:.2f}× ({c.low:.2f}–{c.high:.2f})"
        numbers = [f"{c.old_fps:,.0f}", f"{c.new_fps:,.0f}", ratio, c.verdict]
        rows.append([c.name, c.precision, str(c.batch), c.measure, *numbers])
    lines.append(align(rows, "llrlrrrl") if comparison.changes else "no speed is in both reports")
    if comparison.ceilings:
        changed = ", ".join(f"{name} {ratio:.2f}×" for name, ratio in sorted(comparison.ceilings.items()))
        lines.append(f"the machine's own ceilings, new / old: {changed}")
    for title, names in (("only in the old report", comparison.only_old), ("new", comparison.only_new)):
        lines += [f"{title}: {', '.join(names)}"] if names else []
    return "\n".join(lines)


def _index(measurements: Iterable[Measurement]) -> dict[tuple[str, str, int, int], Measurement]:
    """Return measurements by name, precision, batch and how many of the same key stand before."""
    seen: defaultdict[tuple[str, str, int], int] = defaultdict(int)
    found = {}
    for measured in measurements:
        found[*measured.key, seen[measured.key]] = measured
        seen[measured.key] += 1
    return found


def _change(was: Measurement, now: Measurement, measure: Measure, old: Quartiles, new: Quartiles) -> Change | None:
    """Return the change of one speed; None where one of the reports has not measured it."""
    if min(*old, *new) <= 0:
        return None
    return Change(
        now.name,
        now.precision,
        now.batch,
        measure,
        old.median,
        new.median,
        new.median / old.median,
        new.low / old.high,
        new.high / old.low,
        old.overlaps(new),
    )


def _video_spread(measured: Measurement) -> Quartiles:
    return quartiles(measured.video_passes_fps) if measured.video_passes_fps else Quartiles(0.0, 0.0, 0.0)


def _warnings(old: Report, new: Report, name: str) -> Iterable[str]:
    a, b = old.machine, new.machine
    if (a.title, a.cores) != (b.title, b.cores):
        yield (
            f"{name} is of another machine ({a.title}, {a.cores} used; this is {b.title}, {b.cores} used): ratios also "
            "say how these differ"
        )
    busy = [f"{label} {m.load[0]:g}" for label, m in (("then", a), ("now", b)) if m.busy]
    if busy:
        yield f"the machine had other work when a measurement began (load {', '.join(busy)} on {b.cores} cores)"
    if old.video != new.video and old.video and new.video:
        yield f"video fps is of another video: {old.video} then, {new.video} now"
    if old.options.get("threads") != new.options.get("threads"):
        yield "the number of threads differs"


def _title(measured: Measurement) -> str:
    return f"{measured.name} {measured.precision} batch {measured.batch}"
