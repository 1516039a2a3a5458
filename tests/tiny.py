"""A network of a few hundred weights that keeps the contract of an AFSD frame model: as numpy, and as an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.engines.openvino.xml import write_xml_entries
from runtime.engines.seal import ONNX_SEAL, write_seal
from runtime.spec.decoding_constants import Decoding
from runtime.spec.model import METADATA_KEY, ModelSpec
from runtime.spec.tensors import TensorSpec

LEVELS = (4, 2, 1)
LENGTH = 16
STRIDE = 8
CROP = (8, 10)
OUTPUT_WIDTHS = {"loc": 2, "conf": 3, "prop_loc": 2, "prop_conf": 3, "center": 1}
"""Last axis of each output: 2 classes and the background."""


def tiny_spec(stream: str = "rgb", batch: int | str = "batch", **changes: Any) -> ModelSpec:
    """Spec of the tiny model: windows of 16 frames every 8 at 10 fps, frames 12×14 cropped to 8×10, classes a and b."""
    facts: dict[str, Any] = {
        "family": "afsd", "stream": stream, "classes": ("jump", "throw"), "sample_fps": 10.0, "window_length": LENGTH,
        "window_stride": STRIDE, "frame_size": (12, 14), "crop_size": CROP, "level_lengths": LEVELS,
    }  # fmt: skip
    facts |= changes
    frames = (batch, facts["window_length"], *facts["crop_size"], 2 if stream == "flow" else 3)
    inputs = TensorSpec("frames", frames, "uint8"), TensorSpec("lengths", (batch,), "int32")
    locations, classes = sum(facts["level_lengths"]), len(facts["classes"]) + 1
    widths = {name: classes if width == 3 else width for name, width in OUTPUT_WIDTHS.items()}
    outputs = tuple(TensorSpec(name, (batch, locations, k), "float32") for name, k in widths.items())
    return ModelSpec(**{"inputs": inputs, "outputs": outputs} | facts)


def weights() -> dict[str, NDArray[np.float32]]:
    """One matrix [T, N·K] per output."""
    rng = np.random.default_rng(7)
    n = sum(LEVELS)
    return {name: rng.normal(0, 1.2, (LENGTH, n * k)).astype(np.float32) for name, k in OUTPUT_WIDTHS.items()}


def forward(frames: NDArray[np.uint8], lengths: NDArray[np.int32]) -> dict[str, NDArray[np.float32]]:
    """The tiny network: the mean level of each frame around mid grey, times lengths/T, times a matrix per output.

    Sums are of float64 and rounded once: BLAS adds a batch of one and a batch of two in different orders on some
    processors, and a clip must give the same numbers in either.
    """
    means = frames.mean(axis=(2, 3, 4), dtype=np.float64) / 64 - 2
    scaled = means * (lengths / LENGTH)[:, None]
    shape = (len(frames), sum(LEVELS))
    sums = {name: (scaled @ w).reshape(*shape, OUTPUT_WIDTHS[name]) for name, w in weights().items()}
    outputs = {name: value.astype(np.float32) for name, value in sums.items()}
    outputs["loc"] = np.abs(outputs["loc"])
    return outputs


class TinyEngine:
    """The tiny network behind the engine protocol; keeps the sizes of the batches it was given."""

    library = "numpy"
    device = "cpu"
    precision = "fp32"

    def __init__(self, spec: ModelSpec | None = None) -> None:
        self.spec = tiny_spec() if spec is None else spec
        self.batches: list[int] = []
        self.closed = False

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        self.batches.append(len(inputs["frames"]))
        return forward(inputs["frames"], inputs["lengths"])

    def close(self) -> None:
        self.closed = True


ACTIVITYNET = Decoding(
    score_threshold=1e-9, nms_sigma=0.85, nms_floor=1e-9, fusion="geometric", fused_threshold=0.0, fused_floor=1e-18
)
"""The published test code's."""


class ProposalEngine(TinyEngine):
    """The tiny network with one class beside the background, "action"."""

    def __init__(self, stream: str = "rgb") -> None:
        super().__init__(tiny_spec(stream, classes=("action",), sampling="whole_video", decoding=ACTIVITYNET))

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        self.seen: tuple[NDArray[Any], NDArray[Any]] = inputs["frames"], inputs["lengths"]
        return one_class(super().infer(inputs))


def one_class(outputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The tiny network's outputs with the second class left out."""
    return {name: value[..., :2] if OUTPUT_WIDTHS[name] == 3 else value for name, value in outputs.items()}


def open_tiny_engine(path: Path, device: str) -> TinyEngine:
    """The tiny engine as another package would bring it."""
    engine = TinyEngine()
    engine.device = device
    return engine


def write_tiny_onnx(
    path: Path, spec: ModelSpec | None, metadata: Mapping[str, str] | None = None, sealed: bool = True
) -> Path:
    """Write the tiny network with its ModelSpec (or other metadata) as an ONNX file; skip where onnx is missing."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    declared = tiny_spec() if spec is None else spec
    kinds = {"uint8": TensorProto.UINT8, "int32": TensorProto.INT32, "float32": TensorProto.FLOAT}
    constants = {
        "axes": np.array([2, 3, 4]), "one": np.array([1]), "grey": np.float32(64), "two": np.float32(2),
        "length": np.float32(LENGTH),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["frames"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "grey"], ["level"]),
        helper.make_node("Sub", ["level", "two"], ["means"]),
        helper.make_node("Cast", ["lengths"], ["valid"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["valid", "length"], ["share"]),
        helper.make_node("Unsqueeze", ["share", "one"], ["column"]),
        helper.make_node("Mul", ["means", "column"], ["scaled"]),
    ]
    for name, matrix in weights().items():
        constants |= {f"{name}_w": matrix, f"{name}_s": np.array([-1, sum(LEVELS), OUTPUT_WIDTHS[name]])}
        nodes.append(helper.make_node("MatMul", ["scaled", f"{name}_w"], [f"{name}_flat"]))
        raw = f"{name}_raw" if name == "loc" else name
        nodes.append(helper.make_node("Reshape", [f"{name}_flat", f"{name}_s"], [raw]))
    nodes.append(helper.make_node("Abs", ["loc_raw"], ["loc"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(t.name, kinds[t.dtype], list(t.shape)) for t in declared.inputs],
        [helper.make_tensor_value_info(t.name, kinds[t.dtype], list(t.shape)) for t in declared.outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    stored = {METADATA_KEY: declared.to_json()} if metadata is None else dict(metadata)
    helper.set_model_props(model, stored)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    if sealed:
        write_seal(path, ONNX_SEAL)
    return path


_converted: dict[str, list[bytes]] = {}
"""What OpenVINO made of the tiny network, by its spec: converting takes a second."""


def write_tiny_openvino(path: Path, spec: ModelSpec | None = None) -> Path:
    """Write the tiny network as .xml and .bin; skip where openvino is missing."""
    openvino = pytest.importorskip("openvino")
    files = [path, path.with_suffix(".bin")]
    if repr(spec) not in _converted:
        source = write_tiny_onnx(path.with_suffix(".source.onnx"), spec)
        model = openvino.convert_model(str(source))
        openvino.save_model(model, str(path), compress_to_fp16=False)
        source.unlink()
        _converted[repr(spec)] = [file.read_bytes() for file in files]
    for file, content in zip(files, _converted[repr(spec)], strict=True):
        file.write_bytes(content)
    write_xml_entries(path, tiny_spec() if spec is None else spec)
    return path
