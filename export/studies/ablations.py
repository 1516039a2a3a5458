"""Run the ablations of AFSD's Table 2 on synthetic videos: train, find actions in unseen videos, average over seeds.

python -m export.studies.ablations --out runs/ablations [--tables quality refinement …] [--seeds 1 2 3] [--set …]

All runs start from one backbone, which is trained without second stage and without consistency learning and so favours
no variant. The backbone stays frozen, as the Kinetics backbone's batch norms do in the paper; pyramid and heads are
trained. A finished run is not repeated.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.studies.train_demo import make_data, measure
from runtime.common.console import run_script
from runtime.common.files import read_json, write_json, write_text
from runtime.errors import ExportError
from training.config.files import load_config
from training.config.settings import Config
from training.deployment.views import open_torch_engine
from training.loop.trainer import LAST
from training.run import train

BASE = "full"
"""Name of the network with everything that the paper proposes, in the last row of every table."""

NO_CONSISTENCY = "loss.consistency=none"

TABLES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "quality": {"none": ["model.quality=none"], "centerness": ["model.quality=centerness"]},
    "activation": {"clip": ["loss.activation=clip"], "min-max": ["loss.activation=min-max"]},
    "regions": {
        "equal": ["model.region_divisors=[5.7, 5.7]"],
        "larger outside": ["model.region_divisors=[10, 4]"],
    },
    "refinement": {
        "none": ["model.refinement=none", NO_CONSISTENCY],
        "naive": ["model.refinement=naive", NO_CONSISTENCY],
        "self": ["model.refinement=self"],
        "frame": ["model.refinement=frame"],
    },
    "pooling": {pooling: [f"model.pooling={pooling}"] for pooling in ("mean", "conv", "stack")},
    "consistency": {part: [f"loss.consistency={part}"] for part in ("none", "activation", "triplet")},
}
"""Part of Table 2 that is varied → variant beside the full network → settings that make the variant."""

BACKBONE = ["optimiser.epochs=2", "model.refinement=none", NO_CONSISTENCY, "model.quality=none"]
"""Settings of the run that trains the backbone for all other runs."""

HEAD = [
    "model.stem=random", "model.freeze_backbone=true", "run.init_part=backbone", "run.keep_epochs=false",
    "optimiser.warmup_steps=20",
]  # fmt: skip
"""Settings of every run except the one that trains the backbone."""


def ablate(out: Path, tables: Sequence[str], seeds: Sequence[int], overrides: list[str], steps: int) -> str:
    """Run what is missing and return the tables as Markdown (also written to `<out>/tables.md`)."""
    data = make_data(out)
    backbone = _train(out / "backbone", [f"data.root={data}", *BACKBONE])
    settings = [f"data.root={data}", f"run.init={backbone}", *HEAD, *overrides]
    variants: dict[str, list[str]] = {BASE: []} | {
        f"{t} {name}": list(v) for t in tables for name, v in TABLES[t].items()
    }
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for seed in seeds:  # seeds in the outer loop, so that an interrupted series still compares all variants
        for name, changes in variants.items():
            folder = out / name.replace(" ", "-") / f"seed-{seed}"
            scores[name].append(_run(folder, [*settings, f"run.seed={seed}", *changes], steps, data))
            print(f"{name}, seed {seed}: {scores[name][-1]['average']:.1%}", flush=True)
    text = "\n\n".join(_table(t, scores) for t in tables)
    write_text(out / "tables.md", text + "\n")
    return text


def _run(folder: Path, settings: list[str], steps: int, data: Path) -> dict[str, float]:
    """Return mAP per tIoU and its average of one run; train and measure the run unless that was done before."""
    figures = folder / "figures.json"
    if not figures.is_file():
        began = time.perf_counter()
        checkpoint = _train(folder, [*settings, f"run.max_steps={steps}"])
        minutes = (time.perf_counter() - began) / 60
        result = measure(open_torch_engine(checkpoint), data)
        write_json(figures, result | {"minutes": round(minutes, 2)})
    measured: dict[str, Any] = read_json(figures, "file of figures", ExportError)
    return {**measured["mAP"], "average": measured["average_mAP"]}


def _train(folder: Path, settings: list[str]) -> Path:
    if not (folder / "done").is_file():
        shutil.rmtree(folder, ignore_errors=True)  # an interrupted run starts again
        train(_config(settings), folder)
        (folder / "done").touch()
    return folder / LAST


def _config(settings: list[str]) -> Config:
    return load_config("synthetic", settings)


def _table(table: str, scores: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Return one ablation in Markdown: mean ± standard deviation over seeds, in percent."""
    rows = [f"{table} {name}" for name in TABLES[table]] + [BASE]
    columns = list(scores[BASE][0])
    lines = [f"| {table} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        values = 100 * np.array([[run[column] for column in columns] for run in scores[row]])
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(len(columns), np.nan)
        cells = [f"{mean:.1f} ± {sd:.1f}" for mean, sd in zip(values.mean(axis=0), spread, strict=True)]
        lines.append(f"| {row.removeprefix(table).strip()} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Run from the command line; on an error print one line and return 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=150, help="optimiser steps of each run (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    args = parser.parse_args()
    return run_script(lambda: ablate(args.out, args.tables, args.seeds, args.set, args.steps))


if __name__ == "__main__":
    sys.exit(main())
