"""One small network, exported once for all tests."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from export.to_onnx import export_onnx
from export.to_openvino import export_openvino
from tests.training.small import CLASSES, small_config
from training.afsd.network import AFSD
from training.checkpoints.files import Checkpoint, save_checkpoint


class Exported(NamedTuple):
    """Files of the small network, and what the exporters said."""

    checkpoint: Path
    onnx: Path
    openvino: Path
    said: str


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    config = small_config()
    model = AFSD(config.model)
    for module in model.modules():  # statistics as after training, so that folding them is not the identity
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    save_checkpoint(Checkpoint(dict(model.state_dict()), config, CLASSES), folder / "small.ckpt")
    said: list[str] = []
    onnx_file = export_onnx(folder / "small.ckpt", say=said.append)
    return Exported(folder / "small.ckpt", onnx_file, export_openvino(onnx_file, say=said.append), "\n".join(said))
