"""Open an engine file with the library of its suffix, imported only when used: the table of engines."""

from __future__ import annotations

import inspect
import os
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, NamedTuple

from runtime.common.files import describe_mode, exists
from runtime.common.log import LOGGER
from runtime.common.text import one_line
from runtime.engines.artifact import read_artifact
from runtime.engines.base import Engine
from runtime.engines.options import EngineOptions
from runtime.errors import EngineError, InputError, import_failure


class EngineKind(NamedTuple):
    """One kind of engine file: the library that runs it, and the class behind which it does."""

    library: str
    module: str
    """Module of the class, imported when a file of this kind is opened."""
    name: str
    """Name of the class, which is made from (path, `EngineOptions`)."""
    streaming: tuple[str, str] | None = None
    """Module and class of streaming networks; None: the library runs none."""


TENSORRT = EngineKind(
    "tensorrt",
    "runtime.engines.tensorrt.engine",
    "TensorRtEngine",
    ("runtime.engines.tensorrt.streaming", "TensorRtStreamingEngine"),
)

ENGINES = {
    ".onnx": EngineKind(
        "onnxruntime",
        "runtime.engines.onnx.engine",
        "OnnxRuntimeEngine",
        ("runtime.engines.onnx.streaming", "OnnxStreamingEngine"),
    ),
    ".xml": EngineKind(
        "openvino",
        "runtime.engines.openvino.engine",
        "OpenVinoEngine",
        ("runtime.engines.openvino.streaming", "OpenVinoStreamingEngine"),
    ),
    ".engine": TENSORRT,
    ".plan": TENSORRT,
}
"""Engines by file suffix. A new one is an entry here."""

LIBRARIES = ("auto", *dict.fromkeys(kind.library for kind in ENGINES.values()))
"""Values of `open_engine`'s `library`."""

ENGINES_GROUP = "afsd.engines"
"""Entry-point group through which other packages add engines: the name is a suffix without its dot, the value a
function `open(path, *, device) -> Engine` with device "cpu" or "cuda:INDEX". One that also takes `precision` or
`compiled` gets them where they were given (see `EngineOptions`)."""


def open_engine(
    path: str | os.PathLike[str],
    *,
    library: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    provider: Literal["cuda", "tensorrt"] | None = None,
    cuda_graph: bool = False,
    compiled: bool = False,
    mode: Literal["latency", "throughput"] = "latency",
    cache: str | os.PathLike[str] | None = None,
    verify: bool = True,
) -> Engine:
    """Load an engine file with the library for its suffix (.onnx, .xml, .engine, .plan, or one that a package adds).

    Args:
        path: the file; an .xml has its .bin beside it, an .engine or .plan its .json.
        library: "auto", or the library expected, which must be the suffix's.
        device, threads, precision, provider, cuda_graph, compiled, mode, cache, verify: see `EngineOptions`.

    Raises:
        EngineError: the file is not found, is not an engine, or cannot be run on this machine.
        SpecError: the file carries no ModelSpec, or one that does not fit its tensors, or is damaged.
        InputError: an option is out of range.
        MissingDependencyError: the library is not installed.
    """
    options = EngineOptions(device, threads, precision, provider, cuda_graph, compiled, mode, cache, verify)
    if "://" in (given := os.fspath(path)):
        raise EngineError(f"{given}: an address, expected an engine file; copy all files of the model to this machine")
    file = Path(path)
    needed = _library_for(file, library)
    if not file.is_file():
        what = f"{describe_mode(file.stat().st_mode)}, no file" if exists(file) else "file not found"
        raise EngineError(f"{file}: {what}; expected an engine file (.onnx, .xml or .engine)")
    options = options.resolve(needed)
    if needed == "":
        return _open_foreign(file, options)
    kind = ENGINES[file.suffix.lower()]
    module, name = kind.module, kind.name
    if kind.streaming is not None and read_artifact(file, verify=False).spec.streaming is not None:
        module, name = kind.streaming
    engine: Engine = getattr(import_module(module), name)(file, options)
    LOGGER.info("%s: runs in %s on %s", file, engine.library, engine.device)
    return engine


def _open_foreign(file: Path, options: EngineOptions) -> Engine:
    """Open an engine file with the function that another package registered for its suffix."""
    if options.threads is not None:
        raise InputError(f"{file}: a {file.suffix} file takes no number of threads; leave it out")
    (entry, *_) = entry_points(group=ENGINES_GROUP, name=file.suffix[1:])
    try:
        opener = entry.load()
    except ImportError as error:
        failure = import_failure(error, "", extra_of(entry), f"running a {file.suffix} file")
        raise EngineError(f"{file}: {failure}; or use an exported .onnx or .xml file") from None
    except Exception as error:  # of another package's code
        raise EngineError(
            f"{file}: {entry.value}, which runs {file.suffix} files, does not load ({type(error).__name__}: "
            f"{one_line(error)}); repair or remove its package"
        ) from None
    device = "cpu" if options.device_kind == "cpu" else f"cuda:{options.device_index}"
    engine: Engine = opener(file, device=device, **_further_options(file, opener, options))
    LOGGER.info("%s: runs in %s on %s", file, engine.library, engine.device)
    return engine


def _further_options(file: Path, opener: Any, options: EngineOptions) -> dict[str, Any]:
    """Return what was asked for beside the device (InputError: the function that opens the file does not take it)."""
    asked: dict[str, Any] = {"precision": options.precision} if options.precision is not None else {}
    asked |= {"compiled": True} if options.compiled else {}
    refused = sorted(asked.keys() - inspect.signature(opener).parameters.keys())
    if refused:
        raise InputError(f"{file}: a {file.suffix} file does not take {' or '.join(refused)}; leave it out")
    return asked


def extra_of(entry: EntryPoint) -> str:
    """Return the extra of this project that brings the libraries of an entry point; empty for other packages'."""
    return "train" if entry.value.startswith("training.") else ""


def _library_for(file: Path, library: str) -> str:
    """Return the name of the library that runs the file; empty for an engine that another package adds."""
    if library not in LIBRARIES:
        raise InputError(f"library: got {library!r}, expected {', '.join(LIBRARIES[:-1])} or {LIBRARIES[-1]}")
    kind = ENGINES.get(file.suffix.lower())
    if kind is None and not entry_points(group=ENGINES_GROUP, name=file.suffix[1:]):
        known = ", ".join(f"{suffix} ({kind.library})" for suffix, kind in ENGINES.items())
        raise EngineError(f"{file}: not an engine file; expected one of {known}")
    needed = "" if kind is None else kind.library
    if library not in ("auto", needed):
        raise EngineError(
            f"{file}: {library} cannot run a {file.suffix} file, {needed or 'another library'} can; use library 'auto'"
        )
    return needed
