"""Record what a TensorRT engine was built with and for: the part of its sidecar that says where the engine can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TensorRtLibrary = Literal["tensorrt", "tensorrt-rtx"]
"""Full TensorRT (one GPU architecture, plugins), or TensorRT for RTX (compiled anywhere, finished on the GPU)."""

MODULES: dict[TensorRtLibrary, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Python module of each library; both modules have the same interface, and the package extras have the libraries'
names."""


@dataclass(frozen=True)
class EngineBuild:
    """Holds the facts of one build; a plan runs only with the library that built it, on the architectures listed."""

    library: TensorRtLibrary
    version: str
    """Version of the library, as in "11.4.0.106"; another version refuses the plan."""
    architectures: tuple[str, ...]
    """Compute capabilities, as in "8.6"; the GPU must have one of them."""
    precision: Literal["fp32", "fp16", "bf16", "int8", "fp8"]
    """Number type of the heavy layers, as written in the ONNX graph."""
    batch: tuple[int, int, int]
    """Smallest, optimal and largest batch of the optimisation profile."""
    pooling: Literal["plugin", "function", "none"]
    """Boundary pooling: by the plugin's kernel, by the function of standard operators, or not in the network."""
    gpu: str = ""
    """Name of the GPU of the build; empty if the engine was built without one."""

    def __post_init__(self) -> None:
        low, best, high = self.batch
        if not 0 < low <= best <= high:
            raise ValueError(f"batch {self.batch}: expected 0 < min ≤ opt ≤ max")
        if not self.version or not self.architectures:
            raise ValueError("version and architectures must not be empty")
