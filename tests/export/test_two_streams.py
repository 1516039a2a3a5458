"""Two checkpoints as one file: its contract, its numbers, and that the detector drives it as it drives two engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from export.graph.trace import seeded_inputs
from export.two_streams import TwoStreamNetwork, export_fused
from runtime.cli import main
from runtime.detector import Detector, DetectorOptions
from runtime.engines import Engine, open_engine
from runtime.errors import ExportError, InputError
from runtime.results.detections import Detections
from runtime.spec.model import fuse_specs
from runtime.two_streams import TwoStreamEngine
from tests.conftest import MadeOnce
from tests.training.small import CLASSES, save_small, small_config
from training.afsd.network import AFSD
from training.deployment.views import open_torch_engine

FLOW = ("model.stream=flow", "data.frames=flow", "model.stem=random")


def save(path: Path, seed: int, *overrides: str) -> Path:
    """A small network with random weights."""
    torch.manual_seed(seed)
    return save_small(path, *overrides)


@pytest.fixture(scope="module")
def exported(made_once: MadeOnce) -> Callable[[str, str], tuple[Path, Path, Path]]:
    """Maker of (rgb checkpoint, flow checkpoint, fused file) of a kind of fusion and a target; each is made once."""

    def make(fusion: str, to: str) -> tuple[Path, Path, Path]:
        def fill(folder: Path) -> None:
            rgb = save(folder / "rgb.ckpt", 0, f"decoding.fusion={fusion}")
            flow = save(folder / "flow.ckpt", 1, f"decoding.fusion={fusion}", *FLOW)
            assert main(["export", str(rgb), "--flow", str(flow), "--to", to]) == 0

        folder = made_once(f"fused-{fusion}-{to}", fill)
        return folder / "rgb.ckpt", folder / "flow.ckpt", folder / f"rgb_fused{'.onnx' if to == 'onnx' else '.xml'}"

    return make


Make = Callable[[str, str], tuple[Path, Path, Path]]
CASES = pytest.mark.parametrize(("fusion", "to"), [("mean", "onnx"), ("geometric", "openvino")])


def pair(rgb: Path, flow: Path) -> Engine:
    return TwoStreamEngine(open_torch_engine(rgb), open_torch_engine(flow))


@pytest.mark.slow  # tracing two networks takes most of a minute
@CASES
def test_one_file_says_what_two_networks_say(exported: Make, fusion: str, to: str) -> None:
    rgb, flow, fused = exported(fusion, to)
    reference, engine = pair(rgb, flow), open_engine(fused)
    inputs = seeded_inputs(reference.spec, seed=9, batch=3)
    assert list(inputs) == ["frames", "flow", "lengths"]
    expected, found = reference.infer(inputs), engine.infer(inputs)
    for name, value in expected.items():
        error = np.abs(value - found[name]).max(axis=-1)
        assert (error > 1e-3 * max(np.abs(value).max(), 1e-6)).mean() <= 0.05, name
    assert found["prop_loc"].any() == (fusion == "mean")
    report = json.loads(fused.with_suffix(f"{fused.suffix}.parity.json").read_text())
    assert report["passed"]
    assert {o["name"]: o["coarse"] for o in report["outputs"]}["loc"] == (fusion == "mean")


@pytest.mark.slow  # tracing two networks takes most of a minute
@CASES
def test_the_file_describes_both(exported: Make, fusion: str, to: str) -> None:
    rgb, flow, fused = exported(fusion, to)
    spec = open_engine(fused).spec
    both = [open_torch_engine(path).spec for path in (rgb, flow)]
    assert spec.stream == "rgb+flow"
    assert spec.decoding.fusion == fusion
    assert [(t.name, t.shape[-1]) for t in spec.inputs[:2]] == [("frames", 3), ("flow", 2)]
    assert spec.multiply_adds == sum(one.multiply_adds for one in both) > 0
    assert spec.checkpoint_sha256 == "+".join(one.checkpoint_sha256 for one in both)


@pytest.mark.parametrize("fusion", ["mean", pytest.param("geometric", marks=pytest.mark.thorough)])
def test_pytorch_fuses_as_the_runtime_does(fusion: str) -> None:
    """Exactly: the same networks, the same machine."""
    torch.manual_seed(0)
    rgb, flow = (AFSD(small_config(*more).model).eval() for more in ((), FLOW))
    from training.deployment.views import TorchEngine, model_spec

    specs = [model_spec(small_config(f"decoding.fusion={fusion}", *more), CLASSES) for more in ((), FLOW)]
    reference = TwoStreamEngine(TorchEngine(rgb, specs[0]), TorchEngine(flow, specs[1]))
    inputs = seeded_inputs(reference.spec, seed=4, batch=2)
    with torch.inference_mode():
        found = TwoStreamNetwork(rgb, flow, fuse_specs(*specs)).eval()(
            *(torch.from_numpy(value) for value in inputs.values())
        )
    for name, value in reference.infer(inputs).items():
        np.testing.assert_allclose(getattr(found, name).numpy(), value, rtol=1e-5, atol=1e-5)


def rows_of(found: Detections) -> np.ndarray:
    rows = np.column_stack([found.labels, found.segments, found.scores])
    return rows[np.lexsort(rows.T)]


@pytest.mark.slow
def test_the_detector_computes_or_takes_flow(exported: Make) -> None:
    rgb, flow, fused = exported("mean", "onnx")
    frames = np.random.default_rng(0).integers(0, 256, (80, 36, 36, 3), np.uint8)
    motion = np.random.default_rng(1).integers(0, 256, (80, 36, 36, 2), np.uint8)
    options = DetectorOptions(flow_method="dis")
    with Detector(fused, options=options) as one, Detector(rgb, flow_engine=flow, options=options) as two:
        for given in (None, motion):
            found, expected = rows_of(one.run(frames, flow=given)), rows_of(two.run(frames, flow=given))
            near = np.abs(found[:, None] - expected).max(axis=-1).min(axis=1) < 1e-2
            assert len(expected) > 5
            assert near.mean() > 0.9
        with pytest.raises(InputError, match=r"got shape \[80, 36, 36, 2\], expected uint8 0–255 \[H,W,3\]"):
            one.run(motion)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return save(folder / "rgb.ckpt", 0), save(folder / "flow.ckpt", 1, *FLOW)


def test_models_that_do_not_belong_together(
    checkpoints: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rgb, flow = checkpoints
    other = save(tmp_path / "other.ckpt", 2, "data.sample_fps=25", *FLOW)
    with pytest.raises(ExportError, match=r"differ in sample_fps 10\.0 and 25\.0"):
        export_fused(rgb, other, tmp_path / "out.onnx")
    assert main(["export", str(flow), "--flow", str(rgb), "-o", str(tmp_path / "out.onnx")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected one on rgb, then one on flow" in line
    assert [path.name for path in tmp_path.iterdir()] == ["other.ckpt"]


def test_wrong_arguments(checkpoints: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rgb, flow = checkpoints
    with pytest.raises(ExportError, match=r"expected a file name ending in \.xml"):
        export_fused(rgb, flow, tmp_path / "out.onnx", to="openvino")
    with pytest.raises(ExportError, match="to: got 'tensorrt', expected one of onnx, openvino"):
        export_fused(rgb, flow, to="tensorrt")
    assert main(["export", str(rgb), "--flow-config", "thumos14_flow"]) == 2
    assert "give --flow as well" in capsys.readouterr().err
