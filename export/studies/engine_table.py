"""TensorRT-RTX engines of one network for several GPUs in every precision, without a GPU: `make engines`.

Each engine is built by a process of its own, so that its memory is its own. The table says how long that took, how
large the engine and the memory were, and what the convolutions compute in, as the builder reports it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from export.studies.full_size import full_size
from export.trt.library import parse_architectures
from runtime.common.console import run_script
from runtime.common.files import read_json
from runtime.common.tables import align
from runtime.errors import ExportError
from training.synthetic.videos import make_synthetic

CALIBRATED = 2
"""Synthetic videos, and clips, that int8 is calibrated on: enough to build and time with."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def engine_table(source: Path, out: Path, architectures: tuple[str, ...]) -> str:
    """Build them all and give the table; typed ONNX files, engines and their reports stay in `out`.

    Args:
        source: float32 ONNX file.
        out: folder.
        architectures: compute capabilities, as in "8.6".

    Raises:
        ExportError: a build failed; its own message is in it.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = [["GPU", "precision", "build", "engine", "peak memory", "convolutions in it", "others"]]
    for precision in PRECISIONS:
        typed = typed_file(source, precision, out)
        for architecture in architectures:
            name = f"SM{architecture.replace('.', '')}"
            engine = out / f"{source.stem}.{precision}.{name.lower()}.engine"
            target = ("--to", "tensorrt", "--library", "tensorrt-rtx", "--sm", name, "--precision", precision)
            _run("export", str(typed), *target, "-o", str(engine))
            report = read_json(engine.with_name(f"{engine.name}.report.json"), "report of a build", ExportError)
            rows.append([name, precision, *_cells(report)])
            print("  ".join(rows[-1]), file=sys.stderr)
    return align(rows)


def typed_file(source: Path, precision: str, out: Path) -> Path:
    """The network in a precision, as an ONNX file in `out`; made by the commands a user has."""
    if precision == "fp32":
        return source
    typed = out / f"{source.stem}.{precision}.onnx"
    if precision == "int8":
        videos = out / "videos"
        if not videos.is_dir():
            make_synthetic(out, videos=CALIBRATED, seed=1, subset="training")
        clips = ("--videos", str(videos), "--clips", str(CALIBRATED))
        _run("calibrate", str(source), "--target", "tensorrt", *clips, "-o", str(typed))
    else:
        _run("export", str(source), "--precision", precision, "-o", str(typed))
    return typed


def _cells(report: dict[str, Any]) -> list[str]:
    found = report["convolutions"]
    asked = found["by_precision"].get(found["asked"], 0)
    heads = sum("output head" in text for text in found["others"])
    others = len(found["others"]) - heads + len(found["unseen"])
    kept = f"{heads} output heads in fp32" if heads else "none"
    return [
        f"{report['seconds']:.1f} s",
        f"{report['bytes'] / 1e6:.0f} MB",
        f"{report['peak_memory_mib']:,} MiB",
        f"{asked} of {found['total']}",
        f"{kept}, {others} NOT AS ASKED" if others else kept,
    ]


def _run(*arguments: str) -> None:
    command = [sys.executable, "-m", "runtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExportError(f"{' '.join(arguments)}: {done.stderr.strip().splitlines()[-1] if done.stderr else 'failed'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, help="float32 ONNX file (default: the full-size network, untrained)")
    parser.add_argument("--sm", default="86,89,120", help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    network = given.source or full_size("thumos14", given.out, openvino=False).with_suffix(".onnx")
    sys.exit(run_script(lambda: engine_table(network, given.out, parse_architectures(given.sm))))
