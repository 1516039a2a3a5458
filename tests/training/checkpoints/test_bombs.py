"""Small files that stand for much: refused before memory is taken for what they stand for."""

from __future__ import annotations

import resource
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.errors import CheckpointError
from tests.training.small import CLASSES, save_small, small_config
from training.checkpoints.files import Checkpoint, load_checkpoint, read_weights, save_checkpoint

Change = Callable[[dict[str, Any]], None]


def _repeat_a_value(data: dict[str, Any]) -> None:
    data["weights"]["bomb"] = torch.zeros(1).expand(3 * 10**9)


def _repeat_it_a_little(data: dict[str, Any]) -> None:
    data["weights"]["bomb"] = torch.zeros(1).expand(4)


def _overlap_rows(data: dict[str, Any]) -> None:
    data["weights"]["bomb"] = torch.zeros(1000).as_strided((10**6, 1000), (0, 1))


def _in_the_training_state(data: dict[str, Any]) -> None:
    data["training"] = {"optimizer": {"state": [torch.zeros(1).expand(3 * 10**9)]}}


def _lists_of_lists(data: dict[str, Any]) -> None:
    many: list[Any] = [1]
    for _ in range(30):
        many = [many] * 10
    data["metrics"] = {"bomb": many}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_repeat_a_value, r"a tensor \[3000000000\] of 4 bytes repeats its values"),
        (_repeat_it_a_little, r"a tensor \[4\] of 4 bytes repeats its values"),
        (_overlap_rows, r"a tensor \[1000000, 1000\] of 4,000 bytes repeats its values"),
        (_in_the_training_state, "repeats its values"),
        (_lists_of_lists, "holds more than 1,000,000 values"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is in KiB on Linux")
def test_what_stands_for_more_than_it_holds(change: Change, message: str, tmp_path: Path) -> None:
    path = save_small(tmp_path / "a.ckpt")
    data = torch.load(path, weights_only=True)
    change(data)
    torch.save(data, path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)
    torch.save(data["weights"] if "bomb" in data["weights"] else data, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path / "bare.pth")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


def test_a_packed_archive(tmp_path: Path) -> None:
    path, packed = save_small(tmp_path / "a.ckpt"), tmp_path / "packed.ckpt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            extra = bytes(2**27) if member.filename.endswith("data.pkl") else b""
            target.writestr(member.filename, source.read(member) + extra)
    assert packed.stat().st_size < 2 * path.stat().st_size
    with pytest.raises(CheckpointError, match="is packed, or holds more than its own size"):
        load_checkpoint(packed)


def test_shared_and_transposed_weights_are_no_bombs(tmp_path: Path) -> None:
    shared = torch.arange(12.0)
    torch.save({"a": shared, "b": shared.view(3, 4).t(), "c": shared[3:5], "d": torch.zeros(0)}, tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth")
    assert found["b"].tolist() == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]
    assert found["c"].tolist() == [3, 4]


def test_classes_that_do_not_fit_the_network(tmp_path: Path) -> None:
    config = small_config()
    config = replace(config, model=replace(config.model, num_classes=5000), data=replace(config.data, classes=()))
    save_checkpoint(Checkpoint({"a": torch.zeros(1)}, config, CLASSES), tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"names 2 classes, and its network has 5000; expected one more"):
        load_checkpoint(tmp_path / "a.ckpt")
