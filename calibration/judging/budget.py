"""Accuracy is decided: give the dearest layers back to floating point until the drop is inside the budget.

Every step is judged on the test videos and timed; the path is what a person chooses from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from calibration.judging.judge import Judge, open_graph
from calibration.judging.sensitivity import Cost
from calibration.quantise.placement import Layout
from export.comparison.drift import DetectionDrift
from export.graph.trace import seeded_inputs
from runtime.benchmark.ceiling import seconds_of
from runtime.common.tables import align, percent
from runtime.engines import Engine
from runtime.families import class_output

RUNS = 5
"""Timed passes of each network, in turns with the float one."""


@dataclass(frozen=True)
class Step:
    """One number of restored layers."""

    restored: tuple[str, ...]
    """Layers in floating point, the dearest first."""
    share: float
    """Of the multiply-adds in 8 bit, the output layers counted as float."""
    map: float
    """Average mAP, 0 … 1."""
    drop: float
    """Below the float network's, in points of mAP."""
    logits: float
    """Drift of the coarse class logits."""
    detections: DetectionDrift
    """Of all test videos together."""
    speed: float
    """Times the float network's on this machine, both in one session; 0: not timed (the target is not here)."""


@dataclass(frozen=True)
class BudgetPath:
    """The way from all layers quantised to the budget."""

    float_map: float
    labelled: bool
    """Whether mAP is against labels, or against the float network's own detections."""
    max_drop: float | None
    """Budget in points of mAP; None: none was set."""
    steps: tuple[Step, ...]

    @property
    def chosen(self) -> Step:
        """The first step inside the budget, else the best there is; the first of all without a budget."""
        if self.max_drop is None:
            return self.steps[0]
        inside = [step for step in self.steps if step.drop <= self.max_drop]
        return inside[0] if inside else min(self.steps, key=lambda step: step.drop)

    @property
    def met(self) -> bool:
        """Whether the drop of the chosen step is inside the budget."""
        return self.max_drop is None or self.chosen.drop <= self.max_drop

    def table(self) -> str:
        """For people."""
        against = "labels" if self.labelled else "the float network's own detections"
        rows = [["restored", "8-bit work", "mAP", "drop", "logits", "lost", "gained", "moved", "speed", ""]]
        rows.append(["float", "0.0%", percent(self.float_map), "", "", "", "", "", "1.00x", ""])
        rows += [
            [
                str(len(step.restored)), f"{step.share:.1%}", percent(step.map), f"{step.drop:+.2f}",
                f"{step.logits:.2%}", *map(str, (step.detections.lost, step.detections.gained, step.detections.moved)),
                f"{step.speed:.2f}x" if step.speed else "–", "chosen" if step == self.chosen else "",
            ]
            for step in self.steps
        ]  # fmt: skip
        return f"average mAP against {against}\n{align(rows)}"


def walk(
    layout: Layout,
    build: Callable[[tuple[str, ...]], onnx.ModelProto],
    judge: Judge,
    costs: Callable[[], Sequence[Cost]],
    *,
    kept: Sequence[str] = (),
    max_drop: float | None = None,
    whole: bool = False,
    timed: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> BudgetPath:
    """Judge the quantised network, then with more and more layers restored until the drop is inside the budget.

    Args:
        layout: of the float network.
        build: names of restored layers → graph.
        judge: with the test videos.
        costs: gives the layers, the dearest first; asked only if one has to be restored.
        kept: layers that are in floating point from the beginning.
        max_drop: points of mAP; None takes the first step as it is.
        whole: go on to the end all the same, for the trade-off.
        timed: whether to time every step beside the float network, in OpenVINO.
        say: receives progress.
    """
    plain = open_graph(layout.graph) if timed else None
    steps: list[Step] = []
    order: tuple[str, ...] = ()
    for count in counts(len(layout.layers) - len(kept)):
        if len(steps) == 1:
            order = tuple(cost.layer for cost in costs())
        steps.append(_step(layout, build(order[:count]), order[:count], kept, judge, plain))
        say(f"{count} layers restored: mAP {percent(steps[-1].map)}, drop {steps[-1].drop:+.2f} points")
        inside = max_drop is None or steps[-1].drop <= max_drop
        if inside and not whole:
            break
    if plain is not None:
        plain.close()
    return BudgetPath(judge.map, judge.labelled, max_drop, tuple(steps))


def counts(layers: int) -> Iterator[int]:
    """Numbers of restored layers that are tried: 0, 1, 2, 3, 4, 6, 9, 13, … all."""
    count = 0
    while count < layers:
        yield count
        count = max(count + 1, int(count * 1.5))
    yield layers


def _step(
    layout: Layout,
    graph: onnx.ModelProto,
    restored: tuple[str, ...],
    kept: Sequence[str],
    judge: Judge,
    plain: Engine | None,
) -> Step:
    engine = open_graph(graph)
    try:
        judgement = judge(engine)
        speed = _ratio(plain, engine) if plain is not None else 0.0
    finally:
        engine.close()
    work = sum(layer.multiply_adds for layer in layout.layers)
    in_float = sum(layer.multiply_adds for layer in layout.layers if layer.name in (*restored, *kept))
    total = max(engine.spec.multiply_adds, work)
    logits = class_output(engine.spec)
    drift = next(output.relative for output in judgement.drift.outputs if output.name == logits)
    return Step(
        restored, (work - in_float) / total, judgement.map, 100 * (judge.map - judgement.map), drift,
        judgement.drift.detections[-1], speed,
    )  # fmt: skip


def _ratio(plain: Engine, engine: Engine) -> float:
    """How many times as fast as the float network, pass by pass in turns."""
    inputs = seeded_inputs(engine.spec, 0, 1)
    times = [[seconds_of(lambda e=e: e.infer(inputs)) for e in (plain, engine)] for _ in range(RUNS + 1)]  # type: ignore[misc]
    before, after = np.median(times[1:], axis=0)
    return float(before / after)
