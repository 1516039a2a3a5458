"""Measure what a streaming network does to detections: mAP beside the network on windows, on unseen synthetic videos.

python -m export.studies.streaming_map --out runs/streaming [--model CHECKPOINT] [--videos 20] [--seeds 101 102 103]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from export.demo import SHIPPED
from export.to_openvino import export_openvino
from export.to_streaming import export_streaming
from runtime.annotations.activitynet import VideoAnnotation, load_annotations
from runtime.common.console import run_script
from runtime.common.files import write_json
from runtime.common.tables import align
from runtime.detector import Detector, DetectorOptions
from runtime.engines import open_engine
from runtime.evaluation import evaluate
from runtime.evaluation.annotated_videos import detect_annotated
from runtime.video.names import find_video
from training.synthetic.videos import make_synthetic

STRIDES = (128, 64, 32, 16)
"""Strides in frames at which each network is run; the published one is 128."""
SUBSET = "testing"


def measure_streaming(model: Path, out: Path, videos: int, seeds: Sequence[int]) -> str:
    """Measure both networks of a checkpoint on the videos of every seed; write figures.json and return the table."""
    rows = []
    for row in measure_artifacts(write_artifacts(model, out), out, videos, seeds, STRIDES):
        print(json.dumps(row), file=sys.stderr, flush=True)
        rows.append(row)
    write_json(out / "figures.json", {"model": model.name, "videos": videos, "rows": rows})
    return format_rows(rows, seeds)


def write_artifacts(model: Path, out: Path) -> dict[str, Path]:
    """Write the network on windows and the streaming one of a checkpoint; return their files by what they are."""
    out.mkdir(parents=True, exist_ok=True)
    return {
        "on windows": export_openvino(model, out / "windows.xml"),
        "streaming": export_streaming(model, out / "stream.xml", to="openvino"),
    }


def measure_artifacts(
    artifacts: dict[str, Path], out: Path, videos: int, seeds: Sequence[int], strides: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield seed, network, stride and average mAP of each artifact on unseen videos, which are made once in `out`."""
    for seed in seeds:
        data = out / f"seed_{seed}"
        if not (data / "annotations.json").is_file():
            make_synthetic(data, videos=videos, seed=seed, subset=SUBSET, progress=True)
        truth = load_annotations(data / "annotations.json", SUBSET)
        for name, path in artifacts.items():
            for stride in strides:
                yield {"seed": seed, "network": name, "stride": stride, "mAP": _measure(path, data, truth, stride)}


def format_rows(rows: Sequence[dict[str, Any]], seeds: Sequence[int]) -> str:
    """Format average mAP by network and stride, a column per seed."""
    table = [["network", "stride", *(f"seed {seed}" for seed in seeds), "mean"]]
    for name, stride in dict.fromkeys((row["network"], row["stride"]) for row in rows):
        values = [row["mAP"] for row in rows if (row["network"], row["stride"]) == (name, stride)]
        table.append([name, str(stride), *(f"{100 * value:.2f}" for value in values)])
        table[-1].append(f"{100 * sum(values) / len(values):.2f}")
    return align(table)


def _measure(path: Path, data: Path, truth: Sequence[VideoAnnotation], stride: int) -> float:
    """Return the average mAP of an engine at a stride."""
    with closing(open_engine(path)) as engine:
        detector = Detector(engine, options=DetectorOptions(stride=stride))
        found = detect_annotated(detector, truth, [find_video(data / "videos", video.name) for video in truth])
    return round(evaluate(found, truth).average, 5)


def main() -> int:
    """Run from the command line; on an error print one line and return 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="checkpoint (default: the shipped one)")
    parser.add_argument("--videos", type=int, default=20, help="videos of each seed (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103], help="default: 101 102 103")
    args = parser.parse_args()
    return run_script(lambda: measure_streaming(args.model, args.out, args.videos, args.seeds))


if __name__ == "__main__":
    sys.exit(main())
