"""Measure what a training costs: a few real optimiser steps, one window of validation, the size of its files."""

from __future__ import annotations

import os
import platform
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import median

import numpy as np
import torch

from runtime.common.temporaries import scratch_folder
from runtime.windows import window_offsets
from training.check.survey import Survey
from training.deployment.views import make_torch_engine
from training.loop.trainer import Trainer

STEPS = 4
"""Most optimiser steps that are measured; the first, which is slower, is left out."""
LONGEST_S = 20.0
"""Seconds after which no further step begins."""
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files in which Linux says how much memory a container may take."""


@dataclass(frozen=True)
class Cost:
    """Holds what was measured of a training."""

    step_s: float
    """Seconds of an optimiser step, with the time that its batch was waited for; median."""
    steps: int
    """Number of steps that were measured."""
    steps_per_epoch: int
    total_steps: int
    memory_bytes: int
    """Largest memory of the process with these steps, or of its GPU."""
    memory_limit: int
    """Memory of the machine, of its container or of the GPU."""
    device: str
    weight_bytes: int
    """Bytes of the weights."""
    window_s: float
    """Seconds of one window in validation; 0 without validation."""


def measure(seen: Survey) -> Cost:
    """Do a few optimiser steps of a training, in a folder that is deleted.

    Raises:
        ConfigError, CheckpointError: the training cannot begin, see `Trainer`.
        InputError: the loss is not finite, or data cannot be read.
        RuntimeError, MemoryError: there is too little memory.
    """
    assert seen.dataset is not None
    with scratch_folder() as folder, redirect_stdout(StringIO()):  # what the trainer says of its beginning
        trainer = Trainer(seen.config, seen.dataset, seen.classes, folder)
        seconds = trainer.try_steps(STEPS, LONGEST_S)
        device = trainer.fabric.device
        is_gpu = device.type == "cuda"
        memory = torch.cuda.max_memory_allocated(device) if is_gpu else peak_memory()
        limit = torch.cuda.get_device_properties(device).total_memory if is_gpu else memory_limit()
        checkpoint = trainer.checkpoint()
        weight_bytes = sum(value.numel() * value.element_size() for value in checkpoint.weights.values())
        window_s = _measure_window(trainer) if seen.validation else 0.0
    return Cost(
        step_s=median(seconds[1:] or seconds),
        steps=len(seconds[1:] or seconds),
        steps_per_epoch=trainer.order.batches,
        total_steps=trainer.total_steps,
        memory_bytes=memory,
        memory_limit=limit,
        device=str(device),
        weight_bytes=weight_bytes,
        window_s=window_s,
    )


def count_windows(seen: Survey) -> int:
    """Return the number of windows of the validation videos."""
    config = seen.config
    lengths = [seen.lengths[video.name] for video in seen.validation if video.name in seen.lengths]
    if config.data.sampling == "whole_video" and config.stream != "features":
        return len(lengths)
    return sum(len(window_offsets(n, config.window_length, config.data.test_stride)) for n in lengths)


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, in bytes; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_limit() -> int:
    """Return the memory of the machine, or of the container if that is less, in bytes; 0 where nobody says."""
    found = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in map(Path, CGROUP_LIMITS):
        text = path.read_text().strip() if path.is_file() else ""
        if text.isdigit():
            found.append(int(text))
    return min(found, default=0)


def _measure_window(trainer: Trainer) -> float:
    """Return the seconds of one window in the network's deployment view, the second of two."""
    engine = make_torch_engine(trainer.checkpoint(), "the network", str(trainer.fabric.device))
    inputs = {
        tensor.name: np.zeros((1, *(int(size) for size in tensor.shape[1:])), tensor.dtype)
        for tensor in engine.spec.inputs
    }
    inputs["lengths"] += engine.spec.window_length
    engine.infer(inputs)
    begun = time.perf_counter()
    engine.infer(inputs)
    return time.perf_counter() - begun
