"""What was odd while a data set was prepared: grouped, counted, with the first names; as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.common.files import one_line, write_json
from runtime.errors import AfsdError

REPORT = "prepare_report.json"
FIRST_NAMES = 3
"""Names shown of each group on the terminal; the file has all."""


@dataclass
class Findings:
    """Odd things by kind, each with the videos (or labels) it concerns and how often."""

    groups: dict[str, dict[str, int]] = field(default_factory=dict)
    """Kind → name → number of cases."""
    failures: dict[str, str] = field(default_factory=dict)
    """Videos that could not be had → why; the command ends with exit status 2 when there are any."""

    def note(self, kind: str, name: str, count: int = 1) -> None:
        """Add `count` cases of a kind; none if that is 0."""
        if count > 0:
            names = self.groups.setdefault(kind, {})
            names[name] = names.get(name, 0) + count

    def fail(self, name: str, error: AfsdError) -> None:
        """Add a video that cannot be had."""
        self.failures[name] = one_line(error)


@dataclass(frozen=True)
class PreparationReport:
    """What was made and what was odd."""

    facts: Mapping[str, str]
    """What was made, in words, in the order to be shown."""
    findings: Findings

    @property
    def failed(self) -> bool:
        """Whether a video could not be had."""
        return bool(self.findings.failures)

    def lines(self) -> Iterator[str]:
        """The report as a person reads it."""
        width = max((len(key) for key in self.facts), default=0)
        for key, value in self.facts.items():
            yield f"{key:<{width}}  {value}"
        for kind, names in self.findings.groups.items():
            yield f"{sum(names.values())} × {kind}: {_first(names)}"
        for name, reason in self.findings.failures.items():
            yield f"failed: {name}: {reason}"
        if not self.findings.groups and not self.findings.failures:
            yield "nothing odd"

    def write(self, folder: Path) -> Path:
        """Write it as JSON into `folder` and return the path."""
        content = {
            "made": dict(self.facts),
            "odd": [
                {"what": kind, "cases": sum(names.values()), "where": names}
                for kind, names in self.findings.groups.items()
            ],
            "failed": self.findings.failures,
        }
        write_json(folder / REPORT, content)
        return folder / REPORT


def _first(names: Mapping[str, int]) -> str:
    shown = [name if count == 1 else f"{name} ({count})" for name, count in list(names.items())[:FIRST_NAMES]]
    left = len(names) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")
