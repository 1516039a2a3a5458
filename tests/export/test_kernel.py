"""The pooling kernel without a GPU: its body on host threads against the loop, its PTX for every architecture."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from export.boundary_pooling.launch import SHARED_BYTES, Launch, launch_for, levels_of, traffic_of
from export.boundary_pooling.nvrtc import ONLY, compile_ptx, kernel_name
from runtime.errors import ExportError
from training.models.boundary_pooling import boundary_max_pooling_loop

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
KERNEL = Path(__file__).parents[2] / "export" / "boundary_pooling" / "kernel.cu"
HOST = Path(__file__).with_name("host_kernel.cpp")
ARCHITECTURES = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]
PARAMETERS = ["u64", "u64", "u32", "u32", "u32", "u32", "u64"]
"""Inputs, extra scalars, outputs: the order in which TensorRT passes them."""

Host = Callable[[list[tuple[str, Tensor, Tensor]], Launch | None], list[Tensor]]


@pytest.fixture(scope="session", params=["address,undefined", "thread"])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The kernel's host build; takes cases (precision, features, regions) and gives what it pooled."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler here to build the kernel for the host")
    folder = tmp_path_factory.mktemp("host")
    program = folder / "host_kernel"
    flags = ["-std=c++20", "-O1", "-g", "-pthread", "-Wno-unknown-pragmas", f'-DKERNEL_SOURCE="{KERNEL}"']
    command = [
        compiler,
        *flags,
        f"-fsanitize={request.param}",
        "-fno-sanitize-recover=all",
        str(HOST),
        "-o",
        str(program),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode and "cannot find" in built.stderr:
        pytest.skip(f"the sanitizer {request.param} is not installed with this compiler")
    assert built.returncode == 0, built.stderr

    def run(cases: list[tuple[str, Tensor, Tensor]], forced: Launch | None = None) -> list[Tensor]:
        (folder / "cases").write_bytes(b"".join(_packed(*case, forced) for case in cases))
        done = subprocess.run(
            [program, folder / "cases", folder / "results"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return _unpacked(cases, (folder / "results").read_bytes())

    return run


def _packed(precision: str, features: Tensor, regions: Tensor, forced: Launch | None) -> bytes:
    batch, channels, length = features.shape
    launch = launch_for(channels, length, regions.shape[1], precision)
    if forced is not None:  # fewer threads: the kernel must not depend on their number
        launch = replace(launch, block=forced.block)
    header = [ONLY[precision], batch, channels, length, regions.shape[1], launch.rows, launch.tiles, *launch.block]
    header.append(launch.rows * levels_of(length) * length * features.element_size())
    assert header[-1] == launch.shared_bytes
    return np.array(header, np.int32).tobytes() + _bytes(features) + _bytes(regions)


def _bytes(values: Tensor) -> bytes:
    return bytes(values.contiguous().view(torch.uint8).numpy().tobytes())


def _unpacked(cases: list[tuple[str, Tensor, Tensor]], data: bytes) -> list[Tensor]:
    found, start = [], 0
    for precision, features, regions in cases:
        shape = (*features.shape[:2], regions.shape[1])
        end = start + int(np.prod(shape)) * features.element_size()
        found.append(torch.frombuffer(bytearray(data[start:end]), dtype=TYPES[precision]).reshape(shape))
        start = end
    assert start == len(data)
    return found


def by_loop(features: Tensor, regions: Tensor) -> Tensor:
    """The definition; its Python integers take no NaN and no infinity, which stand for cell 0 and a border."""
    return boundary_max_pooling_loop(features, regions.nan_to_num(nan=0.0, posinf=1e9, neginf=-1e9))


def same_bits(found: Tensor, expected: Tensor) -> bool:
    """Equal to the bit, so that −0 differs from 0 and a NaN from another."""
    kind = torch.int32 if found.element_size() == 4 else torch.int16
    return torch.equal(found.view(kind), expected.contiguous().view(kind))


NASTY = [float("nan"), float("inf"), float("-inf"), -0.5, -1e30, 1e30, 0.999999, 1.0, -0.0, 3.5, 1e-40]


def random_case(precision: str, seed: int, *, batch: int, channels: int, length: int, count: int) -> tuple[str, Tensor, Tensor]:  # fmt: skip  # noqa: E501
    """Features with many ties, zeros of both signs, infinities and some NaN; regions of all widths, some nasty."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, channels, length, generator=generator).mul(2).round()
    special = torch.rand(features.shape, generator=generator)
    features[special < 0.03] = float("nan")
    features[(special > 0.03) & (special < 0.06)] = -float("inf")
    features[(special > 0.06) & (special < 0.2)] = -0.0
    centre = torch.rand(batch, count, 2, 1, generator=generator) * length
    width = torch.rand(batch, count, 2, 1, generator=generator) ** 3 * length
    regions = torch.cat((centre - width, centre + width), dim=-1).reshape(batch, count, 4)
    swapped = torch.rand(batch, count, generator=generator) < 0.1
    regions[swapped] = regions[swapped].flip(-1)
    chosen = torch.rand(regions.shape, generator=generator) < 0.1
    values = torch.tensor([*NASTY, length - 1, length - 0.25, float(length)])
    regions[chosen] = values[torch.randint(len(values), (int(chosen.sum()),), generator=generator)]
    return precision, features.to(TYPES[precision]), regions


SHAPES = [
    (1, 2, 1, 1), (1, 2, 2, 2), (2, 6, 3, 5), (1, 10, 4, 4), (1, 4, 5, 1), (2, 14, 16, 16), (1, 8, 17, 33),
    (1, 6, 63, 64), (1, 6, 64, 63), (1, 4, 65, 70), (1, 4, 256, 126), (1, 2, 257, 9), (1, 2, 768, 21), (1, 2, 1024, 5),
]  # fmt: skip


@pytest.mark.parametrize("precision", list(TYPES))
def test_the_kernel_gives_the_loops_result_to_the_bit(host: Host, precision: str) -> None:
    cases = [
        random_case(precision, seed, batch=b, channels=c, length=t, count=n) for seed, (b, c, t, n) in enumerate(SHAPES)
    ]
    few = Launch(0, (5, 2), 0, 0)  # an odd number of threads, so that every loop over them turns and ends raggedly
    for (_, features, regions), found in zip(cases, host(cases, few), strict=True):
        assert same_bits(found, by_loop(features, regions)), (features.shape, regions.shape)


def test_with_the_threads_of_a_real_launch(host: Host) -> None:
    case = random_case("fp16", 99, batch=1, channels=4, length=64, count=64)
    assert launch_for(4, 64, 64, "fp16").block == (64, 4)
    assert same_bits(host([case], None)[0], by_loop(*case[1:]))


def test_every_width_at_every_place(host: Host) -> None:
    """All regions low ≤ high of 20 cells."""
    pairs = torch.tensor([(low, high) for low in range(20) for high in range(low, 20)], dtype=torch.float32)
    regions = torch.cat((pairs, pairs.flip(0)), dim=1)[None]
    features = torch.randn(1, 2, 20, generator=torch.Generator().manual_seed(1))
    found = host([("fp32", features, regions)], Launch(0, (8, 1), 0, 0))[0]
    assert same_bits(found, by_loop(features, regions))


@pytest.mark.parametrize("precision", list(TYPES))
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: f"sm{a[0]}{a[1]}")
def test_ptx_of_every_architecture(precision: str, architecture: tuple[int, int]) -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings and NVRTC are not installed here")
    text = compile_ptx(precision, architecture).decode()
    assert re.search(rf"^\.target sm_{architecture[0]}{architecture[1]}$", text, re.MULTILINE)
    assert re.findall(r"^\.visible \.entry (\w+)\(", text, re.MULTILINE) == [kernel_name(precision)]
    assert re.findall(r"^\s*\.param \.(u64|u32)", text, re.MULTILINE) == PARAMETERS
    assert not text.endswith("\0")
    if (ptxas := shutil.which("ptxas")) is None:
        return
    done = subprocess.run(
        [ptxas, "-v", f"-arch=sm_{architecture[0]}{architecture[1]}", "-o", "/dev/null", "-"],
        input=text, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "0 bytes spill stores, 0 bytes spill loads" in done.stderr
    registers = int(re.findall(r"Used (\d+) registers", done.stderr)[0])
    assert registers <= 64  # 256 threads then fill a multiprocessor of 65,536 registers


def test_an_unknown_architecture_is_one_line() -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings and NVRTC are not installed here")
    with pytest.raises(ExportError, match=r"NVRTC cannot compile kernel.cu for compute capability 3\.0: .*--pooling"):
        compile_ptx("fp32", (3, 0))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 15, 16, 63, 64, 256, 1023, 1024])
def test_levels_cover_every_width(length: int) -> None:
    levels = levels_of(length)
    assert 4 ** (levels - 1) <= length < 4**levels


def test_launches_of_the_full_size_network() -> None:
    """Frame level: 512 channels of 256 cells; pyramid levels: 1024 channels of 64 … 2 cells."""
    frame = launch_for(512, 256, 126, "fp16")
    assert (frame.tiles, frame.block, frame.rows) == (64, (128, 2), 4)
    assert frame.shared_bytes == 4 * 5 * 256 * 2
    for length in (64, 32, 16, 8, 4, 2):
        for precision in TYPES:
            launch = launch_for(1024, length, length, precision)
            assert launch.tiles * launch.rows == 512
            assert launch.block[0] * launch.block[1] == 256
            assert launch.shared_bytes <= SHARED_BYTES


def test_what_the_kernel_does_not_take() -> None:
    with pytest.raises(ExportError, match=r"4096 cells of fp32 need 114688 bytes of shared memory, a block has 49152"):
        launch_for(64, 4096, 4, "fp32")
    with pytest.raises(ExportError, match="got features of int8, expected one of fp32, fp16, bf16"):
        launch_for(64, 64, 4, "int8")
    with pytest.raises(ExportError, match="got C = 3, T = 64, N = 4, expected even C"):
        launch_for(3, 64, 4, "fp16")


def test_traffic_against_the_minimum() -> None:
    """By hand for the frame level in fp16: every feature and output once, the regions once for each of 128 blocks."""
    traffic = traffic_of(512, 256, 126, "fp16")
    assert (traffic.features, traffic.output) == (512 * 256 * 2, 512 * 126 * 2)
    assert traffic.regions == 128 * 126 * 16
    assert traffic.minimum == 512 * 256 * 2 + 512 * 126 * 2 + 126 * 16
