"""Run the study of speed, or write its page anew from a JSON: `python -m export.studies.speed`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from export.studies.speed.measure import Clock, Measurements
from export.studies.speed.models import calibration_videos, make_int8, make_models, make_small, make_stream
from export.studies.speed.page import BEGINNING, write_page
from export.studies.speed.study import Study, read_study, write_study
from runtime.benchmark.machine import describe_machine
from runtime.common.console import print_note, run_script
from runtime.common.files import require_writable_folder
from runtime.common.overwriting import require_own_file, text_that_begins
from runtime.common.ranges import Range, require_in_range
from runtime.errors import InputError

RESULTS = "results.json"
"""Name of the study's JSON in its folder."""
MINUTES = 34.0
"""Minutes that the measurements may take unless others are asked for; all parts fit them on two quiet cores."""


def run_study(out: Path, *, minutes: float = MINUTES, quick: bool = False, source: Path | None = None) -> Study:
    """Measure everything that fits the minutes, write <out>/results.json, and return what was measured.

    Args:
        out: folder of models, videos and results; what is there of the first two is used again.
        minutes: time for the measurements; making models and videos the first time comes before.
        quick: whether the shipped small network is measured in place of the full-size one.
        source: video that the test videos are made of; None: a synthetic one.

    Raises:
        InputError: minutes out of range, or the folder cannot be written to.
        VideoError: the source cannot be read.
    """
    require_in_range("minutes", minutes, float)
    if minutes not in Range(0, 600, above=True):
        raise InputError(f"minutes: got {minutes:g}, expected {Range(0, 600, above=True, what='minutes')}")
    require_writable_folder(out)
    begin = time.perf_counter()
    models = make_models(out, quick=quick, say=print_note)
    small = make_int8(make_small(out, print_note), out, print_note)
    small_files = (small, make_stream(small, print_note))
    scene = source or next(iter(sorted(calibration_videos(out).glob("*.mp4"))))
    measured = Measurements(models, small_files, scene, out, quick=quick, say=print_note)
    prepared = time.perf_counter() - begin
    parts = measured.parts()
    print_note(
        f"models are ready after {prepared:.0f} s; measuring takes up to {minutes:g} minutes, all parts together about "
        f"{sum(part.seconds for part in parts) / 60:.0f} on two quiet cores"
    )
    machine, clock = describe_machine(), Clock(minutes, print_note)

    def study() -> Study:
        return Study(
            machine=machine,
            load_at_end=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0,
            network=models.title,
            source=f"videos made of {scene.name}" if source else "videos made of a synthetic scene",
            reports=measured.reports,
            lengths=tuple(measured.lengths),
            left_out=(*measured.left_out, *clock.left_out),
            seconds={"prepare": round(prepared, 1), **clock.seconds},
            minutes=minutes,
            results=str(out / RESULTS),
        )

    clock.run(parts, lambda: write_study(study(), out / RESULTS))
    found = study()
    write_study(found, out / RESULTS)
    print_note(f"measured in {clock.spent / 60:.1f} minutes: {out / RESULTS}")
    return found


def main(arguments: argparse.Namespace) -> Path:
    """Measure or read, and write the page; return its path."""
    page = arguments.docs / "speed.md"
    require_own_file(page, text_that_begins(BEGINNING), "choose another --docs")
    if arguments.results is not None:
        return write_page(read_study(arguments.results), arguments.docs)
    study = run_study(arguments.out, minutes=arguments.minutes, quick=arguments.quick, source=arguments.source)
    return write_page(study, arguments.docs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/speed"), help="models, videos, JSON (default: %(default)s)"
    )
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the page (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time for measuring (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="the shipped small network, a few minutes")
    parser.add_argument("--source", type=Path, metavar="VIDEO", help="scene of the test videos (default: synthetic)")
    parser.add_argument("--from", type=Path, metavar="RESULTS.json", dest="results", help="only write the page anew")
    given = parser.parse_args()
    sys.exit(run_script(lambda: main(given)))
