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


PartName = Literal["steady", "edge", "head"]

PARTS: tuple[PartName, PartName, PartName] = ("steady", "edge", "head")
"""Parts of a streaming network (`runtime.spec.streaming`), in the order in which their plans lie in the engine file."""

Size = Annotated[int, Range(1, 2**40, what="bytes")]
Length = Annotated[int, Range(1, 65_536, what="frames or windows")]


@dataclass(frozen=True)
class PlanPart:
    """Describes one of the plans of a streaming network, which lie one behind the other in the engine file."""

    name: PartName
    size: Size
    """Size of the plan in bytes."""
    lengths: tuple[Length, Length, Length]
    """Smallest, optimal and largest length of the axis that the plan leaves open: of the steps the frames of a chunk
    (without the overlap), of the head the batch."""

    def __post_init__(self) -> None:
        check_ranges(self)
        low, best, high = self.lengths
        if not low <= best <= high:
            raise ValueError(f"lengths {self.lengths}: expected min ≤ opt ≤ max")


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
    """Smallest, optimal and largest batch of the optimisation profile; of a streaming network, of the head's."""
    pooling: Literal["plugin", "function", "none"]
    """Boundary pooling: by the plugin's kernel, by the function of standard operators, or not in the network."""
    gpu: str = ""
    """Name of the GPU of the build; empty if the engine was built without one."""
    parts: tuple[PlanPart, ...] = ()
    """Plans of a streaming network, in the order of `PARTS`; empty if the file is one plan."""

    def __post_init__(self) -> None:
        check_ranges(self)
        low, best, high = self.batch
        if not low <= best <= high:
            raise ValueError(f"batch {self.batch}: expected min ≤ opt ≤ max")
        if not self.version or not self.architectures:
            raise ValueError("version and architectures must not be empty")
        if self.parts and tuple(part.name for part in self.parts) != PARTS:
            raise ValueError(f"parts: expected {', '.join(PARTS)}")
