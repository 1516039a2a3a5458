"""Compare and time the streaming engines of the GPU check: features, head, frames per second of a step."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from export.graph.files import load_graph, save_graph
from export.graph.trace import seeded_inputs
from export.streaming.graph import to_streaming
from export.studies.gpu_bench import Case
from export.to_precision import LIMITS
from export.trt.streaming import measure_drift
from runtime.benchmark.ceiling import seconds_of
from runtime.engines import Engine
from runtime.engines.base import Arrays
from runtime.engines.streaming import StreamingEngine
from runtime.errors import ExportError
from runtime.families import class_output
from runtime.spec.model import ModelSpec
from runtime.spec.streaming import LIVE_CHUNK, STREAMING_CHUNK
from runtime.streaming.backbone import StreamingBackbone
from runtime.streaming.windows import FeatureWindows

STREAM_CASES = tuple(Case(precision, "plugin", (1, 1, 8), stream=True) for precision in ("fp32", "fp16", "int8"))

CHUNKS = (STREAMING_CHUNK, LIVE_CHUNK)

DRIFT = {**LIMITS, "fp32": 1e-4, "int8": 0.5}
"""Precision → largest relative drift of a feature and of the coarse class logits from ONNX Runtime in float32, where
those are measured; a graph with a wrong connection differs by about 1. Untrained weights make features that hardly
depend on the frames, so that a single state which is lost is seen in float32 alone."""


def write_reference(checkpoint: Path, out: Path) -> Path:
    """Write the streaming ONNX file, in float32, of a checkpoint whose .onnx file lies beside it."""
    source, target = checkpoint.with_suffix(".onnx"), out / f"{checkpoint.stem}.stream.onnx"
    save_graph(to_streaming(load_graph(source), str(source)), target)
    return target


def open_stream(engine: Engine) -> StreamingEngine:
    """Return an engine as a streaming one (ExportError: it is none)."""
    if not isinstance(engine, StreamingEngine):
        engine.close()
        raise ExportError(f"{engine.library}: opened as an engine of windows, expected a streaming one")
    return engine


def compare_streams(reference: StreamingEngine, engine: StreamingEngine) -> str:
    """Compare a streaming engine with another on the same frames, in chunks of both lengths; return what was found.

    Raises:
        ExportError: a feature or the class logits drift further than the precision explains, or are not finite.
    """
    frames = make_frames(engine.spec)
    expected = run_stream(reference, frames, STREAMING_CHUNK)
    found = {chunk: run_stream(engine, frames, chunk) for chunk in CHUNKS}
    drifts = {f"features in chunks of {chunk}": measure_drift(expected, values) for chunk, values in found.items()}
    windows = FeatureWindows(engine.streaming, engine.spec.window_length, engine.spec.window_length)
    window = windows.finish(expected, len(frames))[-1]
    given = {name: values[None] for name, values in window.features.items()}
    name = class_output(engine.spec)
    wanted, outputs = reference.infer(given)[name], engine.infer(given)[name]
    drifts["class logits"] = measure_drift({name: wanted}, {name: outputs})
    text = ", ".join(f"{what} {drift:.3%}" for what, drift in drifts.items())
    limit = DRIFT[engine.precision]
    if not all(drift <= limit for drift in drifts.values()):
        raise ExportError(f"drift of {text}; accepted up to {limit:.2%}")
    return f"drift of {text}"


def make_frames(spec: ModelSpec) -> NDArray[np.uint8]:
    """Return frames [T,H,W,C] of two windows and a half, the flow behind the colours; T is no multiple of 8."""
    parts = []
    for seed in range(3):
        inputs = seeded_inputs(spec, seed, 1)
        parts.append(np.concatenate([inputs[name][0] for name in ("frames", "flow") if name in inputs], axis=-1))
    frames: NDArray[np.uint8] = np.concatenate(parts)[: spec.window_length * 5 // 2 - 3]
    return frames


def run_stream(engine: StreamingEngine, frames: NDArray[np.uint8], chunk: int) -> Arrays:
    """Return the features [C,t] of a video by name."""
    backbone = StreamingBackbone(engine, chunk)
    parts = [found for frame in frames if (found := backbone.push(frame)) is not None]
    parts.append(backbone.finish())
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[-1]}


def time_stream(engine: StreamingEngine, warmup: int, runs: int, batches: tuple[int, ...]) -> list[str]:
    """Return medians as cells: frames per second of a step for each length of chunks, milliseconds of the head."""
    cells = []
    streaming, spec = engine.streaming, engine.spec
    start = -(-streaming.delay // streaming.multiple) * streaming.multiple  # inside the video
    rng = np.random.default_rng(0)
    for chunk in CHUNKS:
        sizes = {t.name: t.shape[2:] for t in spec.inputs if t.name != "lengths"}
        shapes = {name: (1, streaming.overlap + chunk, *map(int, size)) for name, size in sizes.items()}
        frames: Arrays = {name: rng.integers(0, 256, shape, np.uint8) for name, shape in shapes.items()}
        states = engine.empty_states()

        def step(frames: Arrays = frames, states: Arrays = states) -> None:
            engine.step(frames, states, start=start)

        for _ in range(warmup):
            step()
        cells.append(f"{chunk / median(seconds_of(step) for _ in range(runs)):,.0f}")
    for batch in batches:
        given = {
            f.name: rng.standard_normal((batch, f.channels, spec.window_length // f.rate)).astype(np.float32)
            for f in streaming.features
        }

        def head(given: Arrays = given) -> None:
            engine.infer(given)

        for _ in range(warmup):
            head()
        cells.append(f"{median(seconds_of(head) for _ in range(runs)) * 1e3:.2f}")
    return cells
