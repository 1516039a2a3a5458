"""Choose how many worker processes a job has, and what each of them gets of the machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from runtime.common.processors import free_memory, usable_cores
from runtime.engines.artifact import READERS, read_artifact
from runtime.jobs.plan import VideoJob
from runtime.jobs.settings import JobSettings
from runtime.video.sources import STDIN

MANY = 8
"""Number of videos from which on worker processes are started where none were asked for."""
BLIND = 8
"""Most workers that are started, where none were asked for, on a system that does not say how much memory is free."""
GPU_WORKERS = 4
"""Most workers of one GPU where none were asked for. What an engine takes of a GPU's memory has not been measured; four
times `WORKER_BYTES` is the memory of a small one."""
WORKER_BYTES = 2 << 30
"""Memory that a worker with the published network may take."""
HEAVY = 10**8
"""Multiply-adds per sampled frame from which on a network takes most of the time, whatever the video: then one process
fills four cores, and more of them take each other's cache (docs/many_videos.md)."""
HEAVY_CORES = 4
"""Cores for each worker with such a network."""


def choose_workers(
    jobs: Sequence[VideoJob],
    asked: int | None,
    devices: Sequence[str],
    *,
    on_gpu: bool = False,
    heavy: bool = False,
    least: int = 0,
) -> int:
    """Return the number of worker processes for some videos; 0: this process does them.

    Args:
        jobs: the videos that are to be done.
        asked: number that was asked for; 0: none; None: what suits.
        devices: devices to be used; of several each gets a worker.
        on_gpu: whether the engines run on a GPU, which is fed by several workers (`gpu_workers`).
        heavy: whether the network takes most of the time (`is_heavy`).
        least: number that is wanted at least where none was asked for.
    """
    if any(job.source == STDIN for job in jobs):
        return 0
    if asked is None:
        asked = len(devices) if len(devices) > 1 else 0
        if len(jobs) >= MANY:
            asked = gpu_workers(len(devices)) if on_gpu else asked or filling_workers(heavy)
        asked = max(asked, least)
    elif asked:
        asked = max(asked, len(devices))
    return min(asked, len(jobs))


def filling_workers(heavy: bool = False) -> int:
    """Return the number of workers that fill this machine: one a core, fewer where memory is short, at least one.

    With a heavy network it is one for each four cores.
    """
    return max(min(usable_cores() // HEAVY_CORES if heavy else usable_cores(), _room()), 1)


def gpu_workers(devices: int) -> int:
    """Return the number of workers that feed some GPUs: one for each four cores, as many for each GPU, at least one.

    The network is the GPU's, so the cores decode, and at 1080p many of them stand beside one GPU (docs/scale.md).
    """
    each = min(usable_cores() // HEAVY_CORES // devices, _room() // devices, GPU_WORKERS)
    return max(each, 1) * devices


def _room() -> int:
    """Return the number of workers that the free memory has room for."""
    memory = free_memory()
    return BLIND if memory is None else memory // WORKER_BYTES


def is_heavy(settings: JobSettings) -> bool:
    """Return whether the models of a job take most of the time; see `are_heavy`."""
    return are_heavy(filter(None, (settings.engine, settings.flow_engine, *settings.backbones)))


def are_heavy(files: Iterable[str]) -> bool:
    """Return whether models together take `HEAVY` multiply-adds per sampled frame or more, or nobody knows.

    Raises:
        EngineError, SpecError: a model is missing, or no model.
        OSError: a file cannot be read.
    """
    frames = 0.0
    for file in files:
        if Path(file).suffix.lower() not in READERS:  # a checkpoint, which runs in PyTorch
            return True
        spec = read_artifact(Path(file), verify=False).spec
        frames += spec.multiply_adds / spec.window_stride
        frames += 0 if spec.streaming is None else spec.streaming.multiply_adds_per_frame
    return frames >= HEAVY


def runs_on_gpu(settings: JobSettings) -> bool:
    """Return whether any of the engines of a job runs on a GPU."""
    options = settings.engine_options
    files = [settings.engine, settings.flow_engine or "", *settings.backbones]
    engines = any(Path(file).suffix.lower() in (".engine", ".plan") for file in files)
    return engines or options.device_kind == "gpu" or options.provider is not None


def share_devices(devices: Sequence[str], workers: int) -> list[str]:
    """Return the device of each worker: the devices in turn."""
    return [devices[number % len(devices)] for number in range(workers)]


def share_threads(settings: JobSettings, workers: int) -> int | None:
    """Return the CPU threads of each worker's engine: its share of the cores; None where an engine takes no number."""
    files = [settings.engine, settings.flow_engine or settings.engine, *settings.backbones]
    takes = all(Path(file).suffix.lower() in (".onnx", ".xml") for file in files)
    on_cpu = settings.engine_options.device_kind in ("auto", "cpu") and settings.engine_options.provider is None
    return max(usable_cores() // workers, 1) if takes and on_cpu else None
