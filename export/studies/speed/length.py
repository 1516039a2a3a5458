"""Run a network over a video of a given length in a process of its own, and print its speed and peak memory as JSON."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

from export.studies.speed.study import LengthRun
from export.studies.speed.videos import repeat_frames
from runtime.common.console import run_script
from runtime.common.mappings import to_mapping
from runtime.detector import Detector
from runtime.engines import open_engine


def run_length(model: Path, video: Path, seconds: float, source: str) -> LengthRun:
    """Detect in a video of `seconds`: the file itself, or for "memory" its first window over and over."""
    engine = open_engine(model, mode="throughput" if model.suffix == ".xml" else "latency")
    with Detector(engine) as detector:
        spec = detector.spec
        frames = None if source == "file" else repeat_frames(video, spec, round(seconds * spec.sample_fps))
        start = time.process_time()
        found = detector.stream(str(video)) if frames is None else detector.stream(frames, fps=spec.sample_fps)
        detections = sum(len(final) for final in found)
        core_s = time.process_time() - start
        timing = detector.timing
        engine.close()
    return LengthRun(
        network=model.name,
        video_s=timing.frames / spec.sample_fps,
        source=source,
        fps=timing.video_fps,
        core_ms=core_s * 1e3 / timing.frames,
        peak_mib=peak_memory_mib(),
        detections=detections,
        post_ms=timing.post_ms / timing.frames,
    )


def peak_memory_mib() -> float:
    """Return the peak memory of this process in MiB; on Linux without that of the process that started it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("source", choices=("file", "memory"))
    given = parser.parse_args()
    sys.exit(
        run_script(lambda: json.dumps(to_mapping(run_length(given.model, given.video, given.seconds, given.source))))
    )
