"""Make the optimiser, the schedule of its learning rate, and the average of the weights, as a configuration says."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.config.settings import OptimiserConfig

STEP_FACTOR = 0.1
"""Factor on the learning rate after the drop of the schedule "step"."""


def make_optimizer(model: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Make Adam, or AdamW with `decoupled_decay`, for the trained parameters of a network."""
    adam = torch.optim.AdamW if config.decoupled_decay else torch.optim.Adam
    return adam(_parameter_groups(model, config), lr=config.learning_rate, weight_decay=config.weight_decay)


def rate_factor(config: OptimiserConfig, step: int, epoch_steps: int, total_steps: int) -> float:
    """Return the learning rate's factor at a step: linear warm-up, then constant, a drop, or a half cosine.

    Args:
        config: settings of the optimiser.
        step: optimiser steps that are done.
        epoch_steps: steps of an epoch.
        total_steps: steps of the whole run.
    """
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "constant":
        return warm
    if config.schedule == "step":
        return warm * (STEP_FACTOR if step >= config.step_epoch * epoch_steps else 1.0)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total_steps)))


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """Return the exponential moving average of a network's weights and buffers."""
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def _parameter_groups(model: nn.Module, optimiser: OptimiserConfig) -> list[dict[str, Any]]:
    """Return the trained parameters; the backbone's form a group of their own if they have their own learning rate."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if optimiser.backbone_rate == 1.0:
        return [{"params": list(trained.values())}]
    backbone = [p for name, p in trained.items() if name.startswith("backbone.")]
    head = [p for name, p in trained.items() if not name.startswith("backbone.")]
    return [{"params": backbone, "lr": optimiser.learning_rate * optimiser.backbone_rate}, {"params": head}]
