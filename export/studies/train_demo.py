"""Train the shipped checkpoint again (`make train-demo`): make videos, train, export, evaluate through the runtime.

python -m export.studies.train_demo --out runs/synthetic [--ship]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.demo import SHIPPED
from export.to_onnx import export_onnx
from export.to_openvino import export_openvino
from runtime.annotations.activitynet import load_annotations
from runtime.common.console import run_script
from runtime.common.files import write_json
from runtime.detector import Detector
from runtime.engines import Engine, open_engine
from runtime.engines.card_writing import write_card
from runtime.evaluation import evaluate, evaluate_thresholds, format_table
from runtime.evaluation.annotated_videos import detect_annotated
from runtime.spec.model_card import ModelCard, OperatingPoint
from runtime.video.names import find_video
from training.checkpoints.slim import slim_checkpoint
from training.config.files import load_config
from training.run import train
from training.synthetic.videos import make_synthetic

SETS = (("training", 100, 1), ("testing", 20, 3), ("choosing", 20, 5))
"""(Subset, number of videos, seed) of each set of videos; the threshold is chosen on the last."""
DEMO_CARD = ModelCard(
    data="synthetic videos of this project, seed 1",
    licence="Apache-2.0",
    demonstration="six motions of drawn shapes",
)
"""What the shipped model is, but for its mAP."""


def train_demo(out: Path, overrides: list[str], ship: bool) -> dict[str, Any]:
    """Make the data (once), train, export, and evaluate on unseen videos; return the figures and write figures.json."""
    data = make_data(out)
    config = load_config("synthetic", [f"data.root={data}", *overrides])
    began = time.perf_counter()
    checkpoint = train(config, out)
    minutes = (time.perf_counter() - began) / 60
    slim = slim_checkpoint(checkpoint, out / "synthetic.ckpt", half=True)
    figures = {"seed": config.run.seed, "training_minutes": round(minutes, 2)}
    figures |= measure(open_engine(export_openvino(export_onnx(slim))), data)
    write_json(out / "figures.json", figures)
    if ship:
        slim_checkpoint(slim, SHIPPED, half=True, metrics=figures)
        write_threshold(SHIPPED, data, figures)
        print(f"shipped: {SHIPPED}")
    return figures


def make_data(out: Path) -> Path:
    """Make the training and test videos of `SETS` in `<out>/data` unless they exist; return that folder."""
    data = out / "data"
    for subset, videos, seed in SETS:
        if not (data / f"{subset}.made").is_file():
            print(f"making {videos} {subset} videos", flush=True)
            make_synthetic(data, videos=videos, seed=seed, subset=subset, progress=True)
            (data / f"{subset}.made").touch()
    return data


def write_threshold(
    checkpoint: Path,
    data: Path,
    figures: Mapping[str, Any],
    card: ModelCard = DEMO_CARD,
    videos: str = "synthetic videos",
) -> None:
    """Choose the score from which on detections are shown, and write it and the model's card into a checkpoint.

    Args:
        card: what the model is; the mAP of `figures` is added.
        videos: what the videos are; those to choose on have seed 5, those that `figures` are of seed 3.
    """
    truth = load_annotations(data / "annotations.json", "choosing")
    with Detector(checkpoint) as detector:
        found = detect_annotated(detector, truth, [find_video(data / "videos", video.name) for video in truth])
    result = evaluate_thresholds(found, truth)
    print(result.table())
    quality = result.best
    assert quality is not None
    origin = f"{videos}, seed 5"
    point = OperatingPoint(
        quality.threshold, result.tiou, quality.precision, quality.recall, quality.instances, judged_on=origin
    )
    tious = tuple(float(tiou) for tiou in figures["mAP"])

    judged = replace(card, average_map=figures["average_mAP"], tious=tious, judged_on=f"{videos}, seed 3")

    write_card(checkpoint, lambda old: replace(judged, trained=old.card.trained), point)


def measure(engine: Engine, data: Path) -> dict[str, Any]:
    """Measure the mAP of an engine on the unseen videos, through the runtime."""
    truth = load_annotations(data / "annotations.json", "testing")
    with Detector(engine) as detector:
        result = evaluate(
            detect_annotated(detector, truth, [find_video(data / "videos", video.name) for video in truth]), truth
        )
    print(format_table(result, per_class=True))
    per_tiou = {f"{tiou:.1f}": round(float(value), 4) for tiou, value in zip(result.tious, result.map, strict=True)}
    return {"test_videos": len(truth), "mAP": per_tiou, "average_mAP": round(result.average, 4)}


def main() -> int:
    """Run from the command line; on an error print one line and return 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--ship", action="store_true", help="replace the checkpoint in training/pretrained")
    args = parser.parse_args()
    return run_script(lambda: json.dumps(train_demo(args.out, args.set, args.ship), indent=1))


if __name__ == "__main__":
    sys.exit(main())
