"""Make the models that the study of speed measures: a checkpoint, and its files for every engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export.demo import SHIPPED
from export.studies.engine_table import run_afsd
from export.studies.full_size import export_full_size
from export.to_onnx import export_onnx
from export.to_openvino import export_openvino
from training.synthetic.videos import VideoFormat, make_synthetic

CLIPS = 2
"""Windows on which the INT8 file is calibrated: enough for its speed, not for its accuracy."""
SUBSET = "training"
"""Subset of the synthetic videos that the INT8 file is calibrated on."""

Say = Callable[[str], None]
"""Function called with progress messages."""


@dataclass(frozen=True)
class Models:
    """Holds the files of one network."""

    checkpoint: Path
    onnx: Path
    openvino: Path
    int8: Path
    """OpenVINO file of 8 bit."""
    stream: Path
    """OpenVINO file of the streaming network, which computes each frame once."""
    int8_stream: Path
    """The same in 8 bit."""
    title: str
    """The network in words."""


def make_models(out: Path, *, quick: bool, say: Say) -> Models:
    """Make the files of the full-size network, or of the shipped small one (`quick`), unless they exist."""
    out.mkdir(parents=True, exist_ok=True)
    if quick:
        checkpoint, title = make_small(out, say), "the shipped network of synthetic videos"
    else:
        say("the full-size network: checkpoint, ONNX and OpenVINO files, where they are not there yet")
        checkpoint = export_full_size("thumos14", out)
        title = "the network of published size (THUMOS14, 256 frames of 96×96), seeded untrained weights"
    int8 = make_int8(checkpoint, out, say)
    plain = checkpoint.with_suffix(".xml")
    stream, int8_stream = make_stream(plain, say), make_stream(int8, say)
    return Models(checkpoint, checkpoint.with_suffix(".onnx"), plain, int8, stream, int8_stream, title)


def make_int8(checkpoint: Path, out: Path, say: Say) -> Path:
    """Calibrate and export the ONNX file beside a checkpoint, unless that was done; return the OpenVINO file's path."""
    int8 = checkpoint.with_name(f"{checkpoint.stem}.int8.xml")
    if not int8.is_file():
        say(f"the INT8 file of {checkpoint.name}")
        typed = int8.with_suffix(".onnx")
        clips = ("--videos", str(calibration_videos(out)), "--clips", str(CLIPS))
        run_afsd("calibrate", str(checkpoint.with_suffix(".onnx")), *clips, "-o", str(typed))
        run_afsd("export", str(typed), "--to", "openvino")
    return int8


def make_stream(on_windows: Path, say: Say) -> Path:
    """Export the streaming network of the ONNX file beside an OpenVINO one, unless that was done; return its path."""
    stream = on_windows.with_suffix(".stream.xml")
    if not stream.is_file():
        say(f"the streaming network of {on_windows.name}")
        run_afsd("export", str(on_windows.with_suffix(".onnx")), "--to", "openvino", "--stream")
    return stream


def make_small(out: Path, say: Say) -> Path:
    """Copy the shipped checkpoint and export it, unless that was done; return the path of the copy."""
    checkpoint = out / SHIPPED.name
    if not checkpoint.with_suffix(".xml").is_file():
        say("the shipped small network: ONNX and OpenVINO files")
        shutil.copyfile(SHIPPED, checkpoint)
        export_openvino(export_onnx(checkpoint, checkpoint.with_suffix(".onnx")))
    return checkpoint


def calibration_videos(out: Path) -> Path:
    """Make the synthetic videos of the calibration, unless they exist, and return their folder."""
    folder = out / "synthetic"
    if not (folder / "annotations.json").is_file():
        lengths = VideoFormat(shortest_s=30, longest_s=40)
        make_synthetic(folder, videos=CLIPS, seed=1, subset=SUBSET, video_format=lengths)
    return folder / "videos"
