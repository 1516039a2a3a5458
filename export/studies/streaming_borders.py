"""Measure what training on windows between their true neighbours brings to a streaming network (`data.window_borders`).

python -m export.studies.streaming_borders --out runs/borders [--seeds 1 2 3] [--epochs 1] [--videos 20]

The shipped network is trained on, once per seed and kind of border, from the same weights and on the same videos; each
result is judged on unseen videos, as a network on windows and as a streaming one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.demo import SHIPPED
from export.studies.streaming_map import format_rows, measure_artifacts, write_artifacts
from export.studies.train_demo import make_data
from runtime.common.console import run_script
from runtime.common.files import write_json
from training.checkpoints.slim import slim_checkpoint
from training.config.files import load_config
from training.run import train

BORDERS = ("zeros", "stream")
"""Values of `data.window_borders`."""
STRIDES = (128, 32)
"""Strides in frames at which each network is judged."""
RATE = 4e-4
"""Learning rate, a fifth of the one the shipped network was trained from scratch with."""


def measure_borders(out: Path, seeds: Sequence[int], epochs: int, videos: int) -> str:
    """Train and judge the network of every seed and border; write figures.json and return the tables."""
    data = make_data(out)
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        for borders in BORDERS:
            folder = out / f"{borders}_{seed}"
            checkpoint = folder / "slim.ckpt"
            if not checkpoint.is_file():
                settings = [
                    f"data.root={data}", f"data.window_borders={borders}", f"run.init={SHIPPED}", f"run.seed={seed}",
                    f"optimiser.epochs={epochs}", f"optimiser.learning_rate={RATE}",
                ]  # fmt: skip
                slim_checkpoint(train(load_config("synthetic", settings), folder), checkpoint, half=True)
            artifacts = write_artifacts(checkpoint, folder)
            for row in measure_artifacts(artifacts, out / "unseen", videos, [101], STRIDES):
                rows.append(row | {"seed": seed, "borders": borders})
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            write_json(out / "figures.json", {"epochs": epochs, "videos": videos, "rows": rows})
    tables = [(borders, [row for row in rows if row["borders"] == borders]) for borders in BORDERS]
    return "\n\n".join(f"trained with borders of {borders}:\n{format_rows(of, seeds)}" for borders, of in tables)


def main() -> int:
    """Run from the command line; on an error print one line and return 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the trainings (default: 1 2 3)")
    parser.add_argument("--epochs", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--videos", type=int, default=20, help="unseen videos (default: %(default)s)")
    args = parser.parse_args()
    return run_script(lambda: measure_borders(args.out, args.seeds, args.epochs, args.videos))


if __name__ == "__main__":
    sys.exit(main())
