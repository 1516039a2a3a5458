"""Define convolution and pooling units with TensorFlow-style "same" padding (spec of I3D; AFSD section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rounding = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Function from (input, weight) of a unit's convolution to their quantised values
(`calibration.tuning.fake_quantisation`)."""


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the zeros (front, back) with which `size` cells give ceil(size / stride) outputs; the back gets the odd
    one."""
    total = max(kernel - stride, 0) if size % stride == 0 else max(kernel - size % stride, 0)
    return total // 2, total - total // 2


def _pad_argument(shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """Return the argument of `F.pad` for the spatial axes of `shape`, last axis first."""
    pads = [same_padding(n, k, s) for n, k, s in zip(shape, kernel, stride, strict=True)]
    return tuple(value for pair in reversed(pads) for value in pair)


def promote_to_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32: at hundreds of frames bfloat16 resolves whole frames, float16 quarter
    frames."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _round(rounding: Rounding | None, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a convolution's input and weight if the network is quantised; before padding, since 0 stays 0."""
    return (x, weight) if rounding is None else rounding(x, weight)


class Unit3D(nn.Module):
    """Applies Conv3d with same padding, BatchNorm3d and ReLU (I3D's unit), or a plain biased convolution.

    Input [B,C,T,H,W]. With `batch_norm` the convolution has no bias and the output is normalised and rectified;
    without, it has a bias, no spatial padding and no activation, as the first two pyramid levels need.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
        *,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padded = kernel, stride, batch_norm
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, bias=not batch_norm)
        self.bn = nn.BatchNorm3d(out_channels, eps=1e-3, momentum=0.01) if batch_norm else None
        self.rounding: Rounding | None = None

    def forward(self, x: Tensor) -> Tensor:
        x, weight = _round(self.rounding, x, self.conv3d.weight)
        symmetric = [0, 0, 0]
        if self.padded:
            pads = [same_padding(n, k, s) for n, k, s in zip(x.shape[2:], self.kernel, self.stride, strict=True)]
            if all(front == back for front, back in pads):
                symmetric = [front for front, _ in pads]
            else:
                x = F.pad(x, _pad_argument(x.shape[2:], self.kernel, self.stride))
        x = F.conv3d(x, weight, self.conv3d.bias, self.stride, symmetric)
        return x if self.bn is None else F.relu(self.bn(x))


class SamePool3d(nn.Module):
    """Max-pools with same padding, for non-negative inputs only.

    I3D pads with zeros; after a ReLU a zero never exceeds the window's own maximum, so the pooling itself pads (with
    minus infinity), and `ceil_mode` adds the back's extra cell: equal values without a copy.
    """

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        front = [same_padding(n, k, s)[0] for n, k, s in zip(x.shape[2:], self.kernel, self.stride, strict=True)]
        return F.max_pool3d(x, self.kernel, self.stride, front, ceil_mode=True)


class Unit1D(nn.Module):
    """Applies Conv1d with bias and same padding to [B,C,t], no activation; an even length at stride 2 is padded (0,
    1)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.conv1d = nn.Conv1d(in_channels, out_channels, kernel, stride, dilation=dilation)
        self.rounding: Rounding | None = None

    def forward(self, x: Tensor) -> Tensor:
        x, weight = _round(self.rounding, x, self.conv1d.weight)
        front, back = same_padding(x.shape[2], self.dilation * (self.kernel - 1) + 1, self.stride)
        if front != back:
            x, front = F.pad(x, (front, back)), 0
        return F.conv1d(x, weight, self.conv1d.bias, self.stride, front, self.dilation)


def group_norm_unit(conv: nn.Module, channels: int) -> nn.Sequential:
    """Build conv → GroupNorm(32) → ReLU, the block of pyramid, towers and branches."""
    return nn.Sequential(conv, nn.GroupNorm(GROUP_NORM_GROUPS, channels), nn.ReLU())


def build_standardiser(channels: int) -> nn.BatchNorm1d:
    """Build a layer that gives each channel mean 0 and deviation 1: the batch's in training, the run's afterwards."""
    return nn.BatchNorm1d(channels, affine=False)


GROUP_NORM_GROUPS = 32
"""Number of groups of every GroupNorm in pyramids and heads."""
