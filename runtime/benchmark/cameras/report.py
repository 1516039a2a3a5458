"""Report the numbers of cameras that were tried."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.benchmark.cameras.load import Load
from runtime.common.tables import align


@dataclass
class CameraReport:
    """Holds the loads of one engine, in the order in which they were tried."""

    name: str
    video: str
    library: str
    precision: str
    sample_fps: float
    loads: list[Load] = field(default_factory=list)

    @property
    def carried(self) -> int:
        """Largest number of cameras that were carried; 0: not even one."""
        return max((load.cameras for load in self.loads if not load.failure), default=0)

    @property
    def bounded(self) -> bool:
        """Whether a larger number was tried that is not carried."""
        return any(load.failure and load.cameras > self.carried for load in self.loads)


def format_cameras(report: CameraReport) -> str:
    """Return a report as text: a line that says the number, and a table of what was tried."""
    rows = [["cameras", "carried", "lag s", "read late s", "busy cores", "cameras' own"]]
    for load in sorted(report.loads, key=lambda load: load.cameras):
        rows.append(
            [
                str(load.cameras),
                f"no: {load.failure}" if load.failure else "yes",
                f"{load.lag_s:.1f}",
                f"{load.reading_lag_s:.1f}",
                f"{load.busy_cores:.2f}",
                f"{load.camera_cores:.2f}",
            ]
        )
    end = "" if report.bounded else ", and maybe more"
    head = (
        f"{report.name} ({report.library}, {report.precision}): {report.carried} cameras of {report.video}, "
        f"each sampled at {report.sample_fps:g} frames per second{end}"
    )
    return f"{head}\n{align(rows, 'rlrrrr', indent=2)}"
