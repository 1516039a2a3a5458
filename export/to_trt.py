"""Build a TensorRT engine from a checkpoint or ONNX file: `python export/to_trt.py MODEL [--precision fp16]`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

if __package__ in (None, ""):  # run as a script: make the four packages importable from the source tree
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import onnx

from export.boundary_pooling.function import DOMAIN
from export.comparison.drift import DriftReport
from export.graph.carried_spec import read_carried_spec
from export.graph.convolutions import ConvolutionReport, report_convolutions
from export.graph.export_input import ELSEWHERE, Say
from export.graph.files import save_graph
from export.graph.precision import (
    PRECISIONS,
    QUANTISED,
    Precision,
    emulate_half_on_cpu,
    precision_of,
    require_symmetric,
)
from export.own_files import require_own_files
from export.streaming.clip_view import as_clip_engine
from export.streaming.graph import to_streaming
from export.to_precision import TypedModel, write_typed_onnx
from export.trt.build import BuildOptions, Plan, batch_profile, build_plan, remove_plugin
from export.trt.library import RTX_DEFAULT, Library, find_library, local_gpu
from export.trt.streaming import build_parts, compare_steps
from runtime.common.files import file_sha256, require_writable_folder, write_json
from runtime.common.sizes import file_size
from runtime.common.temporaries import scratch_folder
from runtime.engines import open_engine
from runtime.engines.artifact import settle_model
from runtime.engines.sidecar import write_sidecar
from runtime.engines.streaming import StreamingEngine
from runtime.engines.tensorrt.build_facts import EngineBuild
from runtime.engines.tensorrt.cuda import DeviceFacts
from runtime.engines.two_files import replace_as_one
from runtime.errors import EngineError, ExportError, MissingDependencyError
from runtime.spec.streaming import EDGE, STEADY

SUFFIXES = (".engine", ".plan")

Pooling = Literal["auto", "plugin", "function"]


@dataclass(frozen=True)
class TrtOptions:
    """Holds the options of `export_trt`."""

    precision: Precision | None = None
    """Precision of the heavy layers; None: float16 for a checkpoint or float32 ONNX file, else the ONNX file's own."""
    library: Literal["auto", "tensorrt", "tensorrt-rtx"] = "auto"
    """Library that builds; see `export.trt.library.find_library`."""
    pooling: Pooling = "auto"
    """How the engine computes boundary pooling: "plugin" by the kernel of export/boundary_pooling (TensorRT only),
    "function" by standard operators, "auto" by the plugin where possible."""
    build: BuildOptions = field(default_factory=BuildOptions)
    videos: Sequence[Path] = ()
    """Real videos on which detections are compared with float32; without videos only seeded windows are compared."""
    stream: bool = False
    """Whether the engine is a streaming network, whose backbone sees each frame once (docs/streaming.md)."""

    def __post_init__(self) -> None:
        if self.precision not in (None, *PRECISIONS):
            raise ExportError(f"precision: got {self.precision!r}, expected one of {', '.join(PRECISIONS)}")
        if self.stream and self.build.batch[0] != 1:
            raise ExportError(
                f"--batch: got {self.build.batch[0]} as smallest, expected 1: streaming gives windows one by one, too"
            )


def export_trt(
    path: str | Path,
    out: str | Path | None = None,
    config: str = "",
    options: TrtOptions | None = None,
    say: Say = print,
) -> Path:
    """Build an engine from a checkpoint or an ONNX file.

    First the typed ONNX file is compared and written; then the engine with a sidecar (<stem>.json), the builder's log
    (<engine>.log) and a report (<engine>.report.json). Where this machine can run the engine, its numbers are compared
    before it is written. The graph of a streaming network is compared first, in ONNX Runtime, and its three parts have
    a log each.

    Args:
        path: checkpoint, bare state dict, or ONNX file of this project (float32, half precision, or calibrated).
        out: the .engine file to write; None: <stem>.<precision>.engine beside `path`, of a streaming network
            <stem>.<precision>.stream.engine.
        config: configuration of a bare state dict's network.
        options: see `TrtOptions`.
        say: receives progress and reports.

    Raises:
        CheckpointError, ConfigError, SpecError: the file cannot be read or does not fit.
        ExportError: options or precision do not fit, or the library refuses; no engine is written. Where this machine
            cannot build, the ONNX file is written, and the message has the command for another machine.
    """
    options = TrtOptions() if options is None else options
    path = Path(path)
    _check_out(out)
    library = _find_library(options)
    typed = write_typed_onnx(
        path, options.precision, config, folder=Path(out).parent if out else None, videos=options.videos, say=say
    )
    if typed.precision in QUANTISED:
        require_symmetric(typed.graph, str(typed.path))
    if isinstance(library, str):
        raise ExportError(
            f"{library}; {typed.path} is ready: on the machine with the GPU run {_command(typed, out, options)}"
        )
    target = Path(out) if out else _engine_name(typed, options.stream)
    return _build(typed, library, target, options, say)


def _check_out(out: str | Path | None) -> None:
    """Raise ExportError unless the engine can be written there, before minutes of work."""
    if out is None:
        return
    if Path(out).suffix not in SUFFIXES:
        raise ExportError(f"{out}: expected a file name ending in .engine")
    require_own_files(Path(out))
    require_writable_folder(Path(out).parent, ELSEWHERE)


def _find_library(options: TrtOptions) -> Library | str:
    """Find the library that builds, or return why this machine cannot build; then the ONNX file is still written.

    Raises:
        ExportError: the options contradict each other.
    """
    try:
        library = find_library(options.library, options.build.architectures, gpu=_gpu() is not None)
    except MissingDependencyError as error:
        return str(error)
    if library.name == "tensorrt-rtx":
        if options.pooling == "plugin":
            raise ExportError(f"{library.title} takes no plugins; use --pooling function, or --library tensorrt")
        return library
    try:
        local_gpu()
    except (EngineError, MissingDependencyError) as error:
        return f"{library.title} builds on the GPU it is for: {error}; or use --library tensorrt-rtx"
    return library


def _command(typed: TypedModel, out: str | Path | None, options: TrtOptions) -> str:
    """Return the command line that builds the engine on another machine, without options that have their default."""
    plain, build, given = TrtOptions(), BuildOptions(), options.build
    words = ["python", "export/to_trt.py", str(typed.path)]
    if out is not None:
        words += ["-o", str(out)]
    if options.library != plain.library:
        words += ["--library", options.library]
    if given.architectures:
        words += ["--sm", ",".join(name.replace(".", "") for name in given.architectures)]
    if given.batch != build.batch:
        words += ["--batch", *map(str, given.batch)]
    if options.pooling != plain.pooling:
        words += ["--pooling", options.pooling]
    if given.workspace_gib != build.workspace_gib:
        words += ["--workspace", f"{given.workspace_gib:g}"]
    if given.timing_cache is not None:
        words += ["--timing-cache", str(given.timing_cache)]
    if options.stream:
        words.append("--stream")
    if options.videos:
        words += ["--videos", *map(str, options.videos)]
    return shlex.join(words)


def _build(typed: TypedModel, library: Library, target: Path, options: TrtOptions, say: Say) -> Path:
    """Build the engine, compare it where this machine can run it, and write the files."""
    require_own_files(target)
    device = _gpu()
    if library.name == "tensorrt-rtx" and not options.build.architectures:
        options = replace(options, build=replace(options.build, architectures=RTX_DEFAULT))
    targets = options.build.architectures or ((device.architecture,) if device else ())
    pooling = _choose_pooling(typed.graph, library, options.pooling)
    graph = _make_streaming(typed, say) if options.stream else typed.graph
    spec = read_carried_spec(graph, str(typed.path))
    graph = graph if pooling == "plugin" else remove_plugin(graph)
    build = EngineBuild(
        library=library.name,
        version=library.version,
        architectures=targets,
        precision=typed.precision,
        batch=options.build.batch,
        pooling=pooling,
        gpu=device.name if device and library.name == "tensorrt" else "",
    )
    say(f"building with {library.title} for {_targets(build)}")
    plugin_for = targets[0] if pooling == "plugin" else ""
    if options.stream:
        plan, parts = build_parts(graph, spec, library, options.build, target, say, plugin_for)
        build = replace(build, parts=parts)
    else:
        log, profile = target.with_name(f"{target.name}.log"), batch_profile(spec, options.build.batch)
        plan = build_plan(graph, profile, library, options.build, log, say, plugin_for)
    convolutions = report_convolutions(plan.layers, _with_heads_alone(graph), typed.precision)
    with scratch_folder(target.parent) as folder:
        unfinished = folder / target.name
        unfinished.write_bytes(plan.data)
        sidecar = write_sidecar(unfinished, spec, build)
        drift = _compare_engine(typed, unfinished, build, device, options.videos, say)
        settle_model(target)
        replace_as_one((unfinished, target), file_sha256(unfinished), (sidecar, target.with_suffix(".json")))
    _write_report(target, build, plan, convolutions, drift)
    _say_built(target, plan, convolutions, say)
    return target


def _make_streaming(typed: TypedModel, say: Say) -> onnx.ModelProto:
    """Return the streaming graph of a network on windows, after comparing both in ONNX Runtime on seeded windows.

    Raises:
        ExportError: the network cannot stream, or the numbers differ.
    """
    graph = to_streaming(typed.graph, str(typed.path))
    if typed.precision == "fp8":  # ONNX Runtime fuses some of its convolutions to an operator that takes no fp8
        say("ONNX Runtime does not run fp8 in a streaming graph, so the graph was not compared")
        return graph
    with scratch_folder() as folder:
        path = folder / f"{typed.path.stem}.stream.onnx"
        save_graph(emulate_half_on_cpu(graph) if precision_of(graph) == "bf16" else graph, path)
        say("comparing the streaming graph with the network on windows")
        engine = as_clip_engine(open_engine(path, verify=False))
        try:
            typed.check(engine, (), say)
        finally:
            engine.close()
    return graph


def _with_heads_alone(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose outputs are those of the head, which alone are a network's results; states are none."""
    kept = [value for value in graph.graph.output if not value.name.startswith((f"{STEADY}/", f"{EDGE}/"))]
    if len(kept) == len(graph.graph.output):
        return graph
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return model


def _gpu() -> DeviceFacts | None:
    """Return the facts of this machine's GPU; None if there is none."""
    try:
        return local_gpu()
    except (EngineError, MissingDependencyError):
        return None


def _choose_pooling(graph: onnx.ModelProto, library: Library, asked: Pooling) -> Literal["plugin", "function", "none"]:
    """Choose how the engine computes boundary pooling; "none" if the graph has none."""
    if not any(node.domain == DOMAIN for node in graph.graph.node):
        return "none"
    return "function" if library.name == "tensorrt-rtx" or asked == "function" else "plugin"


def _compare_engine(
    typed: TypedModel, engine: Path, build: EngineBuild, device: DeviceFacts | None, videos: Sequence[Path], say: Say
) -> DriftReport | None:
    """Compare the engine's numbers with the reference's; None if this machine has no GPU that can run the engine."""
    if device is None or device.architecture not in build.architectures:
        say("no GPU here can run this engine, so the engine was not compared; `make gpu-check` on a GPU does that")
        return None
    opened = open_engine(engine)
    loaded = as_clip_engine(opened)
    try:
        if isinstance(opened, StreamingEngine):
            compare_steps(opened, say)
        return typed.check(loaded, videos, say, build.batch[0], build.batch[2])
    finally:
        loaded.close()


def _engine_name(typed: TypedModel, stream: bool) -> Path:
    """Return <stem>.<precision>.engine beside the ONNX file, with the precision only once in the name."""
    named = typed.path.stem.endswith(f".{typed.precision}")
    kind = ".stream" if stream else ""
    return typed.path.with_name(f"{typed.path.stem}{'' if named else f'.{typed.precision}'}{kind}.engine")


def _targets(build: EngineBuild) -> str:
    return build.gpu or ", ".join(f"SM{name.replace('.', '')}" for name in build.architectures)


def _write_report(
    target: Path, build: EngineBuild, plan: Plan, convolutions: ConvolutionReport, drift: DriftReport | None
) -> None:
    content = {
        "build": asdict(build),
        "seconds": round(plan.seconds, 2),
        "bytes": len(plan.data),
        "peak_memory_mib": round(plan.peak_mib),
        "convolutions": {**asdict(convolutions), "share": convolutions.share},
        "drift": asdict(drift) if drift else None,
        "layers": [asdict(layer) for layer in plan.layers],
    }
    write_json(target.with_name(f"{target.name}.report.json"), content)


def _say_built(target: Path, plan: Plan, convolutions: ConvolutionReport, say: Say) -> None:
    for line in convolutions.lines(f"{target.name}.report.json"):
        say(line)
    size = file_size(len(plan.data))
    say(f"wrote {target} ({size}, built in {plan.seconds:.1f} s with at most {plan.peak_mib:,.0f} MiB)")


if __name__ == "__main__":
    from runtime.cli import main

    sys.exit(main(["export", "--to", "tensorrt", *sys.argv[1:]]))
