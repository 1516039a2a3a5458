"""Build the plans of a streaming network, each part of its graph in a build of its own, and compare its two steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from export.graph.export_input import Say
from export.graph.files import save_graph
from export.trt.build import BuildOptions, Plan, Profile, build_plan
from export.trt.library import Library
from runtime.common.temporaries import scratch_folder
from runtime.engines.base import Arrays
from runtime.engines.onnx.parts import cut_part
from runtime.engines.streaming import StreamingEngine
from runtime.engines.tensorrt.build_facts import PARTS, PlanPart
from runtime.engines.tensorrt.streaming import inputs_of
from runtime.errors import ExportError
from runtime.spec.model import ModelSpec
from runtime.spec.streaming import HEAD, STEADY, STREAMING_CHUNK, Streaming


def build_parts(
    graph: onnx.ModelProto,
    spec: ModelSpec,
    library: Library,
    options: BuildOptions,
    target: Path,
    say: Say,
    plugin_for: str = "",
) -> tuple[Plan, tuple[PlanPart, ...]]:
    """Build the plans of a streaming graph.

    Args:
        graph: streaming graph whose tensors have the types that the engine computes in.
        spec: ModelSpec that the graph carries.
        library, options, say, plugin_for: see `build_plan`; the batch is the head's.
        target: the engine file, for the names of the builder's logs, `<target>.<part>.log`.

    Returns:
        The plans one behind the other, with all their layers, and what each is.

    Raises:
        ExportError: see `build_plan`.
    """
    plans, parts = [], []
    with scratch_folder() as folder:
        whole = folder / "whole.onnx"
        save_graph(graph, whole)
        for name in PARTS:
            say(f"part {name} of {', '.join(PARTS)}")
            lengths = choose_lengths(spec, name, options.batch)
            piece, log = (
                onnx.load_model_from_string(cut_part(whole, name)),
                target.with_name(f"{target.name}.{name}.log"),
            )
            plugin = plugin_for if name == HEAD else ""
            plan = build_plan(piece, _profile(spec, name, lengths), library, options, log, say, plugin)
            plans.append(plan)
            parts.append(PlanPart(name, len(plan.data), lengths))
    joined = Plan(
        b"".join(plan.data for plan in plans),
        sum(plan.seconds for plan in plans),
        max(plan.peak_mib for plan in plans),
        tuple(layer for plan in plans for layer in plan.layers),
    )
    return joined, tuple(parts)


def choose_lengths(spec: ModelSpec, part: str, batch: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the smallest, optimal and largest length of a part: frames of a step's chunk, windows of the head.

    The step at an end of the video takes what is left of the last chunk with the frames by which features are late, or
    a whole window where the video is shorter.
    """
    if part == HEAD:
        return batch
    streaming = _streaming_of(spec)
    late = -(-streaming.delay // streaming.multiple) * streaming.multiple
    longest = STREAMING_CHUNK if part == STEADY else max(STREAMING_CHUNK, spec.window_length) + late
    return streaming.multiple, STREAMING_CHUNK, longest


SAME_STEP = {"fp32": 1e-4}
"""Precision → largest relative difference between the features of the two steps."""
SAME_ROUNDED_STEP = 0.3
"""That of other precisions, in which the builder may round elsewhere; a wrong connection differs by about 1."""


def compare_steps(engine: StreamingEngine, say: Say) -> None:
    """Compare the step inside a video with that at its ends, on the same made-up frames and states.

    Windows shorter than the delay of the features never reach the step inside a video, so comparing windows says
    nothing about it.

    Raises:
        ExportError: the features differ by more than rounding explains.
        EngineError: a run failed.
    """
    streaming = engine.streaming
    chunk = -(-streaming.delay // streaming.multiple) * streaming.multiple or streaming.multiple
    rng = np.random.default_rng(0)
    sizes = {tensor.name: map(int, tensor.shape[2:]) for tensor in engine.spec.inputs if tensor.name != "lengths"}
    shapes = {name: (1, streaming.overlap + chunk, *size) for name, size in sizes.items()}
    frames: Arrays = {name: rng.integers(0, 256, shape, np.uint8) for name, shape in shapes.items()}
    _, states = engine.step(frames, engine.empty_states(), start=0)
    inside, _ = engine.step(frames, states, start=chunk)
    engine.without_masks = False
    at_ends, _ = engine.step(frames, states, start=chunk)
    engine.without_masks = True
    difference = measure_drift(at_ends, inside)
    say(f"the step inside a video differs from that at its ends by {difference:.3%}")
    limit = SAME_STEP.get(engine.precision, SAME_ROUNDED_STEP)
    if not difference <= limit:
        raise ExportError(f"the steps of the engine differ by {difference:.3%}, accepted up to {limit:.3%}")


def measure_drift(expected: Arrays, found: Arrays) -> float:
    """Return the largest root mean square of a difference, relative to that of the expected array; NaN stays NaN."""
    drifts = [np.sqrt(np.mean((found[name] - value) ** 2) / np.mean(value**2)) for name, value in expected.items()]
    return float(np.max(drifts))


def _profile(spec: ModelSpec, part: str, lengths: tuple[int, int, int]) -> Profile:
    """Return the range of shapes of a part's inputs that depend on its length."""
    low, best, high = lengths
    return {
        f"{part}/{name}": (tensor.shape(low), tensor.shape(best), tensor.shape(high))
        for name, tensor in inputs_of(spec, part).items()
        if tensor.shape(1) != tensor.shape(2)
    }


def _streaming_of(spec: ModelSpec) -> Streaming:
    assert spec.streaming is not None
    return spec.streaming
