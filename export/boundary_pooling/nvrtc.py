"""The boundary pooling kernel compiled to PTX by NVRTC: no GPU, driver or CUDA toolkit needed."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from export.boundary_pooling.launch import Dtype
from runtime.errors import ExportError, MissingDependencyError

SOURCE = "kernel.cu"


def kernel_name(dtype: Dtype) -> str:
    """Name of the kernel's entry for features of `dtype`."""
    return f"boundary_max_pooling_{dtype}"


def compile_ptx(dtype: Dtype, compute_capability: tuple[int, int]) -> bytes:
    """PTX text of the kernel for features of `dtype` on GPUs of `compute_capability` (major, minor) and newer.

    Raises:
        MissingDependencyError: cuda-bindings or NVRTC's library is not installed.
        ExportError: NVRTC does not know the architecture, or does not compile the kernel; the message has its log.
    """
    try:
        from cuda.bindings import nvrtc
    except ImportError:
        raise MissingDependencyError("cuda-bindings", "tensorrt", "compiling the boundary pooling plugin") from None
    source = files("export.boundary_pooling").joinpath(SOURCE).read_bytes()
    architecture = "compute_{}{}".format(*compute_capability)
    options = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17", f"-DBOUNDARY_{dtype.upper()}".encode()]
    try:
        status, program = nvrtc.nvrtcCreateProgram(source, SOURCE.encode(), 0, [], [])
    except (RuntimeError, OSError):  # the bindings load the library at the first call
        raise MissingDependencyError("nvidia-cuda-nvrtc", "tensorrt", "compiling the boundary pooling plugin") from None
    _check(nvrtc, status, "creating the program")
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise ExportError(f"NVRTC on {SOURCE} for {architecture}: {status.name}, {_log(nvrtc, program)}")
        return _text(nvrtc, program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _log(nvrtc: Any, program: Any) -> str:
    """NVRTC's messages in one line."""
    text = _text(nvrtc, program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).decode(errors="replace")
    return "; ".join(line.strip() for line in text.splitlines() if line.strip()) or "no message"


def _text(nvrtc: Any, program: Any, get_size: Any, get: Any) -> bytes:
    """What `get` writes, without the NUL at its end."""
    status, size = get_size(program)
    _check(nvrtc, status, "asking for its output")
    buffer: bytes = b" " * size
    (status,) = get(program, buffer)
    _check(nvrtc, status, "reading its output")
    return buffer.rstrip(b"\0")


def _check(nvrtc: Any, status: Any, step: str) -> None:
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise ExportError(f"NVRTC: {step} failed with {status.name}")
