"""Define the two-stage detector (A2Net, section III-G): a class-agnostic A2Net, one NMS, and a second stage.

Proposals of points and anchors go through one NMS; the second stage pools those that are kept from the levels, and
classifies and refines them. All operations between the stages are standard operators of fixed shape, so that the
detector exports as one graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from runtime.spec.anchors import A2NetLayout, level_points
from runtime.spec.decoding_constants import A2NetDecoding
from training.a2net.config import A2NetConfig
from training.a2net.network import A2Net, A2NetOutput
from training.a2net.targets import decode_anchors
from training.networks.layers import promote_to_float32
from training.two_stage.config import TwoStageConfig

NMS_ROUNDS = 24
"""Rounds of the suppression, exact for chains of proposals up to this length, each deciding on the next (the longest
among 1,024 on GTEA took 14)."""


class Proposals(NamedTuple):
    """Holds the proposals of the first stage, without gradient, best first."""

    segments: Tensor
    """Start and end [B,N,2] as fractions of the window; (0, 0) where there are fewer than N."""
    scores: Tensor
    """Scores [B,N] in 0..1; 0 where there are fewer than N."""


class TwoStageOutput(NamedTuple):
    """Holds the outputs of one forward pass; see `runtime.decoding.two_stage.TWO_STAGE_OUTPUTS`."""

    proposals: Tensor
    """Start and end of the proposals [B,N,2] in steps of the window."""
    prop_score: Tensor
    """Scores of the proposals [B,N,1] in 0..1."""
    cls: Tensor
    """Class logits [B,N,K], background first."""
    reg: Tensor
    """Offsets (Δc, Δw) [B,N,2]."""


class TwoStage(nn.Module):
    """Maps features [B,C,T] float32 to `TwoStageOutput`."""

    def __init__(self, first: A2NetConfig, config: TwoStageConfig, decoding: A2NetDecoding) -> None:
        super().__init__()
        self.config, self.decoding = config, decoding
        self.first = A2Net(first)
        self.second = SecondStage([first.level_channels[level] for level in config.levels], config)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> TwoStageOutput:
        """Return the outputs of a batch of windows, of which `lengths` [B] steps are video; None: all."""
        levels = self.first.levels(features)
        found = self.propose(self.first.predict(levels), lengths)
        logits, offsets = self.second(self.pool(levels, found.segments))
        steps = found.segments * self.first.config.window_steps
        return TwoStageOutput(steps, found.scores[..., None], logits, offsets)

    @torch.no_grad()
    def propose(self, output: A2NetOutput, lengths: Tensor | None = None) -> Proposals:
        """Return a window's N best proposals after one NMS over points and anchors, cut at `lengths` [B]."""
        segments, scores = decode_first_stage(output, self.first.config.layout, self.decoding)
        if lengths is not None:
            segments = torch.minimum(segments, lengths[:, None, None].to(segments) / self.first.config.window_steps)
            scores = scores * (segments[..., 1] > segments[..., 0])  # the padding has many proposals of equal score
        scores, order = scores.topk(self.config.candidates, dim=1)
        segments = _take(segments, order)
        scores = scores * greedy_nms(segments, self.config.decoding.proposal_nms)
        scores, order = scores.topk(self.config.proposals, dim=1)
        return Proposals(_take(segments, order) * (scores > 0)[..., None], scores)

    def pool(self, levels: Sequence[Tensor], segments: Tensor) -> Tensor:
        """Pool segments [B,N,2] (fractions of the window) from the configured levels → [B,N,ΣC·bins]."""
        config = self.config
        parts = [pool_means(levels[level], segments, config.bins, config.context) for level in config.levels]
        return torch.cat([part.flatten(2) for part in parts], dim=2)


class SecondStage(nn.Module):
    """Classifies and refines pooled proposals by two fully connected layers; [B,N,ΣC·bins] → [B,N,K] and [B,N,2]."""

    def __init__(self, channels: Sequence[int], config: TwoStageConfig) -> None:
        super().__init__()
        widths = (sum(channels) * config.bins, config.hidden, config.hidden)
        layers = [
            layer
            for wide, narrow in pairwise(widths)
            for layer in (nn.Linear(wide, narrow), nn.ReLU(), nn.Dropout(config.dropout))
        ]
        self.shared = nn.Sequential(*layers)
        self.cls = nn.Linear(config.hidden, config.num_classes)
        self.reg = nn.Linear(config.hidden, 2)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits, background first, and (Δc, Δw) of each proposal."""
        shared = self.shared(pooled)
        return promote_to_float32(self.cls(shared)), promote_to_float32(self.reg(shared))


def decode_first_stage(output: A2NetOutput, layout: A2NetLayout, decoding: A2NetDecoding) -> tuple[Tensor, Tensor]:
    """Decode segments [B,M,2] (fractions of the window) and scores [B,M] of all anchors, then of all points.

    Segments and scores are those of `runtime.decoding.a2net`, whose constants λ and `overlap` alone are used here.
    Empty segments score 0.
    """
    point_weight, anchor_weight = decoding.weights
    parts = []
    if output.ab is not None:
        anchors = decode_anchors(output.ab, layout)
        overlap = anchors.overlap
        if anchors.logits is None:
            scores = overlap.clamp(0, 1)
        else:
            overlap = overlap.sigmoid() if decoding.overlap == "sigmoid" else overlap.clamp(0, 1)
            scores = anchors.logits.softmax(dim=2)[..., 1] * overlap
        parts.append((anchors.boxes, scores * anchor_weight))
    if output.af_cls is not None and output.af_reg is not None:
        points = torch.cat([torch.from_numpy(p) for p in level_points(layout)]).to(output.af_reg)
        ends = torch.stack((points - output.af_reg[..., 0], points + output.af_reg[..., 1]), dim=-1)
        parts.append((ends / layout.units, output.af_cls.softmax(dim=2)[..., 1] * point_weight))
    segments = torch.cat([part[0] for part in parts], dim=1).clamp(0, 1)
    scores = torch.cat([part[1] for part in parts], dim=1)
    return segments, scores * (segments[..., 1] > segments[..., 0])


def greedy_nms(segments: Tensor, threshold: float) -> Tensor:
    """Return 1 for each of the segments [B,P,2], best first, that hard NMS keeps, and 0 for the others: [B,P].

    A segment is dropped if a kept segment before it overlaps it by more than `threshold`. The rule is iterated for all
    segments at once; each round settles one more link of every chain. tIoU above τ is written without its division:
    intersection > τ/(1 + τ)·(sum of both widths).
    """
    start, end = segments[..., :1], segments[..., 1:]
    share = threshold / (1 + threshold) * (end - start)
    shared = torch.minimum(end, end.mT) - torch.maximum(start, start.mT)
    rivals = (shared > share + share.mT).to(segments.dtype).tril(-1)
    kept = torch.ones_like(segments[..., :1])
    for _ in range(NMS_ROUNDS):
        kept = (rivals @ kept < 0.5).to(segments.dtype)
    return kept.squeeze(-1)


def pool_means(level: Tensor, segments: Tensor, bins: int, context: float) -> Tensor:
    """Compute exact means of a level over bins of each segment; the level is constant within each cell.

    Args:
        level: [B,C,t].
        segments: [B,N,2] start and end as fractions of the window.
        bins: number of bins, of equal length.
        context: context pooled on either side, as a multiple of the segment's width.

    Returns:
        [B,N,C,bins]; values outside the window count as 0, and a segment without length gives 0.
    """
    cells = level.shape[2]
    start, width = segments[..., :1] * cells, (segments[..., 1:] - segments[..., :1]) * cells
    step = width * (1 + 2 * context) / bins
    low = start - context * width + step * torch.arange(bins, device=level.device)
    left = torch.arange(cells, device=level.device)
    ends = ((edge[..., None] - left).clamp(0, 1) for edge in (low + step, low))
    shared = torch.sub(*ends)  # [B,N,bins,t]: how much of each cell lies in the bin
    weights = (shared / step.clamp(min=1e-6)[..., None]).to(level.dtype)
    pooled = weights.flatten(1, 2) @ level.transpose(1, 2)  # [B,N·bins,C]
    return pooled.reshape(len(pooled), -1, bins, level.shape[1]).transpose(2, 3)


def _take(segments: Tensor, order: Tensor) -> Tensor:
    """Take segments [B,M,2] in the given order [B,n]."""
    return segments.gather(1, order[..., None].expand(-1, -1, 2))
