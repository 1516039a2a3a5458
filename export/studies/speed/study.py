"""Hold what the study of speed measured, and read and write it as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.benchmark.machine import Machine
from runtime.benchmark.report import Report
from runtime.common.files import read_json, write_json
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.common.text import quote
from runtime.errors import InputError

FORMAT = "afsd speed study"
"""Value of "format" in the JSON of a study."""
SCHEMA = 1
"""Version of the JSON."""


@dataclass(frozen=True)
class LengthRun:
    """Holds one run over a video of a given length, in a process of its own."""

    network: str
    """Name of the network's file."""
    video_s: float
    """Length of the video, seconds."""
    source: str
    """"file", or "memory": sampled frames at the network's size, repeated."""
    fps: float
    """Sampled frames per second of wall time, each counted once."""
    core_ms: float
    """Milliseconds of one core per sampled frame, all threads together."""
    peak_mib: float
    """Peak of the process's memory, MiB, libraries and network included."""
    detections: int
    post_ms: float
    """Milliseconds per sampled frame of decoding outputs and suppression."""


@dataclass(frozen=True)
class Study:
    """Holds everything that was measured in one run of the study."""

    machine: Machine
    """The machine when the study began."""
    load_at_end: float
    """Mean number of running processes over the last minute of the study."""
    network: str
    """Network that was measured, in words."""
    source: str
    """Video that the test videos were made of, in words."""
    reports: dict[str, Report] = field(default_factory=dict)
    """Part of the study → its measurements."""
    lengths: tuple[LengthRun, ...] = ()
    left_out: tuple[str, ...] = ()
    """What was not measured, and why."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Part of the study → seconds it took; "prepare" are models and videos that are made once."""
    minutes: float = 0.0
    """Time that the study was given, minutes."""
    results: str = ""
    """Path of the study's JSON."""


def write_study(study: Study, path: Path) -> None:
    """Write a study as JSON."""
    write_json(path, {"format": FORMAT, "schema": SCHEMA, **to_mapping(study)})


def read_study(path: Path) -> Study:
    """Read the JSON of a study.

    Raises:
        InputError: it cannot be read, is no study of speed, is one of another schema, or does not fit.
    """
    content = read_json(path, "result of the study of speed", InputError)
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise InputError(f"{path}: no result of the study of speed; expected the JSON that make benchmark writes")
    if content.get("schema") != SCHEMA:
        raise InputError(
            f"{path}: its schema is {quote(content.get('schema'))}, this release reads {SCHEMA}; measure again"
        )
    try:
        return from_mapping(Study, {k: v for k, v in content.items() if k not in ("format", "schema")})
    except StructureError as error:
        raise InputError(f"{path}: damaged, or written by hand: {error}; measure again") from None
