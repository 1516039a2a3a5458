"""Let the runs that work in one folder know of each other."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.common.temporaries import held_by_others, temporary_file
from runtime.common.text import one_line
from runtime.jobs.plan import Shard

SUFFIX = ".run"
"""Suffix of the file that a run keeps, locked, in the job's own folder for as long as it works."""
LONGEST_HOST = 80
"""Letters of a machine's name that are shown."""


@dataclass(frozen=True)
class Announced:
    """Holds the file of a run, and what was seen of others."""

    file: Path
    """File that is in the folder as long as the run works."""
    others: list[str]
    """Other runs, in words."""


@contextmanager
def announce(own: Path, shard: Shard) -> Iterator[Announced]:
    """Say for the block that a run works in a folder, and yield which others do so.

    Another part of a list that is shared out into as many parts does other videos, and is not among them.
    Of two that start at once at least one sees the other; where the file system has no locks, none does.

    Args:
        own: the job's own folder in the folder of the results.
        shard: part of the list that the run does; another part of as many does other videos.

    Raises:
        OSError: the folder cannot be written to.
    """
    with temporary_file(own, SUFFIX) as mine:
        facts = {"process": os.getpid(), "host": socket.gethostname(), "shard": [shard.number, shard.count]}
        mine.write_text(json.dumps(facts), encoding="utf-8")
        others = [path for path in held_by_others(own, SUFFIX) if path != mine]
        yield Announced(mine, [text for path in others if (text := _describe(path, shard))])


def _describe(path: Path, shard: Shard) -> str:
    """Return in words which run keeps a file; empty: it is gone, or does other videos."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        facts = json.loads(path.read_bytes()[:10_000])
        number, count = facts["shard"]
        if count == shard.count and number != shard.number:
            return ""
        return f"process {int(facts['process'])} on {one_line(str(facts['host'])[:LONGEST_HOST])}"
    return ""
