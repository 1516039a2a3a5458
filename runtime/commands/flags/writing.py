"""Define flags of verbs that write files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import InputError

if TYPE_CHECKING:
    from runtime.jobs.store_records import StoreFolder


def add_overwrite_flag(group: argparse._ActionsContainer) -> None:
    """Add the flag that lets results replace files of others."""
    group.add_argument(
        "--overwrite", action="store_true", help="write over files that are no results of afsd (default: refuse)"
    )


def results_place(text: str) -> Path | StoreFolder:
    """Return the place that --out names: a folder, or one of an object store."""
    from runtime.jobs.result_place import place_of

    try:
        return place_of(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
