"""Restore the most costly layers to floating point until the drop of mAP is inside a budget.

Every number of restored layers is judged on the test videos and timed, so that a person can choose another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from calibration.judging.judge import Judge, open_graph
from calibration.judging.sensitivity import Cost
from calibration.quantise.placement import Placement
from export.comparison.drift import DetectionDrift
from export.graph.trace import seeded_inputs
from runtime.benchmark.ceiling import seconds_of
from runtime.common.tables import align, percent
from runtime.common.text import counted
from runtime.engines import Engine
from runtime.families import class_output

RUNS = 5
"""Number of timed passes of each network, alternating with the float network."""


@dataclass(frozen=True)
class Step:
    """Judges the network with one number of restored layers."""

    restored: tuple[str, ...]
    """Names of the restored layers, the most costly first."""
    share: float
    """Share of all multiply-adds in 8 bit, 0 … 1; the output layers count as float."""
    map: float
    """Average mAP, 0 … 1."""
    drop: float
    """Drop of average mAP from the float network, in points."""
    logits: float
    """Relative drift of the coarse class logits."""
    detections: DetectionDrift
    """Drift of the detections in all test videos together."""
    speed: float
    """Speed relative to the float network, both timed here in one session; 0: not timed (the target is not here)."""


@dataclass(frozen=True)
class BudgetPath:
    """Holds the judgements from all layers quantised to the budget."""

    float_map: float
    """Average mAP of the float network, 0 … 1."""
    labelled: bool
    """Whether mAP is measured against labels; otherwise against the float network's own detections."""
    max_drop: float | None
    """Budget in points of mAP; None: no budget."""
    steps: tuple[Step, ...]
    """Judgements by growing number of restored layers."""

    @property
    def chosen(self) -> Step:
        """First step inside the budget, else the one with the smallest drop; without a budget the first step."""
        if self.max_drop is None:
            return self.steps[0]
        inside = [step for step in self.steps if step.drop <= self.max_drop]
        return inside[0] if inside else min(self.steps, key=lambda step: step.drop)

    @property
    def met(self) -> bool:
        """Whether the drop of the chosen step is inside the budget."""
        return self.max_drop is None or self.chosen.drop <= self.max_drop

    def table(self) -> str:
        """Return the path as aligned text."""
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


def restore_layers(
    placement: Placement,
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
    """Judge the quantised network with more and more restored layers until the drop is inside the budget.

    Args:
        placement: placement of the float network.
        build: returns the graph for the names of restored layers.
        judge: judge with the test videos.
        costs: returns the layers, the most costly first; called only if a layer must be restored.
        kept: names of layers that are in floating point from the beginning.
        max_drop: budget in points of mAP; None: stop with no layer restored.
        whole: whether to continue until all layers are restored, for the trade-off.
        timed: whether to time every network beside the float network, in OpenVINO.
        say: receives progress.
    """
    plain = open_graph(placement.graph) if timed else None
    steps: list[Step] = []
    order: tuple[str, ...] = ()
    for count in restored_counts(len(placement.layers) - len(kept)):
        if len(steps) == 1:
            order = tuple(cost.layer for cost in costs())
        steps.append(_step(placement, build(order[:count]), order[:count], kept, judge, plain))
        say(f"{counted(count, 'layer')} restored: mAP {percent(steps[-1].map)}, drop {steps[-1].drop:+.2f} points")
        inside = max_drop is None or steps[-1].drop <= max_drop
        if inside and not whole:
            break
    if plain is not None:
        plain.close()
    return BudgetPath(judge.map, judge.labelled, max_drop, tuple(steps))


def restored_counts(layers: int) -> Iterator[int]:
    """Yield the numbers of restored layers that are tried: 0, 1, 2, 3, 4, 6, 9, 13, … all."""
    count = 0
    while count < layers:
        yield count
        count = max(count + 1, int(count * 1.5))
    yield layers


def _step(
    placement: Placement,
    graph: onnx.ModelProto,
    restored: tuple[str, ...],
    kept: Sequence[str],
    judge: Judge,
    plain: Engine | None,
) -> Step:
    engine = open_graph(graph)
    try:
        judgement = judge(engine)
        speed = _measure_speed(plain, engine) if plain is not None else 0.0
    finally:
        engine.close()
    work = sum(layer.multiply_adds for layer in placement.layers)
    in_float = sum(layer.multiply_adds for layer in placement.layers if layer.name in (*restored, *kept))
    total = max(engine.spec.multiply_adds, work)
    logits = class_output(engine.spec)
    drift = next(output.relative for output in judgement.drift.outputs if output.name == logits)
    return Step(
        restored, (work - in_float) / total, judgement.map, 100 * (judge.map - judgement.map), drift,
        judgement.drift.detections[-1], speed,
    )  # fmt: skip


def _measure_speed(plain: Engine, engine: Engine) -> float:
    """Measure the speed relative to the float network, with alternating passes."""
    inputs = seeded_inputs(engine.spec, 0, 1)
    times = [[seconds_of(lambda e=e: e.infer(inputs)) for e in (plain, engine)] for _ in range(RUNS + 1)]  # type: ignore[misc]
    before, after = np.median(times[1:], axis=0)
    return float(before / after)
