"""Judge an engine of an 8-bit file: is it the file's network, and what happens to detections?"""

from __future__ import annotations

import json
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
from runtime.common.files import file_sha256
from runtime.engines.base import Engine
from runtime.families import class_output

SAME_ROUNDING = 0.3
"""Largest drift of a coarse output between two engines of one quantised graph. A number that lies between two steps is
rounded up by one and down by the other, and what follows is as different as int8 is from float (full-size network with
random weights: 4 to 10 %); a graph that is wired wrongly differs by about 1."""

REPORT = ".calibration.json"
"""End of the name of the report that `afsd calibrate` writes, behind that of the ONNX file."""


def check_quantised(
    reference: Engine,
    engine: Engine,
    source: Path,
    say: Say,
    *,
    videos: Sequence[Path] = (),
    limit: float = SAME_ROUNDING,
    smallest: int = 1,
    largest: int = 2,
) -> DriftReport:
    """Compare an engine of a quantised ONNX file with the file itself, and say what happens to detections.

    On made-up windows two engines of one file may differ in many a rounding, which tells nothing of its accuracy: their
    drift is held to the limit, and stays in the report. Detections are compared on videos where there are any; else
    what `afsd calibrate` measured is repeated.

    Args:
        reference: the file in ONNX Runtime.
        engine: of the same file.
        source: the ONNX file.
        say: receives what was found.
        videos: real ones, for detections; an engine that takes no single window is not run on them.
        limit: largest drift of a first-stage output.
        smallest, largest: batch that the engine takes.

    Returns:
        The drift on the videos, or else on the made-up windows.

    Raises:
        ExportError: more drift than roundings explain.
        InputError, VideoError: see `measure_drift_on_videos`.
    """
    report = measure_drift_on_windows(reference, engine, smallest, largest)
    require_drift(report, {*COARSE, class_output(reference.spec)}, limit, "rounding", "nothing was written")
    say(f"on {report.windows} made-up windows: the same network as {source.name}, apart from roundings")
    if videos and smallest == 1:  # a detector gives one window at a time
        report = measure_drift_on_videos(reference, engine, [str(video) for video in videos])
        say(f"{engine.library} against {reference.library}, {describe_on_videos(report.detections[-1], len(videos))}")
    else:
        say(_measured(source))
    return report


def describe_on_videos(found: DetectionDrift, videos: int) -> str:
    """Say in words what happened to the best detections of some videos."""
    return f"on {videos} video{'' if videos == 1 else 's'}: {found.sentence()}"


def _measured(source: Path) -> str:
    """Say what 8 bit does to detections as the calibration found it, if the report is there and of this file."""
    try:
        content: dict[str, Any] = json.loads(source.with_name(f"{source.name}{REPORT}").read_text(encoding="utf-8"))
        if content["sha256"] != file_sha256(source):
            raise ValueError
        path = content["path"]
        (step,) = (step for step in path["steps"] if len(step["restored"]) == path["chosen"])
        found = describe_on_videos(DetectionDrift(**step["detections"]), content["test_videos"])
        mean = f"; mAP {0 - step['drop']:+.2f} points" if path["labelled"] else ""
        return f"8 bit against float32, as afsd calibrate measured {found}{mean}"
    except (OSError, ValueError, KeyError, TypeError):  # not calibrated here, without test videos, or moved
        return (
            "what 8 bit does to detections is not known: afsd calibrate --test VIDEO measures it, and afsd evaluate "
            "judges the engine on annotated videos"
        )
