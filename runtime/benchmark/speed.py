"""Measure the speed of engines side by side, as in AFSD's Table 3 and from file to detections.

*Clip fps* is the paper's measure: frames of a window divided by the time of the forward pass alone. On a GPU,
*resident* is this figure with the input already in GPU memory; clip fps includes both copies. *Video fps* is what users
get: unique sampled frames per second from file to detections; windows overlap by half, so most frames go through the
network twice. For models on features a frame is a step, and *windows per second* is the relevant figure. Machines are
shared and noisy; therefore engines take turns, run by run, and ratios are of medians of one session.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.benchmark.ceiling import matrix_ceiling, seconds_of
from runtime.common.ranges import Count, Number, require_in_range
from runtime.common.tables import align
from runtime.detector import Detector, DetectorOptions
from runtime.engines.base import Engine
from runtime.engines.tensorrt.cuda import device_facts, load_bindings
from runtime.errors import AfsdError, InputError

TABLE_3 = (
    ("S-CNN", "not stated", 60),
    ("DAP", "not stated", 134),
    ("CDC", "Titan X (Maxwell)", 500),
    ("SS-TAD", "Titan X (Maxwell)", 701),
    ("R-C3D", "Titan X (Maxwell)", 569),
    ("R-C3D", "Titan X (Pascal)", 1030),
    ("AFSD", "GTX 1080 Ti", 3259),
    ("AFSD", "V100", 4057),
)
"""Method, GPU and clip fps as printed in AFSD's Table 3 (batch 1, 256 frames of 96×96, network alone)."""


@dataclass(frozen=True)
class Measurement:
    """Holds the speed of one engine at one batch size."""

    name: str
    library: str
    device: str
    precision: str
    batch: int
    warmup: int
    runs: int
    median_ms: float
    """Median time of a forward pass of the whole batch."""
    low_ms: float
    """10th percentile of the time of a forward pass."""
    high_ms: float
    """90th percentile of the time of a forward pass."""
    clip_fps: float
    """Frames (on features: steps) of all windows of the batch / median."""
    windows_per_s: float
    """Windows of the batch / median."""
    ratio: float
    """Ratio of clip_fps to that of the first engine."""
    gflops: float
    """Billion floating-point operations per second (2 per multiply-add); 0 if the spec counts none."""
    ceiling_share: float
    """Share of the processor's ceiling at that precision; 0 if the ceiling could not be measured, and on a GPU."""
    resident_ms: float = 0.0
    """Median time with the input in GPU memory, as in Table 3 (outputs are copied back); 0 for engines without it."""
    resident_clip_fps: float = 0.0
    """Frames of all windows of the batch / resident_ms; 0 if resident_ms is 0."""
    video_fps: float = 0.0
    """Unique sampled frames per second from file to detections; 0 if no video was given."""
    stream: str = "rgb"
    """Input of the network, as in its ModelSpec."""


@dataclass(frozen=True)
class Report:
    """Holds all measurements of one session."""

    processor: str
    ceilings: dict[str, float]
    """GFLOP/s of a large matrix product on the CPU, for each precision of the engines on the CPU, in this session."""
    measurements: tuple[Measurement, ...]

    def to_mapping(self) -> dict[str, Any]:
        """Return the report as a mapping for JSON."""
        return asdict(self)


def run_benchmark(
    engines: Sequence[tuple[str, Engine]],
    *,
    batches: Sequence[int] = (1,),
    warmup: int = 2,
    runs: int = 7,
    video: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Measure engines in turns on random windows.

    Args:
        engines: name and engine; the first is the base of the ratios.
        batches: batch sizes.
        warmup: number of uncounted passes of each engine.
        runs: number of counted passes of each engine.
        video: file for video fps; None: video fps is not measured.
        say: function called with progress messages.

    Raises:
        InputError: no engine, or numbers below 1.
    """
    if not engines or not batches:
        raise InputError("a benchmark: got no engine or no batch size, expected at least one of each")
    require_in_range("warmup", warmup, Number)
    require_in_range("runs", runs, Count)
    require_in_range("batch", tuple(batches), tuple[Count, ...])
    precisions = {engine.precision for _, engine in engines if not _on_gpu(engine)}
    if precisions:
        say("measuring the machine's ceiling")
    ceilings = {p: value for p in sorted(precisions) if (value := matrix_ceiling(p)) > 0}
    times: dict[tuple[int, int], _Series] = {}
    for batch in batches:
        say(f"batch {batch}: {warmup} warm-up and {runs} counted passes of {len(engines)} engines in turns")
        for k, series in enumerate(_alternate([e for _, e in engines], batch, warmup, runs)):
            times[batch, k] = series
    speeds = [_video_fps(engine, video, say) if video else 0.0 for _, engine in engines]
    measurements = [
        _measurement(engines[k][0], engines[k][1], batch, warmup, series, times[batch, 0].passes, ceilings, speeds[k])
        for (batch, k), series in times.items()
    ]
    return Report(_machine([engine for _, engine in engines]), ceilings, tuple(measurements))


@dataclass(frozen=True)
class _Series:
    """Holds the seconds of each counted pass of one engine."""

    passes: list[float]
    """Seconds of passes on host arrays, copies included."""
    resident: list[float]
    """Seconds of passes on arrays in GPU memory; empty for engines that take none."""


def _alternate(engines: list[Engine], batch: int, warmup: int, runs: int) -> list[_Series]:
    """Time all engines, which take turns pass by pass."""
    inputs = [_random_inputs(engine, batch) for engine in engines]
    held = [_resident(engine, given) for engine, given in zip(engines, inputs, strict=True)]
    series = [_Series([], []) for _ in engines]
    for turn in range(warmup + runs):
        for engine, given, on_gpu, mine in zip(engines, inputs, held, series, strict=True):
            seconds = [seconds_of(partial(engine.infer, arrays)) for arrays in (given, on_gpu) if arrays is not None]
            if turn >= warmup:
                mine.passes.append(seconds[0])
                mine.resident.extend(seconds[1:])
    return series


def _resident(engine: Engine, inputs: dict[str, NDArray[Any]]) -> dict[str, Any] | None:
    """Copy the inputs to the engine's device; None if the engine takes only host arrays."""
    hold: Callable[..., dict[str, Any]] | None = getattr(engine, "copy_to_device", None)
    return hold(inputs) if hold else None


def _on_gpu(engine: Engine) -> bool:
    return engine.device.lower().startswith(("cuda", "gpu"))


def _random_inputs(engine: Engine, batch: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    inputs: dict[str, NDArray[Any]] = {}
    for tensor in engine.spec.inputs:
        shape = (batch, *(int(size) for size in tensor.shape[1:]))
        if tensor.name == "lengths":
            inputs[tensor.name] = np.full(shape, engine.spec.window_length, np.int32)
        elif tensor.dtype == "uint8":
            inputs[tensor.name] = rng.integers(0, 256, shape, np.uint8)
        else:
            inputs[tensor.name] = rng.standard_normal(shape, np.float32)
    return inputs


def _measurement(
    name: str,
    engine: Engine,
    batch: int,
    warmup: int,
    series: _Series,
    base: list[float],
    ceilings: dict[str, float],
    video_fps: float,
) -> Measurement:
    median = float(np.median(series.passes))
    resident = float(np.median(series.resident)) if series.resident else 0.0
    precision = engine.precision
    ceiling = 0.0 if _on_gpu(engine) else ceilings.get(precision, 0.0)
    gflops = 2 * engine.spec.multiply_adds * batch / median / 1e9
    return Measurement(
        name=name,
        library=engine.library,
        device=engine.device,
        precision=precision,
        batch=batch,
        warmup=warmup,
        runs=len(series.passes),
        median_ms=median * 1e3,
        low_ms=float(np.percentile(series.passes, 10)) * 1e3,
        high_ms=float(np.percentile(series.passes, 90)) * 1e3,
        clip_fps=engine.spec.window_length * batch / median,
        windows_per_s=batch / median,
        ratio=float(np.median(base)) / median,
        gflops=gflops,
        ceiling_share=gflops / ceiling if ceiling else 0.0,
        resident_ms=resident * 1e3,
        resident_clip_fps=engine.spec.window_length * batch / resident if resident else 0.0,
        video_fps=video_fps,
        stream=engine.spec.stream,
    )


def _video_fps(engine: Engine, video: str, say: Callable[[str], None]) -> float:
    """Return the median video fps of three runs from file to detections."""
    say(f"{engine.library}: from file to detections")
    detector = Detector(engine, options=DetectorOptions(allow_truncated=True))
    fps = []
    for _ in range(3):
        detector.run(video)
        fps.append(detector.timing.video_fps)
    return float(np.median(fps))


def _machine(engines: Sequence[Engine]) -> str:
    """Return the names of the processor and of the engines' GPUs."""
    gpus = sorted({_gpu(engine.device) for engine in engines if _on_gpu(engine)})
    return "; ".join([_processor(), *gpus])


def _gpu(device: str) -> str:
    """Return the index and name of an engine's GPU; the engine's own text if the name cannot be found."""
    index = device.partition(":")[2].partition(" ")[0] or "0"
    try:
        return str(device_facts(load_bindings("tensorrt", "naming a GPU"), int(index)))
    except (AfsdError, ValueError):
        return device


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a pseudo-file, where there is one
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        return f"{names[0]}, {len(names)} logical cores"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def format_report(report: Report) -> str:
    """Format the measurements as text, for models on frames with the paper's Table 3."""
    on_features = all(m.stream == "features" for m in report.measurements)
    lines = [f"machine: {report.processor}"]
    lines += [f"ceiling {name}: {value:,.0f} GFLOP/s (matrix product)" for name, value in report.ceilings.items()]
    moving = "steps/s" if on_features else "clip fps"
    header = ["engine", "library", "device", "precision", "batch", "warm-up", "runs", "ms (10–90 %)", "windows/s"]
    rows = [[*header, moving, "resident", "ratio", "ceiling", "video fps"]]
    for m in report.measurements:
        rows.append(
            [
                m.name, m.library, m.device, m.precision, str(m.batch), str(m.warmup), str(m.runs),
                f"{m.median_ms:,.1f} ({m.low_ms:,.1f}–{m.high_ms:,.1f})",
                f"{m.windows_per_s:,.1f}",
                f"{m.clip_fps:,.0f}",
                f"{m.resident_clip_fps:,.0f}" if m.resident_clip_fps else "–",
                f"{m.ratio:.2f}×",
                f"{m.ceiling_share:.0%}" if m.ceiling_share else "–",
                f"{m.video_fps:,.0f}" if m.video_fps else "–",
            ]
        )  # fmt: skip
    lines += ["", align(rows, "llll" + "r" * 10)]
    if on_features:
        return "\n".join(lines)
    lines += ["", "Table 3 of AFSD (clip fps, network alone, batch 1, 256 frames of 96×96):"]
    lines.append(align([[method, gpu, f"{fps:,}"] for method, gpu, fps in TABLE_3], "llr", indent=2))
    return "\n".join(lines)
