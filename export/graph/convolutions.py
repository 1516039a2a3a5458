"""Report in which precision the convolutions of an engine run, from its layers as the library reports them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx

from export.graph.precision import output_convolutions

NOT_ON_PURPOSE = "not on purpose"
"""Reason that is printed for a convolution in another precision for which none is known."""

NAMED = 5
"""Largest number of unexpected convolutions that are named on the terminal."""

HELPERS = ("kgen", "reformat", "shape_call", "runtime_function")
"""Kinds of layers that only prepare data; a convolution that such a layer names is computed in another layer."""


@dataclass(frozen=True)
class Layer:
    """Describes one layer of an engine."""

    name: str
    kind: str
    """The library's word for the kind of layer."""
    types: tuple[str, ...]
    """Types of the layer's inputs, then of its weights and outputs, as far as they are floating point or int8."""
    nodes: tuple[str, ...]
    """Names of the ONNX nodes that the layer computes."""


@dataclass(frozen=True)
class ConvolutionReport:
    """Says in which precision the convolutions of a network run."""

    asked: str
    """Precision that was asked for."""
    total: int
    """Number of ONNX Conv nodes."""
    by_precision: dict[str, int]
    """Precision → number of ONNX Conv nodes whose layer reads data of that precision."""
    others: tuple[str, ...]
    """Convolutions not in the precision asked for, as "name (precision, reason)"."""
    unseen: tuple[str, ...]
    """Conv nodes that no layer of the report names."""

    @property
    def share(self) -> float:
        """Share of convolutions in the precision asked for, 0 … 1."""
        return self.by_precision.get(self.asked, 0) / self.total if self.total else 0.0

    def summary(self) -> str:
        """Return the counts per precision in one line."""
        if len(self.unseen) == self.total > 0:
            return f"convolutions: {self.total}, none named: the library gave no report of its layers"
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.by_precision.items()))
        text = f"convolutions: {self.by_precision.get(self.asked, 0)} of {self.total} in {self.asked} ({counts})"
        return f"{text}; {len(self.unseen)} not named in the report" if self.unseen else text

    def lines(self, report: str = "") -> list[str]:
        """Return the summary and the convolutions that are not in the precision asked for.

        All of them are named, or only the first NAMED where a file named `report` has the others.
        """
        unexpected = [text for text in self.others if NOT_ON_PURPOSE in text]
        named = unexpected[:NAMED] if report else unexpected
        lines = [self.summary(), *(f"  not as asked: {text}" for text in named)]
        if len(unexpected) > len(named):
            lines.append(f"  not as asked: {len(unexpected) - len(named)} more, see {report}")
        heads = sum("output head" in text for text in self.others)
        if heads:
            lines.append(f"  fp32 on purpose: {heads} convolutions of the output heads (docs/tensorrt.md)")
        if kept := len(self.others) - len(unexpected) - heads:
            lines.append(f"  in floating point to keep the accuracy: {kept} convolutions (docs/quantisation.md)")
        return lines


def report_convolutions(layers: tuple[Layer, ...], graph: onnx.ModelProto, asked: str) -> ConvolutionReport:
    """Count the Conv nodes of a graph by the precision of the layer that computes each.

    Args:
        layers: layers of the engine.
        graph: graph that the engine was built from.
        asked: precision that the heavy layers should have.
    """
    reasons = _on_purpose(graph)
    by_work = sorted(layers, key=lambda layer: layer.kind.lower().startswith(HELPERS), reverse=True)
    held = {node: layer for layer in by_work for node in layer.nodes}  # a layer that computes comes last and stays
    counts: Counter[str] = Counter()
    others, unseen = [], []
    names = [node.name for node in graph.graph.node if node.op_type == "Conv"]
    scaled = _find_scaling(graph)
    for name in names:
        layer = held.get(name) or held.get(scaled.get(name, ""))
        if layer is None or not layer.types:
            unseen.append(name)
            continue
        precision = layer.types[0]
        counts[precision] += 1
        if precision != asked:
            others.append(f"{name} ({precision}, {reasons.get(name, NOT_ON_PURPOSE)})")
    return ConvolutionReport(asked, len(names), dict(counts), tuple(others), tuple(unseen))


def _find_scaling(graph: onnx.ModelProto) -> dict[str, str]:
    """Map each Conv whose result only a Mul reads to that Mul, by whose name a library may report both."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    behind = {node.name: readers.get(node.output[0], []) for node in graph.graph.node if node.op_type == "Conv"}
    return {name: nodes[0].name for name, nodes in behind.items() if len(nodes) == 1 and nodes[0].op_type == "Mul"}


def _on_purpose(graph: onnx.ModelProto) -> dict[str, str]:
    """Map each convolution that is in another precision on purpose to the reason."""
    rounded = {name for node in graph.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    kept = {n.name: "kept in float" for n in graph.graph.node if n.op_type == "Conv" and n.input[1] not in rounded}
    return (kept if rounded else {}) | dict.fromkeys(output_convolutions(graph), "output head")
