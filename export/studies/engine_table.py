"""Build TensorRT-RTX engines of one network for several GPUs in every precision, without a GPU: `make engines`.

Each engine is built in a process of its own, so that its peak memory can be measured. The table gives build time, size
of the engine, peak memory, and the precision of the convolutions as the builder reports it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from export.studies.full_size import export_full_size
from export.trt.library import parse_architectures
from runtime.common.console import run_script
from runtime.common.files import read_json
from runtime.common.sizes import file_size
from runtime.common.tables import align
from runtime.errors import ExportError
from training.synthetic.videos import make_synthetic

CALIBRATED = 2
"""Number of synthetic videos and of clips for calibrating int8: enough for builds and timing, not for accuracy."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def build_engine_table(path: Path, out: Path, architectures: tuple[str, ...]) -> str:
    """Build all engines and return the table; typed ONNX files, engines and their reports stay in `out`.

    Args:
        path: float32 ONNX file.
        out: folder.
        architectures: compute capabilities, as in "8.6".

    Raises:
        ExportError: a build failed; the message contains the build's own.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = [["GPU", "precision", "build", "engine", "peak memory", "convolutions in it", "others"]]
    for precision in PRECISIONS:
        typed = write_typed_file(path, precision, out)
        for architecture in architectures:
            name = f"SM{architecture.replace('.', '')}"
            engine = out / f"{path.stem}.{precision}.{name.lower()}.engine"
            target = ("--to", "tensorrt", "--library", "tensorrt-rtx", "--sm", name, "--precision", precision)
            run_afsd("export", str(typed), *target, "-o", str(engine))
            report = read_json(engine.with_name(f"{engine.name}.report.json"), "report of a build", ExportError)
            rows.append([name, precision, *_cells(report)])
            print("  ".join(rows[-1]), file=sys.stderr)
    return align(rows)


def write_typed_file(path: Path, precision: str, out: Path) -> Path:
    """Write an ONNX file's network in a precision into `out` with the `afsd` commands; float32 is returned as it is."""
    if precision == "fp32":
        return path
    typed = out / f"{path.stem}.{precision}.onnx"
    if precision == "int8":
        videos = out / "videos"
        if not videos.is_dir():
            make_synthetic(out, videos=CALIBRATED, seed=1, subset="training")
        clips = ("--videos", str(videos), "--clips", str(CALIBRATED))
        run_afsd("calibrate", str(path), "--target", "tensorrt", *clips, "-o", str(typed))
    else:
        run_afsd("export", str(path), "--precision", precision, "-o", str(typed))
    return typed


def _cells(report: dict[str, Any]) -> list[str]:
    found = report["convolutions"]
    asked = found["by_precision"].get(found["asked"], 0)
    heads = sum("output head" in text for text in found["others"])
    others = len(found["others"]) - heads + len(found["unseen"])
    kept = f"{heads} output heads in fp32" if heads else "none"
    return [
        f"{report['seconds']:.1f} s",
        file_size(report["bytes"]),
        f"{report['peak_memory_mib']:,} MiB",
        f"{asked} of {found['total']}",
        f"{kept}, {others} NOT AS ASKED" if others else kept,
    ]


def run_afsd(*arguments: str) -> None:
    """Run an `afsd` command in a process of its own (ExportError: it failed; the message ends with its last line)."""
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
    network = given.source or export_full_size("thumos14", given.out, openvino=False).with_suffix(".onnx")
    sys.exit(run_script(lambda: build_engine_table(network, given.out, parse_architectures(given.sm))))
