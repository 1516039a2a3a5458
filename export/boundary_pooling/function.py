"""Write boundary max pooling as an ONNX function of standard operators, for every engine without the plugin.

The exported graph holds one node `afsd::boundary_max_pooling` per pooling. TensorRT finds its plugin by the node's
attributes; ONNX Runtime expands the function of that name; for OpenVINO the exporter inlines it. The function's body
looks range maxima up in doubling tables like `training.afsd.boundary_pooling`, in rows [T,C], so that a look-up copies
one contiguous row of channels.

TensorRT without the plugin gets another body, a masked maximum over all cells: TensorRT would fuse the tables into
kernels that compute each table anew for every look-up, with program text that doubles from table to table.
"""

from __future__ import annotations

import onnx
import onnx.parser

from training.afsd.boundary_pooling import ONNX_ATTRIBUTES, ONNX_OPERATOR

DOMAIN, NAME = ONNX_OPERATOR.split("::")
OPSET = 18

LEAST = "-3.0e38"
"""Number below every feature; it becomes −∞ in float16."""


def build_pooling_function(longest: int) -> onnx.FunctionProto:
    """Build the FunctionProto with doubling tables for features of at most `longest` cells.

    Inputs are `features` [B,C,T] and `regions` [B,N,4], both floating point; the output [B,C,N] has the features' type.
    Semantics: `training.afsd.boundary_pooling.boundary_max_pooling`.
    """
    tables = max(longest, 1).bit_length()
    lines = [*_cells(tables), *_half("start", 0, tables), *_half("end", 1, tables)]
    lines += ["rows = Concat <axis = 2> (start_rows, end_rows)", "pooled = Transpose <perm = [0, 2, 1]> (rows)"]
    return _parse(lines)


def build_masked_function() -> onnx.FunctionProto:
    """Build the FunctionProto as a maximum over all cells with those outside a region masked, for any number of cells.

    It has the inputs, output and semantics of `build_pooling_function`, at B·C·N·T comparisons: a GPU does them in one
    fused kernel, a CPU is slow at them.
    """
    lines = [*CLAMPED, "floor = Floor (clamped)", "s0, s1, e0, e1 = Split <axis = 2, num_outputs = 4> (floor)"]
    lines += ["cell_number = Cast <to = 1> (cell)", f"least = Constant <value = float {{{LEAST}}}> ()"]
    lines += ["lowest = CastLike (least, features)", _constant("channel", [1]), _constant("place", [3])]
    lines.append("half_start, half_end = Split <axis = 1, num_outputs = 2> (features)")
    for half, low, given in (("start", "s0", "s1"), ("end", "e0", "e1")):
        lines += [
            f"{half}_high = Max ({low}, {given})",
            f"{half}_behind = GreaterOrEqual (cell_number, {low})",
            f"{half}_before = LessOrEqual (cell_number, {half}_high)",
            f"{half}_inside = And ({half}_behind, {half}_before)",  # [B,N,T]
            f"{half}_mask = Unsqueeze ({half}_inside, channel)",
            f"{half}_cells = Unsqueeze (half_{half}, two)",
            f"{half}_seen = Where ({half}_mask, {half}_cells, lowest)",  # [B,C/2,N,T]
            f"{half}_pooled = ReduceMax <keepdims = 0> ({half}_seen, place)",
        ]
    return _parse([*lines, "pooled = Concat <axis = 1> (start_pooled, end_pooled)"])


def _parse(lines: list[str]) -> onnx.FunctionProto:
    body = "\n".join(f"  {line}" for line in lines)
    header = f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n{NAME} <{", ".join(ONNX_ATTRIBUTES)}> '
    function: onnx.FunctionProto = onnx.parser.parse_function(
        f"{header}(features, regions) => (pooled)\n{{\n{body}\n}}"
    )
    return function


def attach_pooling_function(model: onnx.ModelProto, longest: int) -> None:
    """Add the function and its domain to a model that has a boundary pooling node; leave other models as they are."""
    if not any(node.domain == DOMAIN for node in model.graph.node):
        return
    model.functions.append(build_pooling_function(longest))
    if DOMAIN not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))


def _constant(name: str, values: list[int]) -> str:
    return f"{name} = Constant <value = int64[{len(values)}] {{{', '.join(map(str, values))}}}> ()"


CLAMPED = (
    _constant("zero", [0]),
    _constant("one", [1]),
    _constant("two", [2]),
    "scalar = Constant <value = int64 {0}> ()",
    "step = Constant <value = int64 {1}> ()",
    "nothing = Constant <value = float {0.0}> ()",
    "sizes = Shape (features)",
    "length = Gather <axis = 0> (sizes, two)",
    "last = Sub (length, one)",
    "length0 = Squeeze (length, zero)",
    "last0 = Squeeze (last, zero)",
    "cell = Range (scalar, length0, step)",
    "wide = Cast <to = 1> (regions)",
    "bound = Cast <to = 1> (last0)",
    "below = Max (wide, nothing)",
    "clamped = Min (below, bound)",
)
"""Lines that give the cells' indices [T], and the regions clamped to them, not yet rounded."""


def _cells(tables: int) -> list[str]:
    """Return lines that give first cell, last cell and table of every region [B,N,2] (start, end)."""
    powers = [2**k for k in range(tables)]
    return [
        *CLAMPED,
        _constant("newest", [-1]),
        _constant("firsts", [0, 2]),
        _constant("lasts", [1, 3]),
        _constant("powers", powers),
        _constant("wider", [*powers[1:], 2**62]),  # the last is never reached; it keeps the list from being empty
        "cells = Cast <to = 7> (clamped)",  # truncation of a number that is not negative
        "low = Gather <axis = 2> (cells, firsts)",
        "given = Gather <axis = 2> (cells, lasts)",
        "high = Max (low, given)",
        "beyond = Add (high, one)",
        "width = Sub (beyond, low)",
        "width1 = Unsqueeze (width, newest)",
        "reaches = GreaterOrEqual (width1, wider)",
        "counted = Cast <to = 7> (reaches)",
        "table = ReduceSum <keepdims = 0> (counted, newest)",
        "power = Gather <axis = 0> (powers, table)",
        "back = Sub (beyond, power)",
        "row = Mul (table, length)",
        "first_rows = Add (row, low)",
        "second_rows = Add (row, back)",
        "halves_start, halves_end = Split <axis = 1, num_outputs = 2> (features)",
    ]


def _half(half: str, column: int, tables: int) -> list[str]:
    """Return lines that give the range maxima of one half of the channels: `<half>_rows` [B,N,C/2]."""
    lines = [f"{half}_0 = Transpose <perm = [0, 2, 1]> (halves_{half})"]
    for k in range(1, tables):
        lines += [
            _constant(f"{half}_reach_{k}", [2 ** (k - 1)]),
            f"{half}_next_{k} = Add (cell, {half}_reach_{k})",
            f"{half}_cut_{k} = Min ({half}_next_{k}, last)",
            f"{half}_ahead_{k} = Gather <axis = 1> ({half}_{k - 1}, {half}_cut_{k})",
            f"{half}_{k} = Max ({half}_{k - 1}, {half}_ahead_{k})",
        ]
    lines.append(f"{half}_tables = Concat <axis = 1> ({', '.join(f'{half}_{k}' for k in range(tables))})")
    lines.append(_constant(f"{half}_column", [column]))
    for side in ("first", "second"):
        lines += [
            f"{half}_{side}_index = Gather <axis = 2> ({side}_rows, {half}_column)",
            f"{half}_{side} = GatherND <batch_dims = 1> ({half}_tables, {half}_{side}_index)",
        ]
    lines.append(f"{half}_rows = Max ({half}_first, {half}_second)")
    return lines
