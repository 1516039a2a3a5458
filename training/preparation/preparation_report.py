"""Report what was odd in a data set during preparation: grouped, counted, with the first names; as text and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.common.files import write_json
from runtime.common.tables import align
from runtime.common.text import one_line, printable
from runtime.errors import AfsdError

REPORT = "prepare_report.json"
FIRST_NAMES = 3
"""Number of names of each group shown on the terminal; the file has all."""


@dataclass
class Findings:
    """Collects findings by kind, each with the videos or labels concerned and the number of cases."""

    groups: dict[str, dict[str, int]] = field(default_factory=dict)
    """Number of cases by kind and name."""
    failures: dict[str, str] = field(default_factory=dict)
    """Reasons by name of videos that could not be prepared; if there are any, the command's exit status is 2."""

    def note(self, kind: str, name: str, count: int = 1) -> None:
        """Add `count` cases of a kind; 0 adds none."""
        if count > 0:
            names = self.groups.setdefault(kind, {})
            names[name] = names.get(name, 0) + count

    def fail(self, name: str, error: AfsdError) -> None:
        """Add a video that cannot be prepared, with the error."""
        self.failures[name] = one_line(error)


@dataclass(frozen=True)
class PreparationReport:
    """Holds what was made and what was odd."""

    facts: Mapping[str, str]
    """Descriptions of what was made, by name, in display order."""
    findings: Findings

    @property
    def failed(self) -> bool:
        """Whether a video could not be prepared."""
        return bool(self.findings.failures)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the report for the terminal."""
        if self.facts:
            yield from align([[key, str(value)] for key, value in self.facts.items()], "ll").splitlines()
        for kind, names in self.findings.groups.items():
            yield printable(f"{sum(names.values())} × {kind}: {_join_first(names)}")
        for name, reason in self.findings.failures.items():
            yield printable(f"failed: {name}: {reason}")
        if not self.findings.groups and not self.findings.failures:
            yield "nothing odd"

    def write(self, folder: Path) -> Path:
        """Write the report as JSON into `folder` and return the path; that it cannot be written is a failure in it."""
        content = {
            "made": dict(self.facts),
            "odd": [
                {"what": kind, "cases": sum(names.values()), "where": names}
                for kind, names in self.findings.groups.items()
            ],
            "failed": self.findings.failures,
        }
        try:
            write_json(folder / REPORT, content)
        except OSError as error:  # what was found is still shown
            self.findings.failures[REPORT] = one_line(error)
        return folder / REPORT


def _join_first(names: Mapping[str, int]) -> str:
    shown = [name if count == 1 else f"{name} ({count})" for name, count in list(names.items())[:FIRST_NAMES]]
    left = len(names) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")
