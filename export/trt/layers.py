"""Read the layers of a TensorRT engine and their precision from the builder's report."""

from __future__ import annotations

import re

from export.graph.convolutions import Layer

TYPES = {
    "float": "fp32", "fp32": "fp32", "half": "fp16", "fp16": "fp16", "bfloat16": "bf16", "bf16": "bf16", "int8": "int8",
    "fp8": "fp8",
}  # fmt: skip
"""Data type as the libraries write it, in lower case → this project's name."""

_FIELD = re.compile(r"Datatype: ([^,}\]]+)")
_NODE = re.compile(r"\[ONNX Layer: ([^\]\x1e]+)")


def parse_layers(report: str) -> tuple[Layer, ...]:
    """Parse a report that has one line per layer, at profiling verbosity "detailed".

    The builder logs such a report as its "Layers:" message; the engine inspector returns it as its ONELINE format.
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
