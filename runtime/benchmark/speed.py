"""Measure the speed of engines side by side, as in AFSD's Table 3 and from file to detections.

*Clip fps* is the paper's measure: frames of a window divided by the time of the forward pass alone. On a GPU,
*resident* is this figure with the input already in GPU memory; clip fps includes both copies. *Video fps* is what users
get: unique sampled frames per second from file to detections; windows overlap by half, so most frames go through the
network twice. For models on features a frame is a step, and *windows per second* is the relevant figure. Machines are
shared and noisy; therefore engines take turns, run by run, warm up until they are stable, and ratios are of medians of
one session; the ceilings of the machine are measured in the same turns. docs/speed.md defines every number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.benchmark.bound import clip_bound, is_streaming, measure_decoding, multiply_adds_of_run, video_bound
from runtime.benchmark.ceiling import CeilingMeter, seconds_of
from runtime.benchmark.machine import describe_machine
from runtime.benchmark.report import Measurement, Report
from runtime.benchmark.spread import STABLE_PASSES, is_stable, quartiles
from runtime.common.ranges import Count, Number, require_in_range
from runtime.common.tables import align
from runtime.detector import Detector, DetectorOptions
from runtime.engines.base import Engine
from runtime.engines.tensorrt.cuda import device_facts, load_bindings
from runtime.errors import AfsdError, InputError
from runtime.spec.model import ModelSpec
from runtime.spec.streaming import STREAMING_CHUNK

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


WARMUP, RUNS, VIDEO_RUNS = 20, 11, 3
"""Most uncounted passes, counted passes, and runs of the video, unless others are asked for."""

CEILING_PASSES = 5
"""Passes of the ceilings before the engines' turns, in each of which there is one more."""

Say = Callable[[str], None]
"""Function called with progress messages."""


def run_benchmark(
    engines: Sequence[tuple[str, Engine]],
    *,
    batches: Sequence[int] = (1,),
    warmup: int = WARMUP,
    runs: int = RUNS,
    video: str | None = None,
    video_runs: int = VIDEO_RUNS,
    clips: bool = True,
    threads: int | None = None,
    say: Say = lambda _: None,
) -> Report:
    """Measure engines in turns on random windows, and on a video.

    Args:
        engines: name and engine; the first is the base of the ratios. One that computes each frame once has no windows:
            of it only video fps is measured.
        batches: batch sizes.
        warmup: most uncounted passes of each engine; an engine's warm-up ends when it is stable (`is_stable`).
        runs: number of counted passes of each engine.
        video: file for video fps; None: video fps is not measured.
        video_runs: number of runs from file to detections of each engine.
        clips: whether windows alone are timed, too; False: only the video.
        threads: CPU threads that the engines were opened with, for the report; None: their own choice.
        say: function called with progress messages.

    Raises:
        InputError: no engine, numbers below 1, or an engine that computes each frame once and no video.
    """
    if not engines or not batches or not (clips or video):
        raise InputError("a benchmark: got no engine, no batch size or nothing to time, expected at least one of each")
    require_in_range("warmup", warmup, Number)
    require_in_range("runs", runs, Count)
    require_in_range("video_runs", video_runs, Count)
    require_in_range("batch", tuple(batches), tuple[Count, ...])
    for name, engine in engines:
        if is_streaming(engine.spec) and video is None:
            raise InputError(f"{name}: computes each frame once, so that only a video can be timed; give one (--video)")
    machine = describe_machine(tuple(sorted({_gpu(e.device) for _, e in engines if _on_gpu(e)})))
    precisions = {engine.precision for _, engine in engines if not _on_gpu(engine)}
    if precisions:
        say("measuring the machine's ceilings, in turns with the engines")
    meter = CeilingMeter(sorted(precisions))
    for _ in range(CEILING_PASSES):
        meter.measure()
    windowed = [k for k, (_, engine) in enumerate(engines) if clips and not is_streaming(engine.spec)]
    times: dict[tuple[int, int], _Series] = {}
    for batch in batches if windowed else ():
        say(f"batch {batch}: up to {warmup} warm-up and {runs} counted passes of {len(windowed)} engines in turns")
        found = _alternate([engines[k][1] for k in windowed], batch, warmup, runs, meter)
        times |= {(batch, k): series for k, series in zip(windowed, found, strict=True)}
    videos = _run_videos(engines, video, video_runs, meter, say) if video else [_Runs() for _ in engines]
    ceilings = meter.ceilings()
    measurements = []
    for batch in batches:
        for k, (name, engine) in enumerate(engines):
            if (batch, k) not in times and batch != batches[0]:
                continue  # a video has no batch
            series = times.get((batch, k))
            base = times.get((batch, 0))
            ceiling = 0.0 if _on_gpu(engine) else ceilings.get(engine.precision, 0.0)
            measurements.append(_measurement(name, engine, batch, series, base, ceiling, videos[k], machine.cores))
    options = {"warmup": warmup, "runs": runs, "video_runs": video_runs if video else 0, "threads": threads or 0}
    return Report(machine, ceilings, tuple(measurements), Path(video).name if video else "", options)


@dataclass
class _Series:
    """Holds the seconds of each pass of one engine."""

    warmup: list[float] = field(default_factory=list)
    """Seconds of uncounted passes."""
    passes: list[float] = field(default_factory=list)
    """Seconds of counted passes on host arrays, copies included."""
    resident: list[float] = field(default_factory=list)
    """Seconds of counted passes on arrays in GPU memory; empty for engines that take none."""


@dataclass
class _Runs:
    """Holds the runs of one engine from file to detections."""

    fps: list[float] = field(default_factory=list)
    """Video fps of each run."""
    core_ms: list[float] = field(default_factory=list)
    """Milliseconds of one core per sampled frame, all threads of this process, of each run."""
    frames: int = 0
    multiply_adds: int = 0
    """Multiply-adds of the network for the whole video; 0 if they are not counted."""
    decoding_core_s: float = 0.0
    """Core-seconds per sampled frame of decoding alone, the least of all its runs; 0 if it was not measured."""


def _alternate(engines: list[Engine], batch: int, warmup: int, runs: int, meter: CeilingMeter) -> list[_Series]:
    """Time all engines, which take turns pass by pass; in the warm-up those that are stable sit out."""
    inputs = [_random_inputs(engine, batch) for engine in engines]
    held = [_resident(engine, given) for engine, given in zip(engines, inputs, strict=True)]
    series = [_Series() for _ in engines]
    together = list(zip(engines, inputs, held, series, strict=True))
    for _ in range(warmup):
        waiting = [entry for entry in together if not is_stable(entry[3].warmup)]
        for engine, given, on_gpu, mine in waiting:
            mine.warmup.append(_time_pass(engine, given, on_gpu)[0])
    for _ in range(runs):
        meter.measure()
        for engine, given, on_gpu, mine in together:
            seconds = _time_pass(engine, given, on_gpu)
            mine.passes.append(seconds[0])
            mine.resident.extend(seconds[1:])
    return series


def _time_pass(engine: Engine, given: dict[str, Any], on_gpu: dict[str, Any] | None) -> list[float]:
    """Return the seconds of a pass on host arrays and, if there are any, on arrays in GPU memory."""
    return [seconds_of(partial(engine.infer, arrays)) for arrays in (given, on_gpu) if arrays is not None]


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
    series: _Series | None,
    base: _Series | None,
    ceiling: float,
    video: _Runs,
    cores: int,
) -> Measurement:
    """Return an engine's row.

    Args:
        name: name of the engine.
        engine: the engine.
        batch: batch size.
        series: passes of the engine; None if it has no windows.
        base: passes of the first engine at this batch size; None if it has no windows.
        ceiling: ceiling of the machine at the engine's precision, GFLOP/s; 0 if it is not known.
        video: runs of the engine on the video.
        cores: cores of the bound.
    """
    spec = engine.spec
    low, median, high = quartiles(series.passes) if series else (0.0, 0.0, 0.0)
    resident = float(np.median(series.resident)) if series and series.resident else 0.0
    window = spec.window_length * batch
    gflops = 2 * spec.multiply_adds * batch / median / 1e9 if median else 0.0
    fps = float(np.median(video.fps)) if video.fps else 0.0
    clip_limit = clip_bound(spec.multiply_adds, spec.window_length, ceiling) if spec.multiply_adds and ceiling else 0.0
    video_limit = 0.0
    if ceiling and video.multiply_adds and video.decoding_core_s:
        video_limit = video_bound(video.multiply_adds, video.frames, ceiling, video.decoding_core_s, cores)
    return Measurement(
        name=name,
        library=engine.library,
        device=engine.device,
        precision=engine.precision,
        batch=batch,
        warmup=len(series.warmup) if series else 0,
        runs=len(series.passes) if series else 0,
        median_ms=median * 1e3,
        low_ms=low * 1e3,
        high_ms=high * 1e3,
        clip_fps=window / median if median else 0.0,
        windows_per_s=batch / median if median else 0.0,
        ratio=float(np.median(base.passes)) / median if median and base else 0.0,
        gflops=gflops,
        ceiling_share=gflops / ceiling if ceiling else 0.0,
        resident_ms=resident * 1e3,
        resident_clip_fps=window / resident if resident else 0.0,
        video_fps=fps,
        stream=spec.stream,
        settled=series is None or is_stable(series.warmup),
        passes_ms=tuple(seconds * 1e3 for seconds in series.passes) if series else (),
        clip_bound_fps=0.0 if is_streaming(spec) else clip_limit,
        video_passes_fps=tuple(video.fps),
        video_bound_fps=video_limit,
        video_share=fps / video_limit if video_limit else 0.0,
        video_core_ms=float(np.median(video.core_ms)) if video.core_ms else 0.0,
        decoding_core_ms=video.decoding_core_s * 1e3,
        streaming=is_streaming(spec),
    )


def _run_videos(
    engines: Sequence[tuple[str, Engine]], video: str, runs: int, meter: CeilingMeter, say: Say
) -> list[_Runs]:
    """Run all engines from file to detections, in turns with reading the file alone."""
    detectors = [Detector(engine, options=DetectorOptions(allow_truncated=True)) for _, engine in engines]
    found = [_Runs() for _ in engines]
    say("from file to detections: a short uncounted run of each")
    for detector in detectors:
        _warm_up(detector)
    decoding: dict[tuple[Any, ...], float] = {}
    for turn in range(runs):
        say(f"from file to detections, run {turn + 1} of {runs}")
        for key, spec in {_reading_of(engine.spec): engine.spec for _, engine in engines}.items():
            if spec.features is None:
                decoding[key] = min(measure_decoding(video, spec), decoding.get(key, np.inf))
        for (_, engine), detector, mine in zip(engines, detectors, found, strict=True):
            meter.measure()
            start = time.process_time()
            detector.run(video)
            timing = detector.timing
            mine.core_ms.append((time.process_time() - start) * 1e3 / max(timing.frames, 1))
            mine.fps.append(timing.video_fps)
            mine.frames = timing.frames
            mine.multiply_adds = multiply_adds_of_run(engine.spec, timing.frames, timing.windows)
            mine.decoding_core_s = decoding.get(_reading_of(engine.spec), 0.0)
    return found


def _warm_up(detector: Detector) -> None:
    """Run a detector on random frames, so that nothing is compiled or allocated for the first time in a counted run."""
    spec = detector.engine.spec
    if spec.features is not None or spec.stream == "rgb+flow":
        return
    channels = 2 if spec.stream == "flow" else 3
    shape = (2 * max(spec.window_length, STREAMING_CHUNK), *spec.frame_size, channels)
    detector.run(np.random.default_rng(0).integers(0, 256, shape, np.uint8), fps=spec.sample_fps)


def _reading_of(spec: ModelSpec) -> tuple[Any, ...]:
    """Return what the cost of reading a video depends on."""
    return spec.stream, spec.frame_size, spec.crop_size, spec.sample_fps, spec.sampling


def _gpu(device: str) -> str:
    """Return the index and name of an engine's GPU; the engine's own text if the name cannot be found."""
    index = device.partition(":")[2].partition(" ")[0] or "0"
    try:
        return str(device_facts(load_bindings("tensorrt", "naming a GPU"), int(index)))
    except (AfsdError, ValueError):
        return device


def format_report(report: Report) -> str:
    """Format the measurements as text, for models on frames with the paper's Table 3."""
    on_features = all(m.stream == "features" for m in report.measurements)
    machine = report.machine
    load = f", load {machine.load[0]:g} at the start" if machine.load else ""
    lines = [f"machine: {report.processor}{load}"]
    lines += [f"ceiling {name}: {value:,.0f} GFLOP/s" for name, value in report.ceilings.items()]
    moving = "steps/s" if on_features else "clip fps"
    header = ["engine", "library", "device", "precision", "batch", "warm-up", "runs", "ms (quartiles)", "windows/s"]
    rows = [[*header, moving, "resident", "ratio", "of bound", "video fps", "of bound"]]
    for m in report.measurements:
        rows.append(
            [
                m.name, m.library, m.device, m.precision, str(m.batch), f"{m.warmup}{'' if m.settled else '*'}",
                str(m.runs),
                f"{m.median_ms:,.1f} ({m.low_ms:,.1f}–{m.high_ms:,.1f})" if m.median_ms else "–",
                f"{m.windows_per_s:,.1f}" if m.windows_per_s else "–",
                f"{m.clip_fps:,.0f}" if m.clip_fps else "–",
                f"{m.resident_clip_fps:,.0f}" if m.resident_clip_fps else "–",
                f"{m.ratio:.2f}×" if m.ratio else "–",
                f"{m.ceiling_share:.0%}" if m.ceiling_share else "–",
                f"{m.video_fps:,.0f}" if m.video_fps else "–",
                f"{m.video_share:.0%}" if m.video_share else "–",
            ]
        )  # fmt: skip
    lines += ["", align(rows, "llll" + "r" * 11)]
    if not all(m.settled for m in report.measurements):
        lines.append(
            f"* still not stable after that many passes (medians of {STABLE_PASSES} passes differ by 3 % or more); "
            "give it a quieter machine, or more of them (--warmup)"
        )
    if on_features:
        return "\n".join(lines)
    lines += ["", "Table 3 of AFSD (clip fps, network alone, batch 1, 256 frames of 96×96):"]
    lines.append(align([[method, gpu, f"{fps:,}"] for method, gpu, fps in TABLE_3], "llr", indent=2))
    return "\n".join(lines)
