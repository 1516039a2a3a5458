"""ModelSpec: numbers have ranges, and the tensors that a spec declares are those that its own numbers give."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.errors import SpecError
from runtime.spec.model import ModelSpec, spec_from_json
from tests.tiny import tiny_spec
from tests.tiny_backbone import backbone_spec, feature_model_spec

SPECS = {
    "afsd": tiny_spec(), "flow": tiny_spec("flow"), "a2net": feature_model_spec("a2net"),
    "features": feature_model_spec("afsd"), "i3d": backbone_spec(),
}  # fmt: skip
"""One spec of each kind."""


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_json_gives_the_spec_back(spec: ModelSpec) -> None:
    assert spec_from_json(spec.to_json(), "x.onnx") == spec


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("sample_fps", -10, r"sample_fps: got -10\.0, expected above 0, up to 100000 frames per second"),
        ("sample_fps", 1e9, "sample_fps: got"),
        ("sample_fps", float("nan"), "sample_fps: got nan, expected a finite number"),
        ("window_length", 10**9, "window_length: got 1000000000, expected 1 … 100000"),
        ("window_length", 10**30, "window_length: got 10+, expected 1 … 100000"),
        ("window_stride", 0, "window_stride: got 0"),
        ("window_stride", 17, "expected stride ≤ length"),
        ("frame_size.0", 60_000, r"frame_size\[0\]: got 60000, expected 0 … 16384 pixels"),
        ("crop_size.1", 0, "crop_size"),
        ("level_lengths.2", 0, r"level_lengths\[2\]: got 0"),
        ("multiply_adds", -1, "multiply_adds: got -1"),
        ("feature_streams", [-1], r"feature_streams\[0\]: got -1"),
        ("feature_resize", 0, "feature_resize: got 0"),
        ("schema", 0, "schema: got 0"),
        ("decoding.score_threshold", 2, r"score_threshold: got 2\.0, expected 0 … 1"),
        ("decoding.nms_sigma", 0, "nms_sigma: got 0.0, expected above 0"),
        ("decoding.nms_floor", -0.5, "nms_floor: got -0.5"),
        ("decoding.nms_top_k", 0, "nms_top_k: got 0"),
        ("decoding.fused_threshold", float("inf"), "fused_threshold: got inf"),
        ("inputs.0.shape.1", 10**12, r"shape\[1\]: got 1000000000000"),
        ("inputs.0.shape.1", 0, r"shape\[1\]: got 0"),
        ("inputs.0.shape.0", "windows", "the first axis is 'windows', expected 'batch' or a number"),
        ("inputs.0.shape", ["batch", 2**30, 2**30], "more than 8,589,934,592 elements a window"),
        ("inputs.0.shape.1", 17, r"input 'frames' is uint8 \['batch', 17, 8, 10, 3\], .* give uint8 \[batch, 16, 8,"),
        ("inputs.0.dtype", "float32", "input 'frames' is float32"),
        ("inputs.0.name", "lengths", "inputs are lengths, lengths, expected frames, lengths"),
        ("window_length", 32, r"input 'frames' is .* give uint8 \[batch, 32,"),
        ("crop_size", [8, 8], r"give uint8 \[batch, 16, 8, 8, 3\]"),
        ("stream", "flow", r"give uint8 \[batch, 16, 8, 10, 2\]"),
        ("classes", ["jump"], r"output 'conf' is .* give float32 \[batch, 7, 2\]"),
        ("classes", ["jump", "throw", "run"], r"output 'conf' is .* give float32 \[batch, 7, 4\]"),
        ("level_lengths", [4, 2], r"output 'loc' is .* give float32 \[batch, 6, 2\]"),
        ("outputs", [], "outputs are none, expected loc, conf, prop_loc, prop_conf, center of a afsd on rgb"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_or_against_the_tensors(keys: str, value: Any, message: str) -> None:
    with pytest.raises(SpecError, match=rf"x\.onnx: its ModelSpec does not fit: .*{message}"):
        spec_from_json(changed(tiny_spec(), keys, value), "x.onnx")


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("a2net.num_classes", 4, "classes are 2, a2net.num_classes says 4|output 'ab'"),
        ("a2net.level_lengths", [16, 8], "output|level_lengths are"),
        ("a2net.anchor_ratios.0.0", -1.0, "got -1.0"),
        ("a2net.offset_scale", float("inf"), "offset_scale: got inf"),
        ("a2net.point_levels", -1, "point_levels: got -1"),
        ("a2net_decoding.balance", 1.5, "balance: got 1.5"),
        ("a2net_decoding.background_limit", -1, "background_limit: got -1.0"),
        ("features.stride", 0, "stride: got 0.0"),
        ("features.every", 0, "every: got 0"),
        ("features.fps", 1e7, "fps: got"),
        ("inputs.0.shape.2", 17, r"give float32 \[batch, any, 16\]"),
    ],
)
def test_numbers_of_a_network_on_features(keys: str, value: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec_from_json(changed(feature_model_spec("a2net"), keys, value), "x.onnx")


def changed(spec: ModelSpec, keys: str, value: Any) -> str:
    """The spec's JSON with one entry set, named by its dotted path."""
    data: Any = json.loads(spec.to_json())
    *parents, last = keys.split(".")
    part = data
    for key in parents:
        part = part[_index(key)]
    part[_index(last)] = value
    return json.dumps(data)


def _index(key: str) -> Any:
    return int(key) if key.isdigit() else key
