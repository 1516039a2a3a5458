"""Record what a TensorRT engine was built with and for: the part of its sidecar that says where the engine can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from runtime.common.ranges import Range, check_ranges

TensorRtLibrary = Literal["tensorrt", "tensorrt-rtx"]
"""Full TensorRT (one GPU architecture, plugins), or TensorRT for RTX (compiled anywhere, finished on the GPU)."""

MODULES: dict[TensorRtLibrary, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Python module of each library; both modules have the same interface, and the package extras have the libraries'
names."""


Batch = Annotated[int, Range(1, 65_536, what="windows")]
"""Number of windows that a network takes at once."""


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
    batch: tuple[Batch, Batch, Batch]
    """Smallest, optimal and largest batch of the optimisation profile."""
    pooling: Literal["plugin", "function", "none"]
    """Boundary pooling: by the plugin's kernel, by the function of standard operators, or not in the network."""
    gpu: str = ""
    """Name of the GPU of the build; empty if the engine was built without one."""

    def __post_init__(self) -> None:
        check_ranges(self)
        low, best, high = self.batch
        if not low <= best <= high:
            raise ValueError(f"batch {self.batch}: expected min ≤ opt ≤ max")
        if not self.version or not self.architectures:
            raise ValueError("version and architectures must not be empty")
