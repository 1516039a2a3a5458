"""The pooling kernel compiled to PTX by NVRTC: no CUDA toolkit, no driver and no GPU are needed."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from runtime.errors import ExportError, MissingDependencyError

SOURCE = "kernel.cu"

ONLY = {"fp32": 32, "fp16": 16, "bf16": 8}
"""Value of ONLY_PRECISION in the source that leaves the entry of one precision."""


def kernel_name(precision: str) -> str:
    """Entry of the PTX for features of a precision."""
    return f"boundary_max_pooling_{precision}"


def kernel_source() -> str:
    """Text of kernel.cu."""
    return resources.files("export.boundary_pooling").joinpath(SOURCE).read_text(encoding="utf-8")


@cache
def compile_ptx(precision: str, compute_capability: tuple[int, int]) -> bytes:
    """PTX of the kernel for one precision of features and one GPU architecture.

    Args:
        precision: "fp32", "fp16" or "bf16".
        compute_capability: as in (8, 6).

    Raises:
        MissingDependencyError: cuda-bindings or NVRTC is not installed.
        ExportError: NVRTC does not know the architecture, or the source does not compile.
    """
    api = _bindings()
    major, minor = compute_capability
    options = [f"--gpu-architecture=compute_{major}{minor}", "--std=c++17", f"-DONLY_PRECISION={ONLY[precision]}"]
    program = _done(api, api.nvrtcCreateProgram(kernel_source().encode(), SOURCE.encode(), 0, [], []), "start")
    try:
        (status,) = api.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        if status != api.nvrtcResult.NVRTC_SUCCESS:
            raise ExportError(
                f"boundary pooling: NVRTC cannot compile {SOURCE} for compute capability {major}.{minor}: "
                f"{_log(api, program) or status.name}; use --pooling function, or another cuda version of NVRTC"
            )
        size = _done(api, api.nvrtcGetPTXSize(program), "measure the PTX")
        ptx = bytearray(size)
        _done(api, api.nvrtcGetPTX(program, ptx), "read the PTX")
    finally:
        api.nvrtcDestroyProgram(program)
    return bytes(ptx).rstrip(b"\0")


def _bindings() -> Any:
    try:
        from cuda.bindings import nvrtc
    except ImportError:
        raise MissingDependencyError("cuda-bindings", "tensorrt", "compiling the pooling plugin") from None
    try:
        nvrtc.nvrtcVersion()
    except Exception as error:  # its loader raises a type of its own when the library is not there
        raise MissingDependencyError(f"NVRTC ({_one_line(error)[:80]})", "tensorrt", "the pooling plugin") from None
    return nvrtc


def _done(api: Any, result: tuple[Any, ...], what: str) -> Any:
    status, *values = result
    if status != api.nvrtcResult.NVRTC_SUCCESS:
        raise ExportError(f"boundary pooling: NVRTC could not {what}: {status.name}")
    return values[0] if values else None


def _log(api: Any, program: Any) -> str:
    """The compiler's first lines, in one."""
    status, size = api.nvrtcGetProgramLogSize(program)
    if status != api.nvrtcResult.NVRTC_SUCCESS or size <= 1:
        return ""
    text = bytearray(size)
    api.nvrtcGetProgramLog(program, text)
    return _one_line(bytes(text).rstrip(b"\0").decode(errors="replace"))[:300]


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
