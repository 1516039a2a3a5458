"""Export the network of published size with seeded untrained weights, for benchmarks without the published weights.

Speed does not depend on what a network has learnt.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from export.to_onnx import export_onnx
from export.to_openvino import export_openvino
from runtime.common.console import run_script
from training.afsd.network import AFSD
from training.checkpoints.files import Checkpoint, save_checkpoint
from training.config.files import load_config


def export_full_size(config: str, out: Path, *, openvino: bool = True) -> Path:
    """Write <out>/<config>.ckpt, .onnx and OpenVINO files unless they exist; return the path of the checkpoint."""
    checkpoint = out / f"{config}.ckpt"
    if not checkpoint.is_file():
        settings = load_config(config)
        torch.manual_seed(0)
        model = AFSD(settings.model)
        classes = settings.data.classes or tuple(f"class_{k}" for k in range(1, settings.model.num_classes))
        save_checkpoint(Checkpoint(dict(model.state_dict()), settings, classes), checkpoint)
    onnx_file = checkpoint.with_suffix(".onnx")
    if not onnx_file.is_file():
        export_onnx(checkpoint, onnx_file)
    if openvino and not checkpoint.with_suffix(".xml").is_file():
        export_openvino(onnx_file)
    return checkpoint


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="thumos14")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    sys.exit(run_script(lambda: export_full_size(arguments.config, arguments.out)))
