"""INT8 in one step: symmetric ranges from the extremes of a few windows, for TensorRT.

What engines need to be built and timed. It chooses nothing by accuracy.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper

from export.precision import output_convolutions, precision_of, require_symmetric
from export.trace import seeded_inputs
from runtime.atomic import atomic_path
from runtime.console import told
from runtime.engines import open_engine
from runtime.errors import ExportError
from runtime.spec import METADATA_KEY, spec_from_json

Windows = Iterable[Mapping[str, NDArray[Any]]]


def quantize_min_max(source: Path, windows: Windows, out: Path) -> Path:
    """Quantise every convolution but the output heads: int8 inputs, int8 weights per channel, zero points 0.

    Args:
        source: float32 ONNX file of this project.
        windows: engine inputs by name, as in `runtime.engines.base.Engine.infer`; their extremes give the ranges.
        out: ONNX file with QuantizeLinear and DequantizeLinear nodes.

    Raises:
        ExportError: the file is not float32, or there are no windows.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    graph = onnx.load(source)
    if precision_of(graph) != "fp32":
        raise ExportError(f"{source}: is {precision_of(graph)}, expected a float32 ONNX file")
    reader = _Reader(windows)
    if not reader.waiting:
        raise ExportError(f"{source}: got no windows to measure ranges on, expected at least one")
    with tempfile.TemporaryDirectory(prefix="afsd-") as folder:
        made = Path(folder) / "quantised.onnx"
        level = logging.root.level
        logging.root.setLevel(logging.ERROR)  # it advises to preprocess, which export has done already
        try:
            quantize_static(
                str(source),
                str(made),
                reader,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=sorted(output_convolutions(graph)),
                extra_options={
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,
                    "OpTypesToExcludeOutputQuantization": ["Conv"],
                },
            )
        finally:
            logging.root.setLevel(level)
        model = onnx.load(made)
    spec = next(entry.value for entry in graph.metadata_props if entry.key == METADATA_KEY)
    helper.set_model_props(
        model, {METADATA_KEY: replace(spec_from_json(spec, str(source)), precision="int8").to_json()}
    )
    require_symmetric(model, str(out))
    with atomic_path(out) as unfinished:
        onnx.save(model, unfinished)
    return out


class _Reader:
    """Windows in the form ONNX Runtime's quantiser reads them; it asks for a `get_next` and nothing else."""

    def __init__(self, windows: Windows) -> None:
        self.waiting = [dict(window) for window in windows]

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return self.waiting.pop(0) if self.waiting else None


def main(arguments: list[str] | None = None) -> int:
    """`python -m calibration.quick MODEL.onnx -o MODEL.int8.onnx`: ranges of seeded windows, to build and time."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("source", type=Path, help="float32 ONNX file of this project")
    parser.add_argument("-o", "--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--windows", type=int, default=2, help="seeded windows to measure (default: %(default)s)")
    given = parser.parse_args(arguments)

    def quantise() -> Path:
        spec = open_engine(given.source).spec
        return quantize_min_max(given.source, [seeded_inputs(spec, k, 1) for k in range(given.windows)], given.out)

    return told(quantise)


if __name__ == "__main__":
    sys.exit(main())
