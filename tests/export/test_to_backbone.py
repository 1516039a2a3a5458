"""An I3D as a backbone: weights from every file there is, numbers beside PyTorch's, and the whole way from a video."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from export.to_backbone import export_backbone
from export.to_onnx import export_onnx
from export.to_openvino import export_openvino
from export.to_precision import write_typed_onnx
from runtime import cli
from runtime.cli import main
from runtime.detector import Detector
from runtime.engines import open_engine
from runtime.errors import CheckpointError, ExportError
from runtime.spec.time_axis import FeatureSampling
from tests.conftest import Exported, MadeOnce
from tests.test_own_data_guide import declared_verbs
from tests.training.feature_data import make_feature_set, small_feature_config
from tests.videos import write_video
from training.checkpoints.files import Checkpoint, load_checkpoint, save_checkpoint
from training.deployment.i3d_features import I3DFeatures, random_backbone, read_backbone
from training.families import build_network
from training.networks.i3d import I3D

SIZE, MULTIPLIER = 32, 0.125
WIDTH = 128


@pytest.fixture(scope="module")
def backbone(made_once: MadeOnce) -> Path:
    """A small I3D of random weights; the parity report judged its numbers before the file got its name."""

    def fill(folder: Path) -> None:
        export_backbone(random_backbone("rgb", 0, MULTIPLIER), folder / "i3d.onnx", size=SIZE)

    return made_once("backbone", fill) / "i3d.onnx"


def averaged(network: I3D, snippet: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The features of one snippet [16,H,W,C] as the Kinetics network makes them: pixels in [−1,1], Mixed_5c, and its
    average pooling of [2,S/32,S/32] cells."""
    pixels = torch.from_numpy(snippet.astype(np.float32) / 127.5 - 1).permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        mixed_5c = dict(network.eval().endpoints(pixels))["Mixed_5c"]
        pooled = torch.nn.functional.avg_pool3d(mixed_5c, (2, SIZE // 32, SIZE // 32))
    return pooled.flatten().numpy()


@pytest.mark.thorough
def test_the_file_keeps_the_contract(backbone: Path) -> None:
    graph = onnx.load(backbone).graph
    types = {value.name: value.type.tensor_type for value in (*graph.input, *graph.output)}
    shapes = {name: (t.elem_type, [d.dim_param or d.dim_value for d in t.shape.dim]) for name, t in types.items()}
    assert shapes == {
        "frames": (onnx.TensorProto.UINT8, ["batch", 16, SIZE, SIZE, 3]),
        "features": (onnx.TensorProto.FLOAT, ["batch", WIDTH]),
    }
    spec = open_engine(backbone).spec
    assert (spec.family, spec.stream, spec.sampling, spec.classes) == ("i3d", "rgb", "every_frame", ())
    assert (spec.window_length, spec.window_stride, spec.frame_size, spec.crop_size) == (
        16,
        4,
        (SIZE,) * 2,
        (SIZE,) * 2,
    )
    assert spec.checkpoint_sha256 == random_backbone("rgb", 0, MULTIPLIER).sha256
    assert spec.checkpoint_sha256 != random_backbone("rgb", 1, MULTIPLIER).sha256
    assert spec.multiply_adds > 0


@pytest.mark.thorough
def test_features_of_a_video_are_those_of_pytorch_on_its_decoded_frames(backbone: Path, tmp_path: Path) -> None:
    """Frames decoded and reduced by OpenCV and Pillow, snippets cut by hand, averaged by PyTorch's pooling."""
    from PIL import Image

    source = write_video(tmp_path / "test.avi")
    assert main(["features", str(source), "--backbone", str(backbone), "--out", str(tmp_path / "out")]) == 0
    found = np.load(tmp_path / "out" / "rgb" / "test.npy")
    capture, frames = cv2.VideoCapture(str(source)), []
    while (decoded := capture.read())[0]:
        image = Image.fromarray(decoded[1][..., ::-1])
        frames.append(np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)))
    assert len(found) == (len(frames) - 16) // 4 + 1
    network = random_backbone("rgb", 0, MULTIPLIER).network.network
    for step in (0, 1, len(found) // 2, len(found) - 1):
        expected = averaged(network, np.stack(frames[4 * step : 4 * step + 16]))
        # at most a few values in 100,000 of the reduced frames differ from Pillow's, by one level
        np.testing.assert_allclose(found[step], expected, atol=2e-3 * float(np.abs(expected).max()))
    assert float(np.abs(found[0] - found[-1]).max()) > 0.02 * float(np.abs(found).max())


@pytest.mark.thorough
def test_openvino_says_the_same(backbone: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    engine = open_engine(export_openvino(backbone, tmp_path / "i3d.xml"))  # compares the numbers
    assert engine.spec == open_engine(backbone).spec


def test_weights_of_every_file(exported: Exported, tmp_path: Path) -> None:
    """Kinetics weights, with a classifier and without the counters of older files, and a checkpoint of AFSD."""
    torch.manual_seed(0)
    network = I3D(2)
    entries = {name: v for name, v in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save({**entries, "logits.conv3d.weight": torch.zeros(3)}, tmp_path / "flow_imagenet.pt")
    kinetics = read_backbone(tmp_path / "flow_imagenet.pt")
    assert (kinetics.stream, kinetics.multiplier) == ("flow", 1.0)
    snippets = torch.randint(0, 256, (2, 16, SIZE, SIZE, 2), dtype=torch.uint8)
    with torch.no_grad():
        (expected,), (found,) = I3DFeatures(network).eval()(snippets), kinetics.network(snippets)
    assert expected.shape == (2, 1024)
    assert torch.equal(found, expected)

    ours = read_backbone(exported.checkpoint)
    assert (ours.stream, ours.multiplier) == ("rgb", MULTIPLIER)
    weights = load_checkpoint(exported.checkpoint).weights
    for name, value in ours.network.network.state_dict().items():
        assert torch.equal(value, weights[f"backbone._model.{name}"])


def test_files_without_an_i3d_are_refused(tmp_path: Path) -> None:
    config = small_feature_config("a2net_gtea", tmp_path).with_data(3, 8)
    save_checkpoint(Checkpoint(build_network(config).state_dict(), config, ("a", "b")), tmp_path / "a2net.ckpt")
    with pytest.raises(CheckpointError, match="a network on features, which has no I3D"):
        read_backbone(tmp_path / "a2net.ckpt")
    with pytest.raises(CheckpointError, match="file not found"):
        read_backbone(tmp_path / "none.pt")
    entries = I3D(3, MULTIPLIER).state_dict()
    entries.pop("Conv3d_2b_1x1.conv3d.weight")
    torch.save(dict(entries), tmp_path / "cut.pt")
    with pytest.raises(CheckpointError, match=r"Conv3d_2b_1x1\.conv3d\.weight is missing"):
        read_backbone(tmp_path / "cut.pt")


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verbs of pyproject.toml, which an installation made earlier may lack."""
    monkeypatch.setattr(cli, "entry_points", lambda group: declared_verbs(group))


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a file of weights, or --random SEED"),
        (["x.pt", "--random", "1"], "give a file of weights, or --random SEED"),
        (["--random", "1"], "add --stream rgb or --stream flow"),
        (["CHECKPOINT", "--stream", "flow"], "is an I3D on rgb; leave it out"),
        (["CHECKPOINT", "-o", "x.xml"], "ending in .onnx"),
        (["CHECKPOINT", "--to", "openvino", "-o", "x.onnx"], "ending in .xml"),
        (["CHECKPOINT", "--size", "0"], "size: got 0"),
    ],
)
def test_the_verb_refuses_what_does_not_fit(words: list[str], message: str, exported: Exported, capsys: Any) -> None:
    given = [str(exported.checkpoint) if word == "CHECKPOINT" else word for word in words]
    assert main(["export-backbone", *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("declared")
def test_the_verb_writes_the_backbone_of_a_checkpoint(exported: Exported, tmp_path: Path) -> None:
    assert main(["export-backbone", str(exported.checkpoint), "--size", "32", "-o", str(tmp_path / "ours.onnx")]) == 0
    spec = open_engine(tmp_path / "ours.onnx").spec
    assert spec.checkpoint_sha256 == load_checkpoint(exported.checkpoint).sha256


@pytest.mark.thorough
def test_a_backbone_is_refused_where_a_detector_belongs(backbone: Path, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(ExportError, match="a backbone, which is float32"):
        write_typed_onnx(backbone, "fp16")
    video = str(write_video(tmp_path / "test.avi"))
    assert main(["detect", str(backbone), video]) == 2
    assert "the model is a backbone, which detects nothing" in capsys.readouterr().err
    assert main(["calibrate", str(backbone), "--videos", video, "-o", str(tmp_path / "x.onnx")]) == 2
    assert "is a backbone; only networks that detect are calibrated" in capsys.readouterr().err


@pytest.mark.thorough
def test_from_a_video_to_detections_without_torch(backbone: Path, tmp_path: Path) -> None:
    """A2Net of random weights behind the backbone; its detections are those in the features that were written."""
    video = str(write_video(tmp_path / "test.avi"))
    root = make_feature_set(tmp_path / "data")
    config = small_feature_config("a2net_gtea", root).with_data(3, WIDTH)
    timing = FeatureSampling(stride=4, window=16)
    config = replace(config, data=replace(config.data, feature_sampling=timing, classes=("a", "b")))
    torch.manual_seed(0)
    save_checkpoint(Checkpoint(build_network(config).state_dict(), config, ("a", "b")), tmp_path / "a2net.ckpt")
    model = export_onnx(tmp_path / "a2net.ckpt")
    script = (
        "import sys; from runtime import Detector; "
        f"found = Detector({str(model)!r}, backbone={str(backbone)!r}).run({video!r}); "
        "print(sorted({'torch', 'onnx', 'training', 'export'} & set(sys.modules)), len(found))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    with Detector(model, backbone=backbone) as detector:
        found = detector.run(video)
    assert done.stdout.strip() == f"[] {len(found)}"
    assert main(["features", video, "--backbone", str(backbone), "--out", str(tmp_path / "set")]) == 0
    expected = Detector(model).run(tmp_path / "set" / "rgb" / "test.npy", fps=declared_rate(video))
    assert len(found) == len(expected) > 0
    for name in ("segments", "labels", "scores"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def declared_rate(video: str) -> float:
    """Frames per second that the file declares."""
    return float(cv2.VideoCapture(video).get(cv2.CAP_PROP_FPS))
