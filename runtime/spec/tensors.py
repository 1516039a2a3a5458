"""Compare the inputs and outputs that a ModelSpec declares with its own numbers: window, frames, classes, levels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from runtime.common.ranges import Range, check_ranges
from runtime.errors import InputError

if TYPE_CHECKING:
    from runtime.spec.model import ModelSpec

BATCH = "batch"
"""Name of the only dynamic axis."""

Dimension = Annotated[int, Range(1, 2**31 - 1)] | str
"""Size of an axis: fixed, or the name of a dynamic axis (only "batch" is dynamic)."""

LARGEST = 2**33
"""Most elements of a tensor without its batch: a window of 8 GB as uint8."""

Type = Literal["uint8", "int32", "float32"]
Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class TensorSpec:
    """Describes one input or output of an engine."""

    name: str
    shape: tuple[Dimension, ...]
    """Sizes; "batch" marks the dynamic axis."""
    dtype: Type

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.shape or any(isinstance(size, str) for size in self.shape[1:]) or self.shape[0] == "":
            raise InputError(f"{self.name}: shape is {list(self.shape)}, expected a batch, then whole numbers")
        if isinstance(self.shape[0], str) and self.shape[0] != BATCH:
            raise InputError(f"{self.name}: the first axis is {self.shape[0]!r}, expected {BATCH!r} or a number")
        if math.prod(int(size) for size in self.shape[1:]) > LARGEST:
            raise InputError(f"{self.name}: shape is {list(self.shape)}, more than {LARGEST:,} elements a window")


def require_fitting_tensors(spec: ModelSpec) -> None:
    """Compare names, types and sizes of a spec's inputs and outputs with the rest of the spec.

    Raises:
        InputError: a tensor is missing, unknown, there twice, or has another type or size.
    """
    if spec.family == "part":
        return
    for kind, declared, expected in (
        ("input", spec.inputs, _expected_inputs(spec)),
        ("output", spec.outputs, _expected_outputs(spec)),
    ):
        names = [tensor.name for tensor in declared]
        if sorted(names) != sorted(expected):
            raise InputError(
                f"{kind}s are {', '.join(names) or 'none'}, expected {', '.join(expected)} of a {spec.family} "
                f"on {spec.stream}"
            )
        for tensor in declared:
            sizes, dtype = expected[tensor.name]
            if tensor.dtype != dtype or not _fits(tensor.shape[1:], sizes):
                raise InputError(
                    f"{kind} {tensor.name!r} is {tensor.dtype} {list(tensor.shape)}, its window, frames, classes and "
                    f"levels give {dtype} [{', '.join([BATCH, *('any' if n is None else str(n) for n in sizes)])}]"
                )
    _require_equal_lengths(spec)


Expected = Mapping[str, tuple[tuple[int | None, ...], Type]]
"""Name of a tensor → its sizes after the batch, None for any, and its type."""


def _expected_inputs(spec: ModelSpec) -> Expected:
    lengths: Expected = {} if spec.is_backbone else {"lengths": ((), "int32")}
    if spec.stream == "features":
        return {"features": ((None, spec.window_length), "float32"), **lengths}
    window = (spec.window_length, *spec.crop_size)
    frames: Expected = {"frames": ((*window, 2 if spec.stream == "flow" else 3), "uint8")}
    flow: Expected = {"flow": ((*window, 2), "uint8")} if spec.stream == "rgb+flow" else {}
    return {**frames, **flow, **lengths}


def _expected_outputs(spec: ModelSpec) -> Expected:
    classes = len(spec.classes) + 1  # with the background
    sizes: Mapping[str, tuple[int | None, ...]]
    if spec.family == "i3d":
        sizes = {"features": (None,)}
    elif spec.family == "two_stage":
        sizes = {"proposals": (None, 2), "prop_score": (None, 1), "cls": (None, classes), "reg": (None, 2)}
    elif spec.a2net is None:
        n = spec.num_locations
        sizes = {
            "loc": (n, 2), "conf": (n, classes), "prop_loc": (n, 2), "prop_conf": (n, classes), "center": (n, 1)
        }  # fmt: skip
    else:
        points, anchors, layout = spec.a2net.num_points, spec.a2net.num_anchors, spec.a2net
        sizes = {"af_cls": (points, classes), "af_reg": (points, 2)} if points else {}
        sizes = {**sizes, "ab": (anchors, layout.anchor_width)} if anchors else sizes
    return {name: (size, "float32") for name, size in sizes.items()}


def _require_equal_lengths(spec: ModelSpec) -> None:
    """Check what a spec says twice: an A2Net's levels and classes, a second stage's number of proposals."""
    if spec.a2net is not None:
        if spec.a2net.level_lengths != spec.level_lengths:
            raise InputError(f"level_lengths are {spec.level_lengths}, those of a2net {spec.a2net.level_lengths}")
        if spec.a2net.num_classes != len(spec.classes) + 1:
            raise InputError(
                f"classes are {len(spec.classes)}, a2net.num_classes says {spec.a2net.num_classes} with the background"
            )
    if spec.family == "two_stage" and len({tensor.shape[1] for tensor in spec.outputs}) > 1:
        raise InputError("outputs of a two_stage differ in their number of proposals")


def _fits(found: Shape, expected: tuple[int | None, ...]) -> bool:
    return len(found) == len(expected) and all(n is None or n == m for m, n in zip(found, expected, strict=True))
