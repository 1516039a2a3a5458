"""Load `afsd serve` with many clients at once, some of them hostile, and report what became of every request.

    python -m runtime.benchmark.service_load runs/demo/synthetic.xml runs/demo/data/videos/*.mp4

Results are compared with those of `afsd detect --json` on the same files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.benchmark.service_load.study import load
from runtime.common.console import run_script


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("videos", type=Path, nargs="+", help="videos of one folder")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(argv)
    return run_script(lambda: load(given.model, given.videos, given.requests, given.at_once, given.workers, given.seed))


if __name__ == "__main__":
    sys.exit(main())
