"""Run in its own process by test_plugin.py: the plugin through NVIDIA's Python code, over stub shared libraries.

Only what would reach TensorRT's C++ library is replaced: the registry, and the builder of symbolic dimensions, here
plain integers. Prints what each step gave as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import tensorrt_bindings as trt

sys.modules["tensorrt"] = trt


class Dimension:
    """A symbolic dimension whose value is known; `fixed` says whether TensorRT would know it at build time."""

    def __init__(self, value: int, fixed: bool = True) -> None:
        self.value, self.fixed = value, fixed

    def is_constant(self) -> bool:
        return self.fixed

    def is_size_tensor(self) -> bool:
        return False

    def get_constant_value(self) -> int:
        return self.value


class Builder:
    """The two things NVIDIA's code asks of an IExprBuilder."""

    def constant(self, value: int) -> Dimension:
        return Dimension(value)

    def operation(self, operation: Any, first: Dimension, second: Dimension) -> Dimension:
        assert operation == trt.DimensionOperation.SUM
        return Dimension(first.value + second.value, first.fixed and second.fixed)


class Registry:
    """Keeps creators as TensorRT's registry does."""

    def __init__(self) -> None:
        self.creators: dict[tuple[str, str, str], Any] = {}

    def register_creator(self, creator: Any, namespace: str) -> None:
        self.creators[creator.name, creator.plugin_version, namespace] = creator

    def get_creator(self, name: str, version: str, namespace: str) -> Any:
        return self.creators.get((name, version, namespace))


def tensor(dims: list[int], kind: Any) -> Any:
    """What TensorRT says of one input or output at build time; −1 is dynamic."""
    desc = trt.PluginTensorDesc()
    desc.type, desc.format, desc.dims = kind, trt.TensorFormat.LINEAR, dims
    dynamic = trt.DynamicPluginTensorDesc()
    dynamic.desc = desc
    dynamic.min = dynamic.opt = dynamic.max = [abs(size) for size in dims]
    return dynamic


class Params:
    """Where launch parameters and scalar arguments arrive."""

    def __init__(self) -> None:
        self.given: dict[int, Any] = {}

    def __setitem__(self, index: int, value: Any) -> None:
        self.given[index] = value


def probe(kind: Any) -> dict[str, Any]:
    """Everything a build asks of the plugin, for features [B,1024,64] and regions [B,64,4]."""
    creator = registry.get_creator("boundary_max_pooling", "1", "afsd")
    fields = trt.PluginFieldCollection([])
    request = trt.QuickPluginCreationRequest.STRICT_AOT
    plugin = creator.create_plugin("boundary_max_pooling", "afsd", fields, trt.TensorRTPhase.BUILD, request)
    types = plugin.get_output_data_types([kind, trt.float32], [3, 3])
    batch = Dimension(2, fixed=False)
    inputs = [[batch, Dimension(1024), Dimension(64)], [batch, Dimension(48), Dimension(4)]]
    shapes = plugin.get_output_shapes(inputs, [], Builder())
    tensors = [tensor([-1, 1024, 64], kind), tensor([-1, 48, 4], trt.float32), tensor([-1, 1024, 48], kind)]
    offered = plugin.get_supported_format_combinations(tensors, 2)
    plugin.configure_plugin(tensors[:2], tensors[2:])
    plugin.set_tactic(0)
    params, scalars = Params(), Params()
    plugin.get_launch_params(inputs, tensors, 2, params, scalars, Builder())
    name, ptx = plugin.get_kernel([t.desc for t in tensors[:2]], [t.desc for t in tensors[2:]])
    return {
        "types": [str(item) for item in types],
        "shape": [dimension.value for dimension in shapes[0]],
        "offered": [[str(item.type), str(item.format)] for item in offered],
        "tactics": plugin.get_valid_tactics(),
        "grid": [value(params.grid_x), value(params.grid_y), value(params.grid_z)],
        "block": [value(params.block_x), value(params.block_y), value(params.block_z)],
        "shared": value(params.shared_mem),
        "scalars": [value(scalars.given[i]) for i in range(scalars.nbSymExprs)],
        "kernel": name,
        "ptx": ptx.decode(),
    }


def value(expression: Any) -> int:
    """Of a launch parameter or scalar, as NVIDIA's code hands it to TensorRT."""
    return int(expression.expr.value)


registry = Registry()
trt.get_plugin_registry = lambda: registry
trt.IDimensionExpr, trt.DimsExprs = Dimension, lambda count: [None] * count
trt.ISymExpr = type("ISymExpr", (), {})

from export.boundary_pooling.plugin import is_registered, register  # noqa: E402

before = is_registered()
register((8, 6))
register((8, 9))  # a second call changes the target only
results = {name: probe(getattr(trt, name)) for name in ("float32", "float16", "bfloat16")}
print(json.dumps({"before": before, "after": is_registered(), "results": results}))
