"""Define boundary max pooling (AFSD section 3.3) as a PyTorch operator with fake kernel and backward.

Features [B,C,T] and regions [B,N,4] give [B,C,N]: channel c of the first half takes the maximum over the cells
S0..S1 (the start's region), channel c of the second half over S2..S3 (the end's). Regions are cast to integers by
truncation toward zero, clamped to [0, T−1], and include both ends; an empty or reversed one gives its first cell.

`boundary_max_pooling` looks range maxima up in doubling tables: ⌈log₂T⌉ passes over the features and two look-ups per
output. `boundary_max_pooling_loop` is the definition in plain loops, the reference for every other form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

Backward = Literal["correct", "reference"]
"""Gradient of the pooling: the correct one, or the released kernel's (see `_reference_backward`)."""

ONNX_OPERATOR = "afsd::boundary_max_pooling"
"""Name under which the pooling appears in an exported graph."""

ONNX_ATTRIBUTES: Mapping[str, int | str] = {"plugin_namespace": "afsd", "plugin_version": "1", "aot": 1}
"""Attributes by which TensorRT finds the plugin; other engines ignore them and expand the function."""


def boundary_max_pooling(features: Tensor, regions: Tensor, backward: Backward = "correct") -> Tensor:
    """Return the maximum of each channel over its boundary region.

    Args:
        features: [B,C,T] float16, bfloat16, float32 or float64; C even.
        regions: [B,N,4] floating point, in cells of `features`: start from, start to, end from, end to.
        backward: which gradient reaches `features`; none reaches `regions`.

    Returns:
        [B,C,N], dtype of `features`.

    Raises:
        ValueError: wrong rank, odd C, a last axis other than 4, batch sizes that differ, or no cell to pool.
    """
    if torch.onnx.is_in_onnx_export():
        shape = (features.shape[0], features.shape[1], regions.shape[1])
        result: Tensor = torch.onnx.ops.symbolic(
            ONNX_OPERATOR, (features, regions), dict(ONNX_ATTRIBUTES), dtype=features.dtype, shape=shape, version=1
        )
        return result
    outputs: tuple[Tensor, Tensor] = _operator(features, regions, backward == "reference")
    return outputs[0]


def boundary_max_pooling_loop(features: Tensor, regions: Tensor) -> Tensor:
    """Compute `boundary_max_pooling` by its definition, one output at a time, with equal arguments and result; slow."""
    batch, channels, length = features.shape
    pooled = features.new_empty(batch, channels, regions.shape[1])
    for b in range(batch):
        for n, region in enumerate(regions[b].tolist()):
            cells = [min(max(int(value), 0), length - 1) for value in region]
            for c in range(channels):
                low, high = cells[:2] if c < channels // 2 else cells[2:]
                best = features[b, c, low]
                for t in range(low + 1, high + 1):
                    if features[b, c, t] > best:
                        best = features[b, c, t]
                pooled[b, c, n] = best
    return pooled


@torch.library.custom_op("afsd::boundary_max_pooling", mutates_args=())
def _operator(features: Tensor, regions: Tensor, reference_backward: bool) -> tuple[Tensor, Tensor]:
    """Return the pooled values [B,C,N] and the cell of each, int64 [B,C,N]."""
    _check(features, regions)
    arg = _range_argmax(features, *region_cells(regions, features.shape[2]))
    return features.gather(2, arg), arg


@_operator.register_fake
def _(features: Tensor, regions: Tensor, reference_backward: bool) -> tuple[Tensor, Tensor]:
    shape = (features.shape[0], features.shape[1], regions.shape[1])
    return features.new_empty(shape), features.new_empty(shape, dtype=torch.int64)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: tuple[Tensor, Tensor]) -> None:
    features, regions, ctx.reference_backward = inputs
    ctx.length = features.shape[2]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*((features, regions) if ctx.reference_backward else (output[1],)))


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
    if ctx.reference_backward:
        return _reference_backward(grad, *ctx.saved_tensors), None, None
    (arg,) = ctx.saved_tensors
    return grad.new_zeros(*grad.shape[:2], ctx.length).scatter_add_(2, arg, grad), None, None


torch.library.register_autograd("afsd::boundary_max_pooling", _backward, setup_context=_setup_context)


def _reference_backward(grad: Tensor, features: Tensor, regions: Tensor) -> Tensor:
    """Return the gradient of the released CUDA kernel, which takes the row length from the output instead of the input.

    With N regions over T ≠ N cells the kernel searches the flat features and adds to the flat gradient as if rows
    were N long; so gradients land in the first B·C·N elements only. Published weights were trained with it.
    """
    batch, channels, length = features.shape
    rows = grad.shape[2]
    if rows > length:
        raise ValueError(
            f"the reference backward reads past the features when regions ({rows}) outnumber cells ({length}); "
            "use backward='correct'"
        )
    count = batch * channels * rows
    misread = features.reshape(-1)[:count].reshape(batch, channels, rows)
    arg = _range_argmax(misread, *region_cells(regions, rows))
    flat = grad.new_zeros(features.numel())
    flat[:count] = torch.zeros_like(misread).scatter_add_(2, arg, grad).reshape(-1)
    return flat.reshape(features.shape)


def _check(features: Tensor, regions: Tensor) -> None:
    if features.ndim != 3 or regions.ndim != 3 or regions.shape[2] != 4 or features.shape[0] != regions.shape[0]:
        raise ValueError(
            f"features {list(features.shape)} and regions {list(regions.shape)}: expected [B,C,T] and [B,N,4]"
        )
    if features.shape[1] % 2 or not features.shape[2]:
        raise ValueError(f"features {list(features.shape)}: expected an even C and at least one cell")
    if not features.is_floating_point() or not regions.is_floating_point():
        raise ValueError(f"features {features.dtype} and regions {regions.dtype}: expected floating point")


def region_cells(regions: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return first and last cell of each region, int64 [B,2,N] each; axis 1: start, end. A reversed one has one cell.

    Computed in float32 at least: bfloat16 cannot hold every cell number above 256. NaN reads cell 0.
    """
    wide = regions.to(torch.promote_types(regions.dtype, torch.float32)).nan_to_num(nan=0.0)
    cells = wide.clamp(0, length - 1).to(torch.int64)  # truncation and clamping commute here
    low, high = cells[..., 0::2].transpose(1, 2), cells[..., 1::2].transpose(1, 2)
    return low, torch.maximum(low, high)


def _range_argmax(features: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the cell, int64 [B,C,N], of the first maximum of features [B,C,T] over low..high [B,2,N].

    Index 0 of axis 1 of low and high is for the first half of the channels, index 1 for the second.

    Table k holds, for every cell t, the arg-max over t..t+2^k−1 (cut at the last cell). A range of w cells is the
    union of two entries of table ⌊log₂w⌋, the second one reaching back from its last cell.
    """
    batch, channels, length = features.shape
    cell = torch.arange(length, device=features.device)
    arg, value = cell.expand(batch, channels, length), features
    args, step = [arg], 1
    while step < length:
        ahead = (cell + step).clamp(max=length - 1)
        better = value[..., ahead] > value
        arg, value = torch.where(better, arg[..., ahead], arg), torch.where(better, value[..., ahead], value)
        args.append(arg)
        step *= 2
    powers = 2 ** torch.arange(len(args), device=features.device)
    table = torch.bucketize((high - low + 1).contiguous(), powers, right=True) - 1
    tables = torch.stack(args, dim=2).reshape(batch, channels, -1)
    half = torch.arange(channels, device=features.device) >= channels // 2

    def look_up(start: Tensor) -> Tensor:
        index = (table * length + start)[:, half.long()]  # [B,2,N] → [B,C,N]
        return tables.gather(2, index)

    first, second = look_up(low), look_up(high + 1 - powers[table])
    return torch.where(features.gather(2, second) > features.gather(2, first), second, first)
