"""Networks on features as ONNX and OpenVINO files: contract, numbers, and the way from features to detections."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.graph.trace import seeded_inputs
from export.to_onnx import export_onnx
from export.to_openvino import export_openvino
from runtime.detector import Detector, DetectorOptions
from runtime.engines import open_engine
from tests.conftest import FeatureModel
from tests.training.feature_data import CLASSES, FAMILIES, SAMPLING, WIDTH, make_feature_set, small_feature_config
from training.deployment.views import open_torch_engine
from training.run import train

OUTPUTS = {
    "gtea": {"loc": (28, 2), "conf": (28, 3), "prop_loc": (28, 2), "prop_conf": (28, 3), "center": (28, 1)},
    "a2net_gtea": {"af_cls": (28, 3), "af_reg": (28, 2), "ab": (140, 6)},
    "two_stage_gtea": {"proposals": (12, 2), "prop_score": (12, 1), "cls": (12, 3), "reg": (12, 2)},
}
"""28 locations, or points, of levels of 16, 8 and 4; five anchors on each cell. 12 proposals."""

SINGLE = {"anchor-free": {"af_cls", "af_reg"}, "anchor-based": {"ab"}}


MARKS = dict.fromkeys(("gtea", "two_stage_gtea"), pytest.mark.slow)  # traced for a quarter of a minute, or more


@pytest.fixture(scope="module", params=[pytest.param(name, marks=MARKS.get(name, ())) for name in OUTPUTS])
def network(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(network: str, feature_model: Callable[[str], FeatureModel]) -> FeatureModel:
    """Exported; the parity report judged the numbers before the file got its name."""
    return feature_model(network)


def test_the_file_keeps_the_contract(network: str, model: FeatureModel) -> None:
    graph = onnx.load(model.onnx).graph
    types = {v.name: v.type.tensor_type for v in (*graph.input, *graph.output)}
    shapes = {k: (t.elem_type, [d.dim_param or d.dim_value for d in t.shape.dim]) for k, t in types.items()}
    assert shapes == {
        "features": (onnx.TensorProto.FLOAT, ["batch", WIDTH, 32]),
        "lengths": (onnx.TensorProto.INT32, ["batch"]),
        **{name: (onnx.TensorProto.FLOAT, ["batch", *shape]) for name, shape in OUTPUTS[network].items()},
    }
    engine = open_engine(model.onnx)
    assert (engine.spec.classes, engine.spec.features) == (CLASSES, SAMPLING)
    assert engine.spec.family == FAMILIES[network]


def test_steps_behind_the_length_are_not_seen(model: FeatureModel) -> None:
    engine = open_engine(model.onnx)
    inputs = seeded_inputs(engine.spec, 5, 2)
    masked = {**inputs, "features": inputs["features"].copy()}
    masked["features"][1, :, inputs["lengths"][1] :] = 9.0
    for name, value in engine.infer(inputs).items():
        np.testing.assert_array_equal(engine.infer(masked)[name], value)
    masked["features"][1, :, 0] = 9.0
    assert any(not np.array_equal(value, engine.infer(masked)[name]) for name, value in engine.infer(inputs).items())


@pytest.mark.parametrize("nms", ["local", "reference"])
def test_detections_are_those_of_pytorch(model: FeatureModel, nms: str) -> None:
    options = DetectorOptions(nms=nms, batch_size=2, min_score=0.05)  # type: ignore[arg-type]
    engines = (open_torch_engine(model.checkpoint), open_engine(model.onnx))
    torch, onnx_runtime = (
        Detector(engine, options=options).run(model.root / "rgb" / "b1.npy", fps=20) for engine in engines
    )
    assert len(torch) == len(onnx_runtime) > 0
    order = [np.lexsort((*np.round(found.segments, 2).T, found.labels)) for found in (torch, onnx_runtime)]
    np.testing.assert_allclose(onnx_runtime.segments[order[1]], torch.segments[order[0]], atol=2e-2)
    np.testing.assert_allclose(onnx_runtime.scores[order[1]], torch.scores[order[0]], atol=1e-3)


def test_openvino_says_the_same(model: FeatureModel, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    artifact = export_openvino(model.onnx, tmp_path / "model.xml")  # compares the numbers
    assert open_engine(artifact).spec.features == SAMPLING


@pytest.mark.thorough
@pytest.mark.parametrize("modules", ["anchor-free", "anchor-based"])
def test_a_network_of_one_module_has_its_outputs_alone(modules: str, tmp_path: Path) -> None:
    root = make_feature_set(tmp_path / "set")
    config = small_feature_config("a2net_gtea", root, "run.max_steps=1", f"a2net.modules={modules}")
    exported = export_onnx(train(config, tmp_path / "run"))
    assert {output.name for output in onnx.load(exported).graph.output} == SINGLE[modules]
    found = Detector(exported).run(root / "rgb" / "b0.npy", fps=20)
    assert len(found) > 0


def test_detecting_needs_no_torch(model: FeatureModel) -> None:
    script = (
        "import sys; from runtime import Detector; "
        f"Detector({str(model.onnx)!r}).run({str(model.root / 'rgb' / 'b0.npy')!r}, fps=20); "
        "print(sorted({'torch', 'onnx', 'training'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
