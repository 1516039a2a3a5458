"""Check that an engine computes what PyTorch computes: every output on seeded inputs, before the file is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.graph.trace import seeded_batches
from runtime.common.files import write_json
from runtime.common.tables import align
from runtime.decoding.a2net import A2NET_OUTPUTS
from runtime.engines.base import Engine
from runtime.errors import ExportError
from runtime.spec.model import FEATURES_OUTPUT, ModelSpec

COARSE = ("loc", "conf", *A2NET_OUTPUTS, FEATURES_OUTPUT)
"""Names of coarse outputs: AFSD's first stage, all of A2Net's, and a backbone's. In a file of two streams fused by the
geometric mean, `loc` holds refined segments and is not coarse."""
COARSE_TOLERANCE = 1e-4
"""Largest accepted difference of a coarse output, relative to the output's largest value."""

REFINED_TOLERANCE = 1e-3
"""Largest accepted relative difference of a refined output; a location beyond it counts as moved."""

MOVED_SHARE = 0.05
"""Share of locations that may be moved: where rounding changes a coarse distance, a neighbouring cell is pooled."""


@dataclass(frozen=True)
class OutputParity:
    """Compares one output over all inputs."""

    name: str
    coarse: bool
    """Whether the output comes from the first stage alone, so that no location can move."""
    largest: float
    """Largest absolute value of the reference's output."""
    max_error: float
    """Largest absolute difference; infinite where the engine gives NaN or infinity, which no rounding explains."""
    relative: float
    """max_error / largest, over locations that did not move."""
    moved: int
    """Number of refined locations beyond REFINED_TOLERANCE."""
    locations: int
    """Number of all locations."""

    @property
    def passed(self) -> bool:
        """Whether the output is within its tolerance."""
        tolerance = COARSE_TOLERANCE if self.coarse else REFINED_TOLERANCE
        finite = self.max_error < float("inf")
        return finite and self.relative <= tolerance and self.moved <= MOVED_SHARE * self.locations


@dataclass(frozen=True)
class ParityReport:
    """Compares one engine with the reference."""

    engine: str
    reference: str
    """Library whose numbers count as right, usually PyTorch."""
    outputs: tuple[OutputParity, ...]

    @property
    def passed(self) -> bool:
        """Whether every output is within its tolerance."""
        return all(output.passed for output in self.outputs)

    def table(self) -> str:
        """Return the report as aligned text, one row per output."""
        rows = [["output", "largest", "max error", "relative", "moved"]]
        rows += [
            [o.name, f"{o.largest:.4g}", f"{o.max_error:.2e}", f"{o.relative:.1e}", f"{o.moved} of {o.locations}"]
            for o in self.outputs
        ]
        return f"parity of {self.engine} with {self.reference}\n{align(rows, indent=2)}"

    def write(self, path: Path) -> None:
        """Store the report as JSON."""
        write_json(path, {**asdict(self), "passed": self.passed})


def compare(reference: Engine, engine: Engine, smallest: int = 1, largest: int = 2) -> ParityReport:
    """Run two engines on the same seeded windows, in batches of `smallest` to `largest`, and compare all outputs."""
    batches = seeded_batches(reference.spec, smallest, largest)
    pairs = [(reference.infer(inputs), engine.infer(inputs)) for inputs in batches]
    outputs = tuple(
        _compare_output(
            name,
            name in COARSE and not (name == "loc" and _geometric(reference.spec)),
            np.concatenate([expected[name] for expected, _ in pairs]),
            np.concatenate([found[name] for _, found in pairs]),
        )
        for name in (tensor.name for tensor in reference.spec.outputs)
    )
    return ParityReport(f"{engine.library} on {engine.device}", reference.library, outputs)


def require_parity(report: ParityReport) -> None:
    """Raise ExportError unless every output of the report is within its tolerance."""
    if not report.passed:
        worst = max(report.outputs, key=lambda o: (not o.passed, o.relative))
        raise ExportError(
            f"{report.engine} differs from {report.reference}: {worst.name} by {worst.relative:.1e} relative, "
            f"{worst.moved} of {worst.locations} locations moved (tolerance {COARSE_TOLERANCE:g} coarse, "
            f"{REFINED_TOLERANCE:g} refined, {MOVED_SHARE:.0%} moved); nothing was written"
        )


def _geometric(spec: ModelSpec) -> bool:
    return spec.stream == "rgb+flow" and spec.decoding.fusion == "geometric"


def _compare_output(name: str, coarse: bool, expected: NDArray[np.float32], found: NDArray[np.float32]) -> OutputParity:
    """Compare two arrays [B,N,w] of one output."""
    largest = float(np.abs(expected).max())
    error = np.nan_to_num(np.abs(expected - found).max(axis=-1), nan=np.inf, posinf=np.inf)
    moved = np.zeros_like(error, bool) if coarse else error > REFINED_TOLERANCE * largest
    kept = error[~moved]
    relative = float(kept.max()) / max(largest, 1e-12) if kept.size else float("inf")
    return OutputParity(name, coarse, largest, float(error.max()), relative, int(moved.sum()), int(moved.size))
