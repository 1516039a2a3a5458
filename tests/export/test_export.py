"""Artifacts: contract of inputs and outputs, numbers, and nothing written when something is wrong."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import export.comparison.parity
from export.boundary_pooling.function import DOMAIN, NAME
from export.comparison.parity import compare
from export.graph.trace import seeded_inputs
from export.own_files import require_own_files
from export.to_onnx import export_onnx
from runtime.cli import main
from runtime.engines import open_engine
from runtime.engines.artifact import require_own_engine
from runtime.errors import CheckpointError, ExportError, InputError
from tests.conftest import Exported
from tests.old_artifacts import write_old_openvino
from tests.tiny import write_tiny_onnx
from training.deployment.views import open_torch_engine


def test_the_file_keeps_the_contract(exported: Exported) -> None:
    model = onnx.load(exported.onnx)
    types = {v.name: v.type.tensor_type for v in (*model.graph.input, *model.graph.output)}
    shapes = {k: (t.elem_type, [d.dim_param or d.dim_value for d in t.shape.dim]) for k, t in types.items()}
    assert shapes == {
        "frames": (onnx.TensorProto.UINT8, ["batch", 32, 32, 32, 3]),
        "lengths": (onnx.TensorProto.INT32, ["batch"]),
        "loc": (onnx.TensorProto.FLOAT, ["batch", 14, 2]),
        "conf": (onnx.TensorProto.FLOAT, ["batch", 14, 3]),
        "prop_loc": (onnx.TensorProto.FLOAT, ["batch", 14, 2]),
        "prop_conf": (onnx.TensorProto.FLOAT, ["batch", 14, 3]),
        "center": (onnx.TensorProto.FLOAT, ["batch", 14, 1]),
    }
    nodes = [node for node in model.graph.node if node.op_type == NAME]
    assert len(nodes) == 3 * 2 + 1  # both branches on every level, and the frame-level feature once for both
    for node in nodes:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert (node.domain, attributes) == (DOMAIN, {"plugin_namespace": b"afsd", "plugin_version": b"1", "aot": 1})
    assert [(f.domain, f.name) for f in model.functions] == [(DOMAIN, NAME)]


def test_pads_and_batch_norms_are_folded(exported: Exported) -> None:
    kinds = {node.op_type for node in onnx.load(exported.onnx).graph.node}
    assert not kinds & {"Pad", "BatchNormalization"}
    for node in onnx.load(exported.onnx).graph.node:
        if node.op_type == "MaxPool":
            assert not any(a.name == "ceil_mode" and a.i for a in node.attribute)


def test_no_path_of_the_author_is_in_the_file(exported: Exported) -> None:
    assert not re.search(rb"/[\w/.-]+\.py\b", exported.onnx.read_bytes())


@pytest.mark.parametrize("file", ["onnx", "openvino"])
@pytest.mark.parametrize("batch", [1, 3])
def test_engines_say_what_pytorch_says(exported: Exported, file: str, batch: int) -> None:
    reference, engine = open_torch_engine(exported.checkpoint), open_engine(getattr(exported, file))
    inputs = seeded_inputs(reference.spec, seed=77, batch=batch)
    expected, found = reference.infer(inputs), engine.infer(inputs)
    for name in ("loc", "conf"):
        assert np.abs(expected[name] - found[name]).max() <= 1e-4 * np.abs(expected[name]).max()
    assert engine.spec.classes == ("a", "b")
    assert engine.spec.checkpoint_sha256
    assert engine.spec.multiply_adds > 0


def test_padding_after_the_valid_frames_is_ignored(exported: Exported) -> None:
    engine = open_engine(exported.onnx)
    inputs = seeded_inputs(engine.spec, seed=1, batch=1)
    other = inputs["frames"].copy()
    other[0, int(inputs["lengths"][0]) :] = 255
    first, second = engine.infer(inputs), engine.infer({**inputs, "frames": other})
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_report_is_printed_and_stored(exported: Exported) -> None:
    assert "parity of onnxruntime" in exported.said
    assert "parity of openvino" in exported.said
    for file in (exported.onnx, exported.openvino):
        report = json.loads(file.with_suffix(f"{file.suffix}.parity.json").read_text())
        assert report["passed"]
        assert {o["name"] for o in report["outputs"]} == {"loc", "conf", "prop_loc", "prop_conf", "center"}


def test_beyond_tolerance_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network, out = write_tiny_onnx(tmp_path / "tiny.onnx", None), tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(export.comparison.parity, "COARSE_TOLERANCE", -1.0)  # nothing is near enough
    assert main(["export", str(network), "--to", "openvino", "-o", str(out / "model.xml")]) == 2
    assert re.search(r"differs from .* nothing was written", capsys.readouterr().err)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("suffix", [".parity.json", ".drift.json", ".report.json"])
def test_a_report_of_others_is_not_written_over(suffix: str, tmp_path: Path) -> None:
    for content, refused in (('{"mine": 1}', True), ("", False)):
        (tmp_path / f"m.onnx{suffix}").write_text(content)
        with pytest.raises(InputError, match="-o") if refused else nullcontext():
            require_own_files(tmp_path / "m.onnx")


def test_own_reports_are_written_over(exported: Exported) -> None:
    for model in (exported.onnx, exported.openvino):
        assert model.with_name(f"{model.name}.parity.json").is_file()
        require_own_files(model)


@pytest.mark.slow
def test_a_file_of_others_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Annotations beside a network of the same name, in the place of the sidecar; and an XML file of another kind."""
    network = write_tiny_onnx(tmp_path / "mine.onnx", None)
    for name, target, message in (
        ("mine.json", "mine.xml", "mine.json: is there already and no sidecar of an engine, so it is not written over"),
        ("boxes.xml", "boxes.xml", "boxes.xml: is there already and no model of this project"),
        ("other.onnx", "other.onnx", "other.onnx: is there already and no model of this project"),
    ):
        (tmp_path / name).write_text('{"database": {}}')
        to = "onnx" if target.endswith(".onnx") else "openvino"
        assert main(["export", str(network), "--to", to, "-o", str(tmp_path / target)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
        assert (tmp_path / name).read_text() == '{"database": {}}'
    for _ in range(2):
        assert main(["export", str(network), "--to", "openvino", "-o", str(tmp_path / "again.xml")]) == 0
    write_old_openvino(tmp_path / "old.xml")
    with pytest.raises(ExportError, match=r"old\.json: is the sidecar of old\.xml, old\.bin, so it is not"):
        require_own_engine(tmp_path / "old.engine")
    assert main(["export", str(network), "--to", "openvino", "-o", str(tmp_path / "old.xml")]) == 0
    assert not (tmp_path / "old.json").exists()  # its content is in the .xml now


def test_a_moved_location_is_counted_and_many_fail(exported: Exported) -> None:
    reference = open_torch_engine(exported.checkpoint)

    class Shifted:
        """The same engine with some refined locations changed."""

        spec, library, device, precision = reference.spec, "shifted", "cpu", "fp32"

        def __init__(self, count: int) -> None:
            self.count = count

        def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
            outputs = {k: v.copy() for k, v in reference.infer(inputs).items()}
            outputs["prop_loc"][0, : self.count] += 10
            return outputs

        def close(self) -> None:
            """Nothing to release."""

    few, many = compare(reference, Shifted(0)), compare(reference, Shifted(5))  # type: ignore[arg-type]
    assert few.passed
    assert not many.passed
    assert next(o.moved for o in many.outputs if o.name == "prop_loc") == 15


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [("model.txt", ExportError, "ending in .onnx"), ("model.onnx", CheckpointError, "file not found")],
)
def test_wrong_names(name: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        export_onnx(tmp_path / "missing.ckpt" if name == "model.onnx" else _some_checkpoint(tmp_path), tmp_path / name)


def test_a_spec_of_another_network_does_not_fit(exported: Exported, tmp_path: Path) -> None:
    model = onnx.load(exported.onnx)
    spec = open_engine(exported.onnx).spec
    frames = replace(spec.inputs[0], shape=("batch", 64, 32, 32, 3))
    wrong = replace(spec, window_length=64, inputs=(frames, spec.inputs[1]))
    onnx.helper.set_model_props(model, {"model_spec": wrong.to_json()})
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(Exception, match=r"wrong\.onnx.*64"):
        open_engine(tmp_path / "wrong.onnx", verify=False)


def _some_checkpoint(folder: Path) -> Path:
    from tests.training.small import CLASSES, small_config
    from training.afsd.network import AFSD
    from training.checkpoints.files import Checkpoint, save_checkpoint

    config = small_config()
    save_checkpoint(Checkpoint(dict(AFSD(config.model).state_dict()), config, CLASSES), folder / "some.ckpt")
    return folder / "some.ckpt"
