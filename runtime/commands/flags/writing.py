"""Define the flag of all verbs that write files."""

from __future__ import annotations

import argparse


def add_overwrite_flag(group: argparse._ActionsContainer) -> None:
    """Add the flag that lets results replace files of others."""
    group.add_argument(
        "--overwrite", action="store_true", help="write over files that are no results of afsd (default: refuse)"
    )
