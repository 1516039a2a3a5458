"""Measure hours of video per hour of a job on Ray, by the number of actors, beside one detector without Ray.

python -m runtime.benchmark.fleet MODEL VIDEO… [--actors 1 2] [--repeat 10] [--cpus-per-actor 1]

Each actor has one engine with as many threads as CPUs. Nothing is written. "whole" counts from the start of the job,
with Ray and the actors to be started; "at work" from the first video that an actor began. The video files are in the
system's cache after the first row, which reads them without Ray.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from runtime.common.console import run_script
from runtime.common.ranges import Count, require_in_range
from runtime.common.tables import align
from runtime.detector import Detector
from runtime.engines import EngineOptions, open_engine
from runtime.errors import AfsdError
from runtime.fleet.detection import detect_dataset
from runtime.fleet.engines import share_engine
from runtime.fleet.options import FleetOptions
from runtime.fleet.outcome import Outcome
from runtime.video.sources import expand_sources

HEADER = ("", "videos", "video s", "whole s", "hours per hour", "at work s", "hours per hour", "start s")


def measure(model: str, sources: Sequence[str], actors: Sequence[int], fleet: FleetOptions, repeat: int) -> str:
    """Run the jobs one after another and return the table.

    Raises:
        AfsdError: a video failed; see also `detect_dataset`.
    """
    videos = [str(source) for source in expand_sources(sources)] * repeat
    rows = [list(HEADER), _run_alone(model, videos, fleet)]
    for count in actors:
        rows.append(_run_on_ray(model, videos, count, fleet))
    return align(rows, "lrrrrrrr")


def _run_alone(model: str, videos: Sequence[str], fleet: FleetOptions) -> list[str]:
    options = share_engine(EngineOptions(mode="throughput"), fleet)
    began = time.perf_counter()
    engine = open_engine(model, device=options.device, threads=options.threads, mode=options.mode)
    opened = time.perf_counter()
    with Detector(engine) as detector:
        seconds = 0.0
        for video in videos:
            detector.run(video)
            seconds += detector.timing.video_seconds
    engine.close()
    now = time.perf_counter()
    return _row("no Ray", len(videos), seconds, now - began, now - opened)


def _run_on_ray(model: str, videos: Sequence[str], count: int, fleet: FleetOptions) -> list[str]:
    begun: list[float] = []

    def note(_: str, outcome: Outcome) -> None:
        begun.append(time.perf_counter() - outcome.wall_seconds)

    options = FleetOptions(
        address=fleet.address,
        actors=count,
        cpus_per_actor=fleet.cpus_per_actor,
        gpus_per_actor=fleet.gpus_per_actor,
    )
    start = time.perf_counter()
    done = detect_dataset(videos, model, engine=EngineOptions(mode="throughput"), fleet=options, on_video=note).summary
    if done.failures:
        raise AfsdError(f"{done.failures[0].path}: {done.failures[0].error}")
    end = start + done.wall_seconds
    name = f"{count} actor{'' if count == 1 else 's'} of {fleet.cpus:g} CPU"
    return _row(name, done.done, done.video_seconds, done.wall_seconds, end - min(begun))


def _row(name: str, videos: int, seconds: float, whole: float, work: float) -> list[str]:
    numbers = (whole, seconds / whole, work, seconds / work, whole - work)
    return [name, str(videos), f"{seconds:.0f}", *(f"{number:.1f}" for number in numbers)]


def main() -> int:
    """Run from the command line; on an error print one line and return 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("videos", metavar="VIDEO", nargs="+", help="files, folders, patterns")
    parser.add_argument("--ray", metavar="ADDRESS", default="local", help="cluster (default: Ray on this machine)")
    parser.add_argument("--actors", metavar="N", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--repeat", metavar="N", type=int, default=10, help="times each video is read (%(default)s)")
    parser.add_argument("--cpus-per-actor", metavar="N", type=float, default=1.0, help="(%(default)g)")
    parser.add_argument("--gpus-per-actor", metavar="N", type=float, default=0.0, help="(%(default)g)")
    args = parser.parse_args()

    def run() -> str:
        require_in_range("--repeat", args.repeat, Count)
        fleet = FleetOptions(address=args.ray, cpus_per_actor=args.cpus_per_actor, gpus_per_actor=args.gpus_per_actor)
        return measure(args.model, args.videos, args.actors, fleet, args.repeat)

    return run_script(run)


if __name__ == "__main__":
    sys.exit(main())
