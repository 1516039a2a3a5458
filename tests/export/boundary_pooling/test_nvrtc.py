"""PTX of the pooling kernel for every architecture TensorRT serves, and its launch geometry and traffic."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from export.boundary_pooling.launch import SHARED_BYTES, Dtype, choose_launch, compute_traffic
from export.boundary_pooling.nvrtc import compile_ptx, kernel_name
from runtime.errors import ExportError
from training.afsd.config import ModelConfig

pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")

ARCHITECTURES = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]
DTYPES = get_args(Dtype)
PARAMETERS = ["u64", "u64", "u32", "u32", "u32", "u32", "u32", "u64"]


def poolings(config: ModelConfig) -> list[tuple[int, int, int]]:
    """Channels, cells and regions of every pooling in one forward: frames once, each level in both branches."""
    frames = (config.head_channels, config.clip_length, sum(config.level_lengths))
    return [frames, *((2 * config.head_channels, t, t) for t in config.level_lengths for _ in range(2))]


@pytest.mark.parametrize("capability", ARCHITECTURES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ptx_has_the_target_and_the_signature(dtype: Dtype, capability: tuple[int, int]) -> None:
    ptx = compile_ptx(dtype, capability)
    text = ptx.decode("ascii")
    assert "\0" not in text
    assert re.findall(r"^\.target (\w+)", text, re.M) == ["sm_{}{}".format(*capability)]
    assert re.findall(r"\.entry (\w+)", text) == [kernel_name(dtype)]
    assert re.findall(r"\.param \.(\w+)", text) == PARAMETERS
    assert "ld.global.v4.u32" in text  # features 16 bytes at a time
    assert not re.findall(r"call|\.local ", text)


@pytest.mark.parametrize("capability", ARCHITECTURES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_assembles_without_spills(dtype: Dtype, capability: tuple[int, int], tmp_path: Path) -> None:
    if shutil.which("ptxas") is None:
        pytest.skip("ptxas is not on PATH")
    (tmp_path / "kernel.ptx").write_bytes(compile_ptx(dtype, capability))
    command = ["ptxas", "-v", "-arch=sm_{}{}".format(*capability), "kernel.ptx", "-o", "kernel.cubin"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in done.stderr
    found = re.search(r"Used (\d+) registers", done.stderr)
    assert found is not None
    assert int(found[1]) <= 64  # four blocks of 256 threads fill a 64 K register file


def test_an_unknown_architecture_is_named_with_nvrtcs_log() -> None:
    with pytest.raises(ExportError, match=r"compute_10: NVRTC_ERROR_INVALID_OPTION, .*gpu-architecture"):
        compile_ptx("fp32", (1, 0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cells", [1, 2, 3, 64, 256, 300, 768, 1000, 5000, 12000])
@pytest.mark.parametrize("channels", [2, 6, 64, 1024])
def test_every_launch_is_whole(channels: int, cells: int, dtype: Dtype) -> None:
    if dtype == "fp32" and cells == 12000:
        cells = 12032  # the longest row there is room for
    launch = choose_launch(channels, cells, dtype)
    assert launch.rows >= 1
    assert (channels // 2) % launch.rows == 0
    assert 1 << (launch.tables - 1) <= cells
    assert launch.shared_bytes <= SHARED_BYTES


@pytest.mark.parametrize(("channels", "cells"), [(0, 4), (3, 4), (2, 0), (2, 12033)])
def test_impossible_launches_are_named(channels: int, cells: int) -> None:
    with pytest.raises(ExportError, match=r"expected an even|up to 12032"):
        choose_launch(channels, cells, "fp32")


@pytest.mark.parametrize("dtype", DTYPES)
def test_traffic_of_the_published_network_is_near_the_minimum(dtype: Dtype) -> None:
    parts = [compute_traffic(1, *shape, dtype) for shape in poolings(ModelConfig())]
    assert sum(part.moved for part in parts) < 1.25 * sum(part.minimum for part in parts)
