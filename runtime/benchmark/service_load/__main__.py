"""Load `afsd serve` with many clients at once, some of them hostile, and report what became of every request.

    python -m runtime.benchmark.service_load runs/demo/synthetic.xml runs/demo/data/videos/*.mp4

Results are compared with those of `afsd detect --json` on the same files. The exit status is 1 if a request ended in
another way than its kind must, if memory grew too far, or if the service left files or ended badly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.benchmark.service_load.judging import MIB, WORKER_GROWTH, find_faults
from runtime.benchmark.service_load.report import format_study
from runtime.benchmark.service_load.study import load
from runtime.common.console import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m runtime.benchmark.service_load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("videos", type=Path, nargs="+", help="videos of one folder")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--worker-growth", metavar="MIB", type=int, default=WORKER_GROWTH // MIB,
        help="MiB by which the memory of a worker may grow once its engine is open (%(default)s)",
    )  # fmt: skip
    return run_command(lambda: _run(parser.parse_args(argv)))


def _run(given: argparse.Namespace) -> int:
    """Run the study, print its report and its faults, and return the exit status."""
    study = load(given.model, given.videos, given.requests, given.at_once, given.workers, given.seed)
    print(format_study(study))
    faults = find_faults(study, given.worker_growth * MIB)
    for fault in faults:
        print(f"fault: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
