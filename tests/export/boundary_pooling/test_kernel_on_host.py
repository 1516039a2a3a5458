"""The CUDA kernel itself, built for the host with sanitizers, against the definition in plain loops; bit for bit."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
from torch import Tensor

from export.boundary_pooling.launch import Dtype, Launch, choose_launch
from training.afsd.boundary_pooling import boundary_max_pooling_loop

HERE = Path(__file__).parent
KERNELS = HERE.parents[2] / "export" / "boundary_pooling"
TYPES: dict[Dtype, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
INTEGERS = {4: torch.int32, 2: torch.int16}
ASAN = "address,undefined"
SHAPES = [(1, 2, 1, 1), (2, 4, 2, 3), (2, 6, 5, 7), (1, 10, 37, 9), (1, 32, 64, 64), (1, 8, 256, 126), (1, 4, 300, 70)]


@cache
def build(dtype: Dtype, sanitizers: str) -> Path:
    """The host program for one type; skips where there is no compiler or it lacks the sanitizers."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not here")
    program = Path(mkdtemp()) / "host"
    flags = [f"-DBOUNDARY_{dtype.upper()}", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    command = ["g++", "-std=c++17", "-O2", "-g", "-Wall", "-Wextra", "-pthread", *flags, "-I", str(KERNELS)]
    done = subprocess.run([*command, str(HERE / "host.cpp"), "-o", str(program)], capture_output=True, text=True)
    if done.returncode and "cannot find" in done.stderr:
        pytest.skip(f"g++ is here without -fsanitize={sanitizers}")
    assert not done.returncode, done.stderr
    assert "warning" not in done.stderr
    return program


def run(
    features: Tensor, regions: Tensor, launch: Launch, threads: int, sanitizers: str = "address,undefined"
) -> Tensor:
    """Pool with the kernel on the host."""
    dtype = next(name for name, kind in TYPES.items() if kind == features.dtype)
    program = build(dtype, sanitizers)
    batch, channels, cells = features.shape
    shared = launch.shared_bytes - 4 * 256 + 4 * threads
    sizes = [batch, channels, cells, regions.shape[1], launch.rows, launch.tables, threads, shared]
    integer = INTEGERS[features.element_size()]
    folder = Path(mkdtemp())
    payload = np.array(sizes, np.int32).tobytes() + features.view(integer).numpy().tobytes()
    (folder / "case").write_bytes(payload + regions.numpy().tobytes())
    done = subprocess.run([program, folder / "case", folder / "pooled"], capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr[:4000]
    words = np.fromfile(folder / "pooled", {4: np.int32, 2: np.int16}[features.element_size()])
    shutil.rmtree(folder)
    return torch.from_numpy(words).view(features.dtype).reshape(batch, channels, -1)


def case(shape: tuple[int, int, int, int], dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor]:
    """Ties, signed zeros, infinities and NaN as features; regions of every bad kind."""
    batch, channels, cells, count = shape
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, channels, cells, generator=generator).mul(2).round()
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-40, -1e-7, 65504.0])
    where = torch.rand(features.shape, generator=generator) < 0.2
    features[where] = odd[torch.randint(len(odd), (int(where.sum()),), generator=generator)]
    regions = torch.randn(batch, count, 4, generator=generator) * cells
    nasty = torch.tensor([-0.5, -1.0, 0.999, 1e30, -1e30, cells - 1.0, cells - 0.5, float(cells), float(cells + 1)])
    where = torch.rand(regions.shape, generator=generator) < 0.4
    regions[where] = nasty[torch.randint(len(nasty), (int(where.sum()),), generator=generator)]
    return features.to(dtype), regions


def same_bits(found: Tensor, features: Tensor, regions: Tensor) -> bool:
    integer = INTEGERS[features.element_size()]
    return torch.equal(found.view(integer), boundary_max_pooling_loop(features, regions).view(integer))


@pytest.mark.parametrize(
    "dtype", ["fp32", *(pytest.param(half, marks=pytest.mark.thorough) for half in TYPES if half != "fp32")]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_loop_bit_for_bit(shape: tuple[int, int, int, int], dtype: Dtype) -> None:
    features, regions = case(shape, TYPES[dtype], seed=sum(shape))
    found = run(features, regions, choose_launch(shape[1], shape[2], dtype), threads=32)
    assert same_bits(found, features, regions)


@pytest.mark.parametrize("dtype", TYPES)
def test_infinite_and_nan_bounds(dtype: Dtype) -> None:
    """The loop cannot turn these into integers; by definition NaN reads cell 0 and infinities clamp."""
    features, regions = case((1, 4, 9, 64), TYPES[dtype], seed=1)
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 3.0])
    regions = odd[torch.randint(4, regions.shape, generator=torch.Generator().manual_seed(2))]
    found = run(features, regions, choose_launch(4, 9, dtype), threads=32)
    assert same_bits(found, features, regions.nan_to_num(nan=0.0, posinf=8.0, neginf=0.0))


@pytest.mark.parametrize("tables", [1, 2, 4])
def test_too_few_tables_take_more_steps(tables: int) -> None:
    features, regions = case((1, 4, 100, 50), torch.float16, seed=tables)
    launch = replace(choose_launch(4, 100, "fp16"), tables=tables)
    assert same_bits(run(features, regions, launch, threads=32), features, regions)


def test_rows_longer_than_shared_memory_has_tables_for() -> None:
    launch = choose_launch(2, 5000, "fp32")
    assert launch.tables == 2
    features, regions = case((1, 2, 5000, 8), torch.float32, seed=4)
    assert same_bits(run(features, regions, launch, threads=32), features, regions)


def test_a_full_block_of_256_threads() -> None:
    features, regions = case((1, 8, 256, 126), torch.float16, seed=3)
    assert same_bits(run(features, regions, choose_launch(8, 256, "fp16"), threads=256), features, regions)


def test_threads_do_not_race() -> None:
    """ThreadSanitizer sees a missing barrier; more regions than threads take every barrier of the kernel."""
    features, regions = case((2, 4, 33, 20), torch.float32, seed=5)
    found = run(features, regions, choose_launch(4, 33, "fp32"), threads=8, sanitizers="thread")
    assert same_bits(found, features, regions)
