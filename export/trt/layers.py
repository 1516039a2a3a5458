"""What the layers of an engine compute in, as its builder reports it; and which convolutions are not what was asked."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import onnx

TYPES = {
    "float": "fp32", "fp32": "fp32", "half": "fp16", "fp16": "fp16", "bfloat16": "bf16", "bf16": "bf16", "int8": "int8",
    "fp8": "fp8",
}  # fmt: skip
"""Data types as the libraries write them, in lower case → ours."""

HELPERS = ("kgen", "reformat", "shape_call", "runtime_function")
"""Kinds of layers that only prepare data: a convolution that one of them names is computed in another layer."""


@dataclass(frozen=True)
class Layer:
    """One layer of the engine."""

    name: str
    kind: str
    """The library's word for it."""
    types: tuple[str, ...]
    """Types of its inputs, then of weights and outputs, as far as they are floating point or int8."""
    nodes: tuple[str, ...]
    """ONNX nodes it is made of."""


@dataclass(frozen=True)
class ConvolutionReport:
    """In which precision the convolutions of a network run."""

    asked: str
    total: int
    by_precision: dict[str, int]
    """Precision → number of ONNX Conv nodes whose layer reads its data in it."""
    others: tuple[str, ...]
    """Those not in the precision asked, as "name (precision, what it is for)"."""
    unseen: tuple[str, ...]
    """Conv nodes that no layer of the report names."""

    @property
    def share(self) -> float:
        """Of convolutions in the precision asked, 0 … 1."""
        return self.by_precision.get(self.asked, 0) / self.total if self.total else 0.0

    def summary(self) -> str:
        """One line."""
        if len(self.unseen) == self.total > 0:
            return f"convolutions: {self.total}, none named: the library gave no report of its layers"
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.by_precision.items()))
        text = f"convolutions: {self.by_precision.get(self.asked, 0)} of {self.total} in {self.asked} ({counts})"
        return f"{text}; {len(self.unseen)} not named in the report" if self.unseen else text


_FIELD = re.compile(r"Datatype: ([^,}\]]+)")
_NODE = re.compile(r"\[ONNX Layer: ([^\]\x1e]+)")


def parse_layers(report: str) -> tuple[Layer, ...]:
    """The layers of a report with one line each, at profiling verbosity "detailed".

    The builder logs it as its "Layers:" message; the engine inspector gives it as its ONELINE format.
    """
    layers = []
    for line in report.splitlines():
        if not line.startswith("Name: ") or ", LayerType: " not in line:
            continue
        name, _, rest = line.removeprefix("Name: ").partition(", LayerType: ")
        kind = rest.partition(",")[0]
        body, _, metadata = rest.partition(", Metadata:")
        words = [word for field in _FIELD.findall(body) for word in field.lower().split()]
        types = tuple(TYPES[word] for word in words if word in TYPES)
        layers.append(Layer(name, kind, types, tuple(dict.fromkeys(_NODE.findall(metadata)))))
    return tuple(layers)


def convolution_report(
    layers: tuple[Layer, ...], graph: onnx.ModelProto, asked: str, islands: set[str]
) -> ConvolutionReport:
    """Compare every Conv node of the graph with the layer that holds it.

    Args:
        layers: of the engine.
        graph: what the engine was built from.
        asked: precision of the heavy layers.
        islands: names of the convolutions that stay float32 on purpose.
    """
    by_work = sorted(layers, key=lambda layer: layer.kind.lower().startswith(HELPERS), reverse=True)
    held = {node: layer for layer in by_work for node in layer.nodes}  # the last, a layer that computes, stays
    counts: Counter[str] = Counter()
    others, unseen = [], []
    names = [node.name for node in graph.graph.node if node.op_type == "Conv"]
    for name in names:
        layer = held.get(name)
        if layer is None or not layer.types:
            unseen.append(name)
            continue
        precision = layer.types[0]
        counts[precision] += 1
        if precision != asked:
            others.append(f"{name} ({precision}, {'output head' if name in islands else 'not on purpose'})")
    return ConvolutionReport(asked, len(names), dict(counts), tuple(others), tuple(unseen))
