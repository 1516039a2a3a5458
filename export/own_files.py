"""Write an artifact and its reports over no file of others."""

from __future__ import annotations

from pathlib import Path

from runtime.common.overwriting import json_with, require_own_file
from runtime.engines.artifact import require_own_engine

REPORTS = {
    ".parity.json": json_with("engine", "reference", "outputs", "passed"),
    ".drift.json": json_with("engine", "reference", "windows", "outputs"),
    ".report.json": json_with("build", "layers"),
}
"""Suffix that a report appends to its artifact's name → how a report of this project is known."""


def require_own_files(target: Path) -> None:
    """Check that neither an artifact nor one of its reports is written over a file of others.

    Raises:
        ExportError: the artifact, or what belongs to it, is somebody else's.
        InputError: a report is.
    """
    require_own_engine(target)
    for suffix, recognise in REPORTS.items():
        require_own_file(target.with_name(f"{target.name}{suffix}"), recognise, "name another file with -o")
