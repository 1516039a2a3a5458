"""Provide the logger of this project, "afsd": warnings about data, and with level INFO what was chosen and why.

A program that uses the packages sets it up as any other logger. The command prints its records on stderr: warnings,
with -v what was chosen too, with -q neither.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.common.console import print_note, print_warning

LOGGER = logging.getLogger("afsd")


class _ConsoleHandler(logging.Handler):
    """Prints records as the lines of a command."""

    def emit(self, record: logging.LogRecord) -> None:
        (print_warning if record.levelno >= logging.WARNING else print_note)(record.getMessage())


@contextmanager
def log_to_console(level: int) -> Iterator[None]:
    """Print the records of the logger from a level on while the block runs."""
    handler, before, passed_on = _ConsoleHandler(), LOGGER.level, LOGGER.propagate
    LOGGER.addHandler(handler)
    LOGGER.setLevel(level)
    LOGGER.propagate = False
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before)
        LOGGER.propagate = passed_on
