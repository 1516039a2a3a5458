"""A backbone and models on features of a few hundred weights: as numpy, and the backbone as an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.engines.seal import ONNX_SEAL, write_seal
from runtime.spec.anchors import A2NetLayout
from runtime.spec.decoding_constants import A2NetDecoding
from runtime.spec.model import METADATA_KEY, ModelSpec
from runtime.spec.tensors import TensorSpec
from runtime.spec.time_axis import FeatureSampling

SNIPPET, STRIDE = 8, 4
SIZE = (12, 14)
SAMPLING = FeatureSampling(stride=STRIDE, window=SNIPPET)
WIDTHS = {"rgb": 3, "flow": 2}
"""Channels of the features of each stream."""

WINDOW, WINDOW_STRIDE = 16, 8
"""Steps of the models on features."""
LAYOUT = A2NetLayout(level_lengths=(8, 4), anchor_ratios=((1.0,), (1.0,)), point_levels=2, num_classes=3)


def backbone_spec(stream: str = "rgb", batch: int | str = "batch", **changes: Any) -> ModelSpec:
    """Snippets of 8 frames of 12×14 every 4; a source without a rate has 20 frames per second."""
    channels = 2 if stream == "flow" else 3
    spec = ModelSpec(
        family="i3d",
        stream="flow" if stream == "flow" else "rgb",
        classes=(),
        sample_fps=20.0,
        window_length=SNIPPET,
        window_stride=STRIDE,
        frame_size=SIZE,
        crop_size=SIZE,
        level_lengths=(),
        inputs=(TensorSpec("frames", (batch, SNIPPET, *SIZE, channels), "uint8"),),
        outputs=(TensorSpec("features", (batch, WIDTHS[stream]), "float32"),),
        sampling="every_frame",
        checkpoint_sha256=f"of {stream}",
    )
    return replace(spec, **changes)


def backbone_weights(stream: str) -> NDArray[np.float32]:
    """[8,C]: each frame of a snippet counts otherwise."""
    return np.random.default_rng(WIDTHS[stream]).normal(0, 1, (SNIPPET, WIDTHS[stream])).astype(np.float32)


def snippet_features(frames: NDArray[np.uint8], stream: str) -> NDArray[np.float32]:
    """Features [B,C] of snippets [B,8,H,W,c]: the mean level of each frame around mid grey, times a matrix."""
    means = frames.astype(np.float32).mean(axis=(2, 3, 4)) / np.float32(64) - np.float32(2)
    # One after the other: a product of matrices rounds otherwise with another number of rows.
    return np.stack([mean @ backbone_weights(stream) for mean in means])


class TinyBackbone:
    """The tiny backbone behind the engine protocol; keeps the sizes of the batches it was given."""

    library, device, precision = "numpy", "cpu", "fp32"

    def __init__(self, stream: str = "rgb", **changes: Any) -> None:
        self.spec = backbone_spec(stream, **changes)
        self.batches: list[int] = []
        self.closed = False

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        self.batches.append(len(inputs["frames"]))
        return {"features": snippet_features(inputs["frames"], self.spec.stream)}

    def close(self) -> None:
        self.closed = True


def feature_model_spec(family: str, width: int = 3, batch: int | str = "batch", **changes: Any) -> ModelSpec:
    """Windows of 16 steps every 8, classes a and b."""
    widths = {"loc": (12, 2), "conf": (12, 3), "prop_loc": (12, 2), "prop_conf": (12, 3), "center": (12, 1)}
    if family == "a2net":
        widths = {"af_cls": (12, 3), "af_reg": (12, 2), "ab": (12, 6)}
    spec = ModelSpec(
        family="a2net" if family == "a2net" else "afsd",
        stream="features",
        classes=("a", "b"),
        sample_fps=5.0,
        window_length=WINDOW,
        window_stride=WINDOW_STRIDE,
        frame_size=(0, 0),
        crop_size=(0, 0),
        level_lengths=LAYOUT.level_lengths,
        inputs=(
            TensorSpec("features", (batch, width, WINDOW), "float32"),
            TensorSpec("lengths", (batch,), "int32"),
        ),
        outputs=tuple(TensorSpec(name, (batch, *shape), "float32") for name, shape in widths.items()),
        features=SAMPLING,
        a2net=LAYOUT if family == "a2net" else None,
        a2net_decoding=A2NetDecoding() if family == "a2net" else None,
    )
    return replace(spec, **changes)


class MixingModel:
    """A model on features each of whose outputs depends on every feature of the window, and on its length."""

    library, device, precision = "numpy", "cpu", "fp32"

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.closed = False

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        rng = np.random.default_rng(3)
        outputs = {}
        for tensor in self.spec.outputs:
            locations, values = map(int, tensor.shape[1:])
            mix = rng.normal(0, 0.3, (inputs["features"][0].size, locations * values)).astype(np.float32)
            rows = [window.ravel() @ mix for window in inputs["features"]]
            shares = (inputs["lengths"] / np.float32(WINDOW))[:, None, None]
            outputs[tensor.name] = np.stack(rows).reshape(-1, locations, values) * shares.astype(np.float32)
        for name in outputs.keys() & {"loc", "af_reg"}:
            outputs[name] = np.abs(outputs[name])
        return outputs

    def close(self) -> None:
        self.closed = True


def write_tiny_backbone(path: Path, stream: str = "rgb", **changes: Any) -> Path:
    """Write the tiny backbone as an ONNX file; skip where onnx is missing."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    spec = backbone_spec(stream, **changes)
    nodes = [
        helper.make_node("Cast", ["frames"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "grey"], ["level"]),
        helper.make_node("Sub", ["level", "two"], ["means"]),
        helper.make_node("MatMul", ["means", "weights"], ["features"]),
    ]
    constants = {
        "axes": np.array([2, 3, 4]), "grey": np.float32(64), "two": np.float32(2), "weights": backbone_weights(stream)
    }  # fmt: skip
    (frames,), (features,) = spec.inputs, spec.outputs
    graph = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, list(frames.shape))],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, list(features.shape))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    write_seal(path, ONNX_SEAL)
    return path
