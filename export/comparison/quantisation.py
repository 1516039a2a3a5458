"""Judge an engine of an 8-bit file: check that it is the file's network, and report what happens to detections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.comparison.drift import (
    DetectionDrift,
    DriftReport,
    measure_drift_on_videos,
    measure_drift_on_windows,
    require_drift,
)
from export.comparison.parity import COARSE
from export.graph.export_input import Say
from runtime.common.files import file_sha256, read_json
from runtime.common.text import counted
from runtime.engines.base import Engine
from runtime.engines.two_files import staged_path
from runtime.errors import ExportError
from runtime.families import class_output

SAME_ROUNDING = 0.3
"""Largest relative drift of a coarse output between two engines of one quantised graph. Where one engine rounds up and
the other down, later layers differ as much as int8 does from float (full-size network with random weights: 4 to 10 %);
a graph with a wrong connection differs by about 1."""

REPORT = ".calibration.json"
"""Suffix that `afsd calibrate` appends to the name of the ONNX file for its report."""


def check_quantised(
    reference: Engine,
    engine: Engine,
    path: Path,
    say: Say,
    *,
    videos: Sequence[Path] = (),
    limit: float = SAME_ROUNDING,
    smallest: int = 1,
    largest: int = 2,
) -> DriftReport:
    """Compare an engine of a quantised ONNX file with the file itself, and report what happens to detections.

    On made-up windows two engines of one file may round many numbers differently, which says nothing about accuracy:
    this drift is checked against the limit and kept in the report. Detections are compared on videos where there are
    any; otherwise the finding of `afsd calibrate` is repeated.

    Args:
        reference: engine of the file in ONNX Runtime.
        engine: engine that was made from the file.
        path: the ONNX file.
        say: receives lines of the report.
        videos: real videos to compare detections on; skipped if the engine cannot run a single window.
        limit: largest relative drift of a first-stage output.
        smallest, largest: range of batch sizes that the engine takes.

    Returns:
        The drift on the videos, or without videos on the made-up windows.

    Raises:
        ExportError: the drift is larger than rounding explains.
        InputError, VideoError: see `measure_drift_on_videos`.
    """
    report = measure_drift_on_windows(reference, engine, smallest, largest)
    require_drift(report, {*COARSE, class_output(reference.spec)}, limit, "rounding", "nothing was written")
    say(f"on {report.windows} made-up windows: the same network as {path.name}, apart from roundings")
    if videos and smallest == 1:  # a detector gives one window at a time
        report = measure_drift_on_videos(reference, engine, [str(video) for video in videos])
        say(f"{engine.library} against {reference.library}, {describe_on_videos(report.detections[-1], len(videos))}")
    else:
        say(_describe_calibration(path))
    return report


def describe_on_videos(found: DetectionDrift, videos: int) -> str:
    """Describe in words what happened to the best detections of some videos."""
    return f"on {counted(videos, 'video')}: {found.sentence()}"


def find_report(path: Path, sha256: str) -> Path:
    """Return the report of a calibrated file, also where a calibration was killed before the report got its name."""
    report = path.with_name(f"{path.name}{REPORT}")
    staged = staged_path(report, sha256)
    return staged if staged.is_file() else report


def _describe_calibration(path: Path) -> str:
    """Describe what 8 bit does to detections from the calibration's report, if there is one and it is of this file."""
    try:
        sha256 = file_sha256(path)
        content: dict[str, Any] = read_json(find_report(path, sha256), "report of afsd calibrate", ExportError)
        if content["sha256"] != sha256:
            raise ValueError
        budget = content["path"]
        (step,) = (step for step in budget["steps"] if len(step["restored"]) == budget["chosen"])
        found = describe_on_videos(DetectionDrift(**step["detections"]), content["test_videos"])
        mean = f"; mAP {0 - step['drop']:+.2f} points" if budget["labelled"] else ""
        return f"8 bit against float32, as afsd calibrate measured {found}{mean}"
    except (
        ExportError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ):  # not calibrated here, without test videos, or moved
        return (
            "what 8 bit does to detections is not known: afsd calibrate --test VIDEO measures it, and afsd evaluate "
            "judges the engine on annotated videos"
        )
