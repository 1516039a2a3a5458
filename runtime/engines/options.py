"""Define how an engine is run: device, threads, precision."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from runtime.common.ranges import Range, check_ranges
from runtime.errors import InputError

MODES = ("latency", "throughput")
"""Values of `EngineOptions.mode`."""

INDEX_DIGITS = 3
"""Most digits of a device's index; no machine has a thousand of them."""


@dataclass(frozen=True)
class EngineOptions:
    """Holds the options of `open_engine`, checked for all engines."""

    device: str = "auto"
    """Device of the engine: "cpu", or "gpu" / "cuda" with an optional index as in "cuda:1"; never a silent fallback.
    "auto" is the first GPU for a TensorRT engine or where `provider` is given, else the CPU."""
    threads: Annotated[int, Range(1, 65_536, what="threads")] | None = None
    """CPU threads; None leaves the choice to the library (all cores), unless a container has less time than
    cores: then as many as its time amounts to."""
    precision: Literal["fp32", "bf16"] | None = None
    """OpenVINO and PyTorch only: number type of a floating-point model on the CPU. None: bf16 if the file was exported
    as bf16, else fp32, even where OpenVINO would choose bf16."""
    provider: Literal["cuda", "tensorrt"] | None = None
    """ONNX Runtime only: provider that runs an .onnx file on the GPU; None: cuda."""
    cuda_graph: bool = False
    """TensorRT engines only: replay a captured graph, one launch for all kernels."""
    compiled: bool = False
    """PyTorch only: compile a checkpoint's network with its weights as constants (torch.compile, frozen)."""
    mode: Literal["latency", "throughput"] = "latency"
    """OpenVINO only, other engines have one: "latency" runs a batch on all threads at once; "throughput" runs several
    batches at once on a part of the threads each, which costs less in all and makes each batch take longer. On the CPU
    both give the same detections but for the last digits of float32 sums (docs/engines.md)."""
    cache: str | os.PathLike[str] | None = None
    """OpenVINO on the CPU only: folder in which compiled models are kept for the next start; None: none is kept. The
    commands take the user's cache folder (`runtime.engines.openvino.cache.default_folder`)."""
    verify: bool = True
    """Compare the model's files with their digest before they are loaded (docs/engines.md has what that takes)."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.precision not in (None, "fp32", "bf16"):
            raise InputError(f"precision: got {self.precision!r}, expected 'fp32' or 'bf16'")
        if self.mode not in MODES:
            raise InputError(f"mode: got {self.mode!r}, expected 'latency' or 'throughput'")
        if self.provider not in (None, "cuda", "tensorrt"):
            raise InputError(f"provider: got {self.provider!r}, expected 'cuda' or 'tensorrt'")
        numbered = self._index.isascii() and self._index.isdigit() and len(self._index) <= INDEX_DIGITS
        if self.device_kind not in ("auto", "cpu", "gpu") or not numbered:
            raise InputError(f"device: got {self.device[:40]!r}, expected 'cpu', 'gpu' or 'gpu:INDEX'")
        if self.provider is not None and self.device_kind == "cpu":
            raise InputError(f"provider {self.provider}: runs on a GPU, got device 'cpu'; leave one of them out")

    def resolve(self, library: str) -> EngineOptions:
        """Return the options with "auto" replaced by the device that suits the library.

        Raises:
            InputError: an option belongs to another library.
        """
        if self.provider is not None and library != "onnxruntime":
            raise InputError(f"provider {self.provider}: ONNX Runtime's, for .onnx files; leave it out")
        if self.cuda_graph and library != "tensorrt":
            raise InputError("cuda_graph: for TensorRT engines (.engine, .plan); leave it out")
        if self.compiled and library:
            raise InputError("compiled: for checkpoints, which PyTorch runs (.ckpt, .safetensors); leave it out")
        if self.device_kind != "auto":
            return self
        return replace(self, device="gpu:0" if library == "tensorrt" or self.provider is not None else "cpu")

    @property
    def device_kind(self) -> str:
        """Device without its index: "auto", "cpu" or "gpu" (also for "cuda")."""
        kind = self.device.lower().partition(":")[0]
        return "gpu" if kind == "cuda" else kind

    @property
    def device_index(self) -> int:
        """Index of the device; 0 if none was given."""
        return int(self._index)

    @property
    def _index(self) -> str:
        return self.device.partition(":")[2] if ":" in self.device else "0"
