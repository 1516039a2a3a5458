"""Compile the boundary pooling kernel to PTX with NVRTC, without GPU, driver or CUDA toolkit."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from export.boundary_pooling.launch import Dtype
from runtime.errors import ExportError, MissingDependencyError, import_failure

KERNEL_FILE = "kernel.cu"


def kernel_name(dtype: Dtype) -> str:
    """Return the name of the kernel function for features of `dtype`."""
    return f"boundary_max_pooling_{dtype}"


def compile_ptx(dtype: Dtype, compute_capability: tuple[int, int]) -> bytes:
    """Compile the kernel to PTX text for features of `dtype` on GPUs of `compute_capability` (major, minor) and newer.

    Raises:
        MissingDependencyError: cuda-bindings or NVRTC's library is not installed.
        ExportError: NVRTC does not know the architecture, or does not compile the kernel; the message has its log.
    """
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise import_failure(error, "cuda-bindings", "tensorrt", "compiling the boundary pooling plugin") from None
    code = files("export.boundary_pooling").joinpath(KERNEL_FILE).read_bytes()
    architecture = "compute_{}{}".format(*compute_capability)
    options = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17", f"-DBOUNDARY_{dtype.upper()}".encode()]
    try:
        status, program = nvrtc.nvrtcCreateProgram(code, KERNEL_FILE.encode(), 0, [], [])
    except (RuntimeError, OSError):  # the bindings load the library at the first call
        raise MissingDependencyError("nvidia-cuda-nvrtc", "tensorrt", "compiling the boundary pooling plugin") from None
    _check(nvrtc, status, "creating the program")
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise ExportError(f"NVRTC on {KERNEL_FILE} for {architecture}: {status.name}, {_log(nvrtc, program)}")
        return _text(nvrtc, program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _log(nvrtc: Any, program: Any) -> str:
    """Return NVRTC's messages in one line."""
    text = _text(nvrtc, program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).decode(errors="replace")
    return "; ".join(line.strip() for line in text.splitlines() if line.strip()) or "no message"


def _text(nvrtc: Any, program: Any, get_size: Any, get: Any) -> bytes:
    """Return the text that `get` writes, without the NUL at its end."""
    status, size = get_size(program)
    _check(nvrtc, status, "asking for its output")
    buffer: bytes = b" " * size
    (status,) = get(program, buffer)
    _check(nvrtc, status, "reading its output")
    return buffer.rstrip(b"\0")


def _check(nvrtc: Any, status: Any, doing: str) -> None:
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise ExportError(f"NVRTC: {doing} failed with {status.name}")
