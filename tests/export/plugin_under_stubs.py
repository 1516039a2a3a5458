"""Run by test_plugin.py where TensorRT's library is a stub: what NVIDIA's own Python code makes of the plugin.

The bindings and `tensorrt.plugin` are the real ones. Stand-ins take the place of four C++ objects that only the library
can make: the registry, dimension expressions, their lists, and the launch parameters' expressions.
Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import tensorrt_bindings as trt

sys.modules["tensorrt"] = trt

BATCH = "B"
"""The only size that is unknown while an engine is built."""


class Dimension:
    """An expression of the builder: a number, or the batch."""

    def __init__(self, value: int | str) -> None:
        self.value = value

    def is_constant(self) -> bool:
        return isinstance(self.value, int)

    def get_constant_value(self) -> int:
        assert isinstance(self.value, int)
        return self.value

    def is_size_tensor(self) -> bool:
        return False


class ExpressionBuilder:
    def constant(self, value: int) -> Dimension:
        return Dimension(value)

    def operation(self, kind: Any, a: Dimension, b: Dimension) -> Dimension:
        """NVIDIA's code copies an expression by adding 0 to it; the plugin itself does no arithmetic on sizes."""
        assert kind == trt.DimensionOperation.SUM
        assert b.value == 0
        return Dimension(a.value)


class Registry:
    def __init__(self) -> None:
        self.creators: dict[tuple[str, str, str], Any] = {}

    def register_creator(self, creator: Any, namespace: str) -> None:
        key = (creator.name, creator.plugin_version, namespace)
        assert key not in self.creators, "registered twice"
        self.creators[key] = creator

    def get_creator(self, name: str, version: str, namespace: str) -> Any:
        return self.creators[name, version, namespace]


class SymbolicExpression:
    expr: Any


class Expressions(list[Any]):
    def __init__(self, length: int) -> None:
        super().__init__([None] * length)


class Scalars(dict[int, Any]):
    nbSymExprs = -1  # noqa: N815 - NVIDIA's name


class LaunchParameters:
    pass


registry = Registry()
trt.get_plugin_registry = lambda: registry
trt.IDimensionExpr, trt.ISymExpr, trt.DimsExprs = Dimension, SymbolicExpression, Expressions


def described(shape: tuple[int | str, ...], kind: Any) -> Any:
    tensor = trt.DynamicPluginTensorDesc()
    shape = tuple(-1 if size == BATCH else size for size in shape)
    tensor.desc.dims, tensor.desc.type, tensor.desc.format = trt.Dims(shape), kind, trt.TensorFormat.LINEAR
    return tensor


def built(creator: Any, kind: Any, channels: int | str, length: int, count: int) -> dict[str, Any]:
    """What the builder does with the plugin for one node, in its order."""
    plugin = creator.create_plugin(
        "boundary_max_pooling", "afsd", trt.PluginFieldCollection([]), trt.TensorRTPhase.BUILD,
        trt.QuickPluginCreationRequest.STRICT_AOT,
    )  # fmt: skip
    types = plugin.get_output_data_types([kind, trt.float32], [3, 3])
    sizes = [[BATCH, channels, length], [BATCH, count, 4]]
    shapes = plugin.get_output_shapes([[Dimension(n) for n in size] for size in sizes], [], ExpressionBuilder())
    tensors = [described((-1, channels, length), kind), described((-1, count, 4), trt.float32),
               described((-1, channels, count), kind)]  # fmt: skip
    offered = plugin.get_supported_format_combinations(tensors, 2)
    plugin.configure_plugin(tensors[:2], tensors[2:])
    tactics = plugin.get_valid_tactics()
    plugin.set_tactic(0)
    parameters, scalars = LaunchParameters(), Scalars()
    plugin.get_launch_params([[Dimension(n) for n in size] for size in sizes], tensors, 2, parameters, scalars,
                             ExpressionBuilder())  # fmt: skip
    name, ptx = plugin.get_kernel([t.desc for t in tensors[:2]], [t.desc for t in tensors[2:]])
    return {
        "types": [t.name for t in types],
        "shape": [d.value for d in shapes[0]],
        "offered": [(t.type.name, t.format.name) for t in offered],
        "tactics": tactics,
        "launch": {key: value.expr.value for key, value in vars(parameters).items()},
        "scalars": [scalars[k].expr.value for k in range(scalars.nbSymExprs)],
        "scalar_types": [scalars[k].dtype.name for k in range(scalars.nbSymExprs)],
        "kernel": name,
        "ptx_target": next(line for line in ptx.decode().splitlines() if line.startswith(".target")),
        "ptx_entries": [line.split()[-1] for line in ptx.decode().splitlines() if ".visible .entry" in line],
    }


def main() -> None:
    from export.boundary_pooling.plugin import register

    register((8, 6))
    (key,) = registry.creators
    creator = registry.creators[key]
    kinds = {"fp32": trt.float32, "fp16": trt.float16, "bf16": trt.bfloat16}
    found: dict[str, Any] = {
        "version": trt.__version__,
        "registered": key,
        "fields": len(creator.field_names),
        "frame": {name: built(creator, kind, 512, 256, 126) for name, kind in kinds.items()},
        "level": built(creator, trt.float16, 1024, 2, 2),
    }
    register((12, 0))
    found["again"] = built(creator, trt.float16, 512, 256, 126)["ptx_target"]
    try:
        built(creator, trt.float16, BATCH, 256, 126)
    except Exception as error:
        found["dynamic"] = str(error)
    print(json.dumps(found))


main()
