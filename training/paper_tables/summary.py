"""Write a table of methods with means and spreads as Markdown, CSV and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from runtime.common.csv_text import to_csv
from runtime.common.files import write_json, write_text
from runtime.common.overwriting import json_with, require_own_file, text_that_begins
from runtime.common.text import printable

CSV_HEADER = ("method", "figure", "mean", "over_seeds", "over_folds")


@dataclass(frozen=True)
class Spread:
    """Holds mean and spreads of one figure of one method; NaN where there are too few values."""

    mean: float
    over_seeds: float = math.nan
    """Standard deviation over the seeds of the mean over the folds."""
    over_folds: float = math.nan
    """Standard deviation over the folds of their means over the seeds."""
    folds: tuple[float, ...] = ()
    """Mean over the seeds for each fold."""


@dataclass(frozen=True)
class MethodRow:
    """Holds the figures of one method."""

    label: str
    scores: Mapping[str, Spread]
    """Values of the metrics by name, 0..1."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """Figures that do not depend on folds, by name; the name has the unit."""


@dataclass(frozen=True)
class SummaryTable:
    """Holds a table of methods and metrics."""

    title: str
    rows: tuple[MethodRow, ...]
    shown: tuple[str, ...]
    """Metrics in the Markdown table; the CSV and JSON files have all."""
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Format as Markdown: percent, mean ± spread over seeds / spread over folds, best mean of a column in bold."""
        facts = _names(row.facts for row in self.rows)
        scores = [name for name in self.shown if any(name in row.scores for row in self.rows)]
        lines = [f"| {' | '.join([self.title, *scores, *facts])} |", "|---" * (1 + len(scores) + len(facts)) + "|"]
        best = {name: max(_mean(row, name) for row in self.rows) for name in scores}
        for row in self.rows:
            cells = [_cell(row.scores.get(name), best[name]) for name in scores]
            cells += [f"{row.facts[name]:.4g}" if name in row.facts else "–" for name in facts]
            lines.append(f"| {' | '.join([_markdown_text(row.label), *cells])} |")
        return "\n".join([*lines, "", *self.notes]).rstrip()

    def csv(self) -> str:
        """Format as CSV, a line per method and figure: label, name, mean, spreads in percent, facts in their units."""
        rows: list[list[str]] = [list(CSV_HEADER)]
        for row in self.rows:
            for name, score in row.scores.items():
                values = (score.mean, score.over_seeds, score.over_folds)
                rows.append([row.label, name, *("" if math.isnan(v) else f"{100 * v:.4f}" for v in values)])
            rows += ([row.label, name, f"{value:.6g}", "", ""] for name, value in row.facts.items())
        return to_csv(rows)

    def to_mapping(self) -> dict[str, Any]:
        """Return {"title", "notes", "rows": [{"label", "scores": {name: {"mean", …}}, "facts"}]}; 0..1, null for
        NaN."""
        return {
            "title": self.title,
            "notes": list(self.notes),
            "rows": [
                {
                    "label": row.label,
                    "scores": {name: _plain(score) for name, score in row.scores.items()},
                    "facts": dict(row.facts),
                }
                for row in self.rows
            ],
        }

    def write(self, stem: Path) -> None:
        """Write <stem>.md, .csv and .json atomically; see `require_own_table`."""
        write_text(stem.with_name(f"{stem.name}.md"), self.markdown() + "\n")
        write_text(stem.with_name(f"{stem.name}.csv"), self.csv())
        write_json(stem.with_name(f"{stem.name}.json"), self.to_mapping())


def require_own_table(stem: Path) -> None:
    """Raise an InputError if <stem>.md, .csv or .json is there and no table that `SummaryTable.write` wrote."""
    recognised = {
        "md": lambda content: content.startswith(b"| ") and b"\n|---" in content,
        "csv": text_that_begins(",".join(CSV_HEADER)),
        "json": json_with("title", "notes", "rows"),
    }
    for suffix, recognise in recognised.items():
        require_own_file(stem.with_name(f"{stem.name}.{suffix}"), recognise)


def _markdown_text(label: str) -> str:
    """Return a label as text of a Markdown cell, in which it begins neither a cell nor HTML."""
    return escape(printable(label), quote=False).replace("|", "\\|")


def _names(mappings: Any) -> Sequence[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _mean(row: MethodRow, name: str) -> float:
    mean = row.scores[name].mean if name in row.scores else math.nan
    return -math.inf if math.isnan(mean) else mean


def _cell(score: Spread | None, best: float) -> str:
    if score is None or math.isnan(score.mean):
        return "–"
    mean = f"{100 * score.mean:.1f}"
    spreads = [score.over_seeds, *([] if math.isnan(score.over_folds) else [score.over_folds])]
    shown = " / ".join("–" if math.isnan(value) else f"{100 * value:.1f}" for value in spreads)
    return " ".join([f"**{mean}**" if score.mean == best else mean, *([f"± {shown}"] if shown != "–" else [])])


def _plain(score: Spread) -> dict[str, Any]:
    values = {"mean": score.mean, "over_seeds": score.over_seeds, "over_folds": score.over_folds}
    plain: dict[str, Any] = {name: None if math.isnan(value) else value for name, value in values.items()}
    return plain | {"folds": [None if math.isnan(value) else value for value in score.folds]}
