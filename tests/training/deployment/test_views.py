"""PyTorch as an engine: bfloat16, compiled, and what is said where nothing can be compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.graph.trace import seeded_inputs
from runtime.common import processors
from runtime.errors import EngineError
from tests.conftest import Exported
from tests.shared import ROOT
from training.deployment import views
from training.deployment.views import open_torch_engine

EXACT_BITS = 8
"""Significant bits of a bfloat16; one rounding is off by at most 2**-9 of the number."""


def largest_error(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Largest difference of an output, as a share of the output's largest value."""
    return max(
        float(np.abs(found[name] - expected[name]).max() / np.abs(expected[name]).max()) for name in ("loc", "conf")
    )


def test_bfloat16_is_computed_and_returned_as_float32(exported: Exported) -> None:
    plain, narrow = open_torch_engine(exported.checkpoint), open_torch_engine(exported.checkpoint, precision="bf16")
    inputs = seeded_inputs(plain.spec, seed=3, batch=2)
    expected, found = plain.infer(inputs), narrow.infer(inputs)
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}
    assert 2.0 ** -(EXACT_BITS + 4) < largest_error(found, expected) < 0.1
    assert (plain.precision, narrow.precision) == ("fp32", "bf16")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler, as torch.compile does")
def test_compiled_networks_say_what_eager_says(exported: Exported) -> None:
    plain = open_torch_engine(exported.checkpoint)
    inputs = seeded_inputs(plain.spec, seed=3, batch=1)
    expected = plain.infer(inputs)
    compiled = open_torch_engine(exported.checkpoint, compiled=True)
    assert largest_error(compiled.infer(inputs), expected) < 1e-4
    assert compiled.library.endswith("compiled")
    narrow = open_torch_engine(exported.checkpoint, compiled=True, precision="bf16")
    assert 2.0 ** -(EXACT_BITS + 4) < largest_error(narrow.infer(inputs), expected) < 0.1


@pytest.mark.thorough
def test_without_a_compiler_there_is_one_line(exported: Exported) -> None:
    command = [sys.executable, "-m", "runtime", "benchmark", f"{exported.checkpoint}@compiled"]
    environment = {**os.environ, "PATH": "/nowhere", "PYTHONPATH": str(ROOT)}
    environment.pop("CXX", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "small.ckpt: torch.compile needs a C++ compiler, and none is found here" in line
    assert line.endswith("; install g++, or name another in CXX, or run the checkpoint without @compiled")


def test_a_failed_compilation_is_one_line(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CppCompileError: Python.h\nnot found")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    monkeypatch.setattr("training.deployment.compiled.require_cpp_compiler", lambda _: None)
    engine = open_torch_engine(exported.checkpoint, compiled=True)
    with pytest.raises(EngineError, match=r"^[^\n]*small\.ckpt: torch\.compile failed \(RuntimeError: [^\n]*$"):
        engine.infer(seeded_inputs(engine.spec, seed=0, batch=1))


def test_a_checkpoint_computes_on_no_more_threads_than_a_container_has_time_for(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch counts the cores of the machine, here 16; a smaller number that was asked for stays."""
    monkeypatch.setattr(processors, "CONTAINER", tmp_path)
    monkeypatch.setattr(processors, "GROUPS", tmp_path / "none")
    monkeypatch.setattr(processors, "_cores", lambda: 16)
    threads = torch.get_num_threads()
    try:
        for before, quota, after in ((5, "max", 5), (1, "150000", 1)):
            (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
            torch.set_num_threads(before)
            views._limit_threads()
            assert torch.get_num_threads() == after
        torch.set_num_threads(5)
        open_torch_engine(exported.checkpoint)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
