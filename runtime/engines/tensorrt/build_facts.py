"""What a TensorRT engine was built with and for: the part of its sidecar that says where it can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TensorRtLibrary = Literal["tensorrt", "tensorrt-rtx"]
"""Full TensorRT (one GPU architecture, plugins), or TensorRT for RTX (compiled anywhere, finished on the GPU)."""

MODULES: dict[TensorRtLibrary, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Library → its Python module; both have the same interface. The extras are named as the libraries are."""


@dataclass(frozen=True)
class EngineBuild:
    """Facts of one build. A plan runs only with the library that made it and on the architectures it was made for."""

    library: TensorRtLibrary
    version: str
    """Of the library, as in "11.4.0.106"; another version refuses the plan."""
    architectures: tuple[str, ...]
    """Compute capabilities, as in "8.6"; the GPU must have one of them."""
    precision: Literal["fp32", "fp16", "bf16", "int8", "fp8"]
    """Of the heavy layers, as written in the ONNX graph."""
    batch: tuple[int, int, int]
    """Smallest, optimal and largest batch of the optimisation profile."""
    pooling: Literal["plugin", "function", "none"]
    """Boundary pooling by the plugin's kernel, by the function of standard operators, or not in the network."""
    gpu: str = ""
    """Name of the GPU it was built on; empty when it was built without one."""

    def __post_init__(self) -> None:
        low, best, high = self.batch
        if not 0 < low <= best <= high:
            raise ValueError(f"batch {self.batch}: expected 0 < min ≤ opt ≤ max")
        if not self.version or not self.architectures:
            raise ValueError("version and architectures must not be empty")
