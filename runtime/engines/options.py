"""How an engine is run: device, threads, precision. What it computes is in the file, not here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtime.errors import InputError


@dataclass(frozen=True)
class EngineOptions:
    """Options of `open_engine`, checked here for all engines."""

    device: str = "cpu"
    """Where it runs: "cpu", or "gpu" / "cuda" with an optional index as in "cuda:1". Never silently another."""
    threads: int | None = None
    """CPU threads; None leaves the choice to the library (all cores)."""
    precision: Literal["fp32", "bf16"] | None = None
    """OpenVINO only: arithmetic of a floating-point model on the CPU. None: bf16 if the file was exported as bf16,
    else fp32, also where the library by itself would choose bf16."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads: got {self.threads}, expected at least 1, or none for all cores")
        if self.precision not in (None, "fp32", "bf16"):
            raise InputError(f"precision: got {self.precision!r}, expected 'fp32' or 'bf16'")
        if self.device_kind not in ("cpu", "gpu") or not self._index.isdigit():
            raise InputError(f"device: got {self.device!r}, expected 'cpu', 'gpu' or 'gpu:INDEX'")

    @property
    def device_kind(self) -> str:
        """The kind alone, "cpu" or "gpu"; "cuda" is another name of "gpu"."""
        kind = self.device.lower().partition(":")[0]
        return "gpu" if kind == "cuda" else kind

    @property
    def device_index(self) -> int:
        """Index of the device, 0 where none was given."""
        return int(self._index)

    @property
    def _index(self) -> str:
        return self.device.partition(":")[2] if ":" in self.device else "0"
