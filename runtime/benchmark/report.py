"""Hold what a benchmark measured, and read and write it as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from runtime.benchmark.machine import Machine
from runtime.benchmark.spread import Quartiles
from runtime.common.files import PathLike, read_json
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.common.ranges import Count, Number, Range, check_ranges
from runtime.common.text import quote
from runtime.errors import InputError

FORMAT = "afsd benchmark"
"""Value of "format" in the JSON of a report, by which it is recognised."""
SCHEMA = 1
"""Version of the JSON; a reader of an older one refuses it."""


Measured = Annotated[float, Range(0, 1e300)]
"""A time or speed that was measured; 0 where it was not."""


@dataclass(frozen=True)
class Measurement:
    """Holds the speed of one engine at one batch size."""

    name: str
    library: str
    device: str
    precision: str
    batch: Count
    warmup: Number
    """Number of uncounted passes; 0 where only a video was measured."""
    runs: Number
    """Number of counted passes; 0 where only a video was measured."""
    median_ms: Measured
    """Median time of a forward pass of the whole batch."""
    low_ms: Measured
    """First quartile of the time of a forward pass."""
    high_ms: Measured
    """Third quartile of the time of a forward pass."""
    clip_fps: Measured
    """Frames (on features: steps) of all windows of the batch / median."""
    windows_per_s: Measured
    """Windows of the batch / median."""
    ratio: Measured
    """Ratio of clip_fps to that of the first engine."""
    gflops: Measured
    """Billion floating-point operations per second (2 per multiply-add); 0 if the spec counts none."""
    ceiling_share: Measured
    """Share of the bound that clip_fps reaches, which is that of the processor's ceiling at that precision; 0 if the
    ceiling could not be measured, and on a GPU."""
    resident_ms: Measured = 0.0
    """Median time with the input in GPU memory, as in Table 3 (outputs are copied back); 0 for engines without it."""
    resident_clip_fps: Measured = 0.0
    """Frames of all windows of the batch / resident_ms; 0 if resident_ms is 0."""
    video_fps: Measured = 0.0
    """Unique sampled frames per second from file to detections, median; 0 if no video was given."""
    stream: str = "rgb"
    """Input of the network, as in its ModelSpec."""
    settled: bool = True
    """Whether the warm-up ended because passes no longer got faster, not at its largest number of passes."""
    passes_ms: tuple[Measured, ...] = ()
    """Time of each counted pass, in the order of the passes."""
    clip_bound_fps: Measured = 0.0
    """Largest clip fps at the processor's ceiling; 0 where it is not known."""
    video_passes_fps: tuple[Measured, ...] = ()
    """Video fps of each run."""
    video_bound_fps: Measured = 0.0
    """Largest video fps, see `video_bound`; 0 where it is not known."""
    video_share: Measured = 0.0
    """Share of the bound that video_fps reaches; 0 where there is no bound."""
    video_core_ms: Measured = 0.0
    """Milliseconds of one core that a run takes per sampled frame, all threads together, median."""
    decoding_core_ms: Measured = 0.0
    """Milliseconds of one core for decoding, sampling and resizing, per sampled frame."""
    streaming: bool = False
    """Whether the artifact computes each frame once; then only video fps is measured."""

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def key(self) -> tuple[str, str, int]:
        """Name, precision and batch, by which rows of two reports are matched."""
        return self.name, self.precision, self.batch


@dataclass(frozen=True)
class Report:
    """Holds all measurements of one session."""

    machine: Machine
    ceilings: dict[str, Measured]
    """GFLOP/s of the processor, for each precision of the engines on the CPU, in this session; see `CeilingMeter`."""
    measurements: tuple[Measurement, ...]
    video: str = ""
    """Name of the video of video fps; empty if none was given."""
    options: dict[str, int] = field(default_factory=dict)
    """Numbers that were asked for: most warm-up passes, counted passes, runs of the video, threads."""

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def processor(self) -> str:
        """Names of the processor and of the engines' GPUs."""
        return self.machine.title

    def to_mapping(self) -> dict[str, Any]:
        """Return the report as a mapping for JSON."""
        content: dict[str, Any] = to_mapping(self)
        return {"format": FORMAT, "schema": SCHEMA, **content}


def report_from_mapping(content: Any, origin: str) -> Report:
    """Build a report from the mapping of its JSON; `origin` names it in errors.

    Raises:
        InputError: it is no report of a benchmark, or one of a newer schema, or does not fit.
    """
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise InputError(f"{origin}: no report of a benchmark; expected what afsd benchmark --json prints")
    schema = content.get("schema")
    if schema != SCHEMA:
        raise InputError(
            f"{origin}: its schema is {quote(schema)}, this release reads {SCHEMA}; use the release that wrote it, or "
            "measure again"
        )
    known = {key: value for key, value in content.items() if key not in ("format", "schema", "comparison")}
    try:
        return from_mapping(Report, known)
    except StructureError as error:
        raise InputError(f"{origin}: damaged, or written by hand: {error}; measure again") from None


def read_report(path: PathLike) -> Report:
    """Read the JSON of a report (InputError: see `report_from_mapping`; it cannot be read)."""
    return report_from_mapping(read_json(path, "report of afsd benchmark --json", InputError), str(path))


def clip_fps_spread(measured: Measurement) -> Quartiles:
    """Return the quartiles of clip fps; the median is that of the time turned around."""
    if not (measured.clip_fps and measured.low_ms and measured.high_ms):
        return Quartiles(0.0, 0.0, 0.0)
    work = measured.clip_fps * measured.median_ms
    return Quartiles(work / measured.high_ms, measured.clip_fps, work / measured.low_ms)
