"""Run `afsd detect ENGINE VIDEO…`: find actions in videos, print a table or JSON, write files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands._failures import sum_up
from runtime.commands._reading import (
    SOURCES_HELP,
    add_reading_flags,
    add_recursive_flag,
    add_settle_flag,
    add_stride_flags,
    reading_options,
)
from runtime.commands._shown import add_shown_flags, check_shown_flags, choose_score, selection_options, selects
from runtime.common.console import ProgressLine, print_error
from runtime.common.files import require_writable_folder
from runtime.common.ranges import Count, Number, require_in_range
from runtime.common.stops import GIVE_OUT_S, give_out_at_stop, shield
from runtime.common.text import printable
from runtime.engines.options import MODES
from runtime.engines.registry import LIBRARIES
from runtime.errors import AfsdError, InputError
from runtime.results.writers import FORMATS

if TYPE_CHECKING:
    from runtime.commands._output import Output
    from runtime.detector import Detector, DetectorOptions
    from runtime.engines import Engine
    from runtime.features.video_features import Features
    from runtime.results.detections import Detections
    from runtime.results.video_scores import VideoScores
    from runtime.spec.model import ModelSpec
    from runtime.timing import Timing


PAGES_FROM = 0.05
"""Lowest score of the detections of a page, which its slider hides at first."""


def add_detect(subparsers: Any) -> None:
    """Add the verb `detect`."""
    parser = subparsers.add_parser(
        "detect",
        epilog="examples:\n"
        "  afsd detect model.xml video.mp4\n"
        "  afsd detect model.xml videos/ --out results --format json csv png\n"
        "  afsd detect model.xml videos/ --out results --format html\n"
        "  afsd detect model.xml match.mp4 --exclusive class --merge-gap 1\n"
        "  afsd detect model.onnx rtsp://camera/1 --stream --json\n",
        help="find actions in videos",
        description="Find actions in videos and print a table of them, the best ones in order of time.",
    )
    parser.add_argument(
        "engine",
        metavar="ENGINE",
        help="model.onnx, an OpenVINO model.xml, a TensorRT model.engine or .plan, or a checkpoint (in PyTorch)",
    )
    parser.add_argument(
        "videos",
        metavar="VIDEO",
        nargs="+",
        help=f"{SOURCES_HELP}, or camera number; for a model on features also an .npy or .npz, or the features.json "
        "of a set",
    )
    models = parser.add_argument_group("further models")
    add_backbone_flags(models)
    add_flow_flags(models)
    add_label_flags(models)
    _add_output_flags(parser.add_argument_group("output"))
    _add_running_flags(parser.add_argument_group("running"))
    parser.set_defaults(func=detect)


def add_backbone_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags for the engines that make features of frames."""
    group.add_argument("--backbone", metavar="ENGINE", help="I3D on RGB that makes the features of a model on features")
    group.add_argument("--flow-backbone", metavar="ENGINE", help="I3D on flow, whose features follow those of RGB")


def open_backbones(arguments: argparse.Namespace, stack: ExitStack) -> list[Engine]:
    """Open the given backbones in the order of the features' channels; the stack closes them.

    Raises:
        InputError: a backbone is on another stream than its flag says.
    """
    engines = []
    alone = argparse.Namespace(**{**vars(arguments), "mode": None})  # an extractor runs one batch after the other
    for option, stream in (("--backbone", "rgb"), ("--flow-backbone", "flow")):
        if path := getattr(arguments, option[2:].replace("-", "_")):
            engines.append(stack.enter_context(closing(open_with(path, alone))))
            if engines[-1].spec.is_backbone and engines[-1].spec.stream != stream:  # a detector is refused later
                raise InputError(f"{option} {path}: it sees {engines[-1].spec.stream}, expected an engine on {stream}")
    return engines


def add_flow_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of a second stream."""
    group.add_argument("--flow-engine", metavar="ENGINE", help="flow model beside an RGB one; their outputs are fused")
    group.add_argument("--flow-method", choices=("auto", "tvl1", "dis"), default="auto", help="optical flow (auto)")


def add_label_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags that name the proposals of a class-agnostic model."""
    group.add_argument(
        "--video-scores",
        metavar="FILE",
        type=Path,
        help="labels for a class-agnostic model: a classifier's scores of the videos, by name (JSON)",
    )
    group.add_argument(
        "--labels-per-video", metavar="K", type=int, default=1, help="best classes of each video (%(default)s)"
    )


def _add_output_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", action="store_true", help="print JSON, not a table; with --stream one object a line")
    formats = ", ".join(f"{name} ({format.description})" for name, format in FORMATS.items())
    group.add_argument(
        "--format",
        metavar="NAME",
        nargs="+",
        choices=tuple(FORMATS),
        help=f"write DIR/<video>.NAME, several if wanted: {formats} (default with --out: json)",
    )
    group.add_argument(
        "--embed", action="store_true", help="with --format html: put the video into its page, in place of a link to it"
    )
    group.add_argument("--csv", action="store_true", help="as --format csv, beside the others")
    group.add_argument("--srt", action="store_true", help="as --format srt, beside the others")
    group.add_argument("--plot", action="store_true", help="as --format png, beside the others")
    group.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="folder of the files (default: the working directory); with --stream lines are appended to "
        "DIR/<video>.jsonl",
    )
    add_overwrite_flag(group)
    group.add_argument("--bom", action="store_true", help="begin CSV files with the mark by which Excel knows UTF-8")
    add_shown_flags(group)
    group.add_argument("--top", metavar="N", type=int, default=20, help="rows of the table per video (%(default)s)")
    group.add_argument("--stream", action="store_true", help="print each detection as soon as it is final")
    add_settle_flag(group)


def add_overwrite_flag(group: argparse._ActionsContainer) -> None:
    """Add the flag that lets results replace files of others."""
    group.add_argument(
        "--overwrite", action="store_true", help="write over files that are no results of afsd (default: refuse)"
    )


def _add_running_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--batch", metavar="N", type=int, default=1, help="windows per call of the engine (%(default)s)")
    add_engine_flags(group)
    add_mode_flag(group)
    add_stride_flags(group)
    group.add_argument(
        "--profile", action="store_true", help="also print where the time of each video went; with --json in it"
    )
    group.add_argument("--nms", choices=("local", "reference"), default="local", help="reference: as published")


def add_engine_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags for running engines and reading videos."""
    group.add_argument("--library", choices=LIBRARIES, default="auto")
    group.add_argument(
        "--device", default="auto", help="cpu, or gpu with an optional index as in gpu:0 (gpu for .engine, else cpu)"
    )
    group.add_argument(
        "--provider", choices=("cuda", "tensorrt"), help="ONNX Runtime's provider for an .onnx file on the GPU (cuda)"
    )
    group.add_argument("--cuda-graph", action="store_true", help="TensorRT engines: one launch for all kernels")
    group.add_argument(
        "--no-verify", action="store_true", help="open engine files without comparing them with their digest (faster)"
    )
    caching = group.add_mutually_exclusive_group()
    caching.add_argument(
        "--cache", metavar="DIR", help="OpenVINO: folder of compiled models for faster starts (the user's cache folder)"
    )
    caching.add_argument("--no-cache", action="store_true", help="OpenVINO: compile at every start, keep nothing")
    group.add_argument("--threads", metavar="N", type=int, help="CPU threads of the engine (all cores)")
    group.add_argument("--precision", choices=("fp32", "bf16"), help="OpenVINO on the CPU: bf16 is faster, less exact")
    group.add_argument(
        "--fps",
        type=float,
        help="frames per second of the videos, in place of their time stamps or where there are none",
    )
    add_recursive_flag(group)
    add_reading_flags(group)


def add_mode_flag(group: argparse._ArgumentGroup) -> None:
    """Add the flag that says how OpenVINO shares the threads among batches."""
    group.add_argument(
        "--mode",
        choices=MODES,
        help="OpenVINO: one batch on all threads, or several at once (throughput for files, latency for live sources)",
    )


def detect(arguments: argparse.Namespace) -> int:
    """Run the verb and return 2 if any video failed, after all others are done."""
    from runtime.commands._output import Output, chosen_formats
    from runtime.detector import Detector
    from runtime.results.video_scores import load_video_scores
    from runtime.spec.model import fuse_specs

    _check(arguments)
    labels = load_video_scores(arguments.video_scores) if arguments.video_scores else None
    if arguments.out is not None or chosen_formats(arguments):
        require_writable_folder(arguments.out or ".", "choose another with --out")
    failed: list[str] = []
    arguments.mode = arguments.mode or _mode_for(arguments)
    with ExitStack() as stack:
        engine = stack.enter_context(closing(open_with(arguments.engine, arguments)))
        flow = arguments.flow_engine and stack.enter_context(closing(open_with(arguments.flow_engine, arguments)))
        backbones = open_backbones(arguments, stack)
        spec = fuse_specs(engine.spec, flow.spec) if flow else engine.spec
        origin = choose_score(arguments, spec)
        detector = Detector(engine, flow_engine=flow, backbone=backbones or None, options=_options(arguments))
        if labels is not None:
            labels.check(detector.spec.classes, arguments.labels_per_video)
        output = Output(arguments, origin)
        sources = list(_expand(arguments, detector.spec))
        output.require_free(sources)
        stack.enter_context(give_out_at_stop(output.finish))
        for source in sources:
            try:
                _detect_one(detector, source, arguments, output, labels)
            except BrokenPipeError:  # of the reader of stdout: see `main`
                raise
            except (AfsdError, OSError) as error:
                print_error(error)
                failed.append(label_of(source))
        with shield(GIVE_OUT_S):
            output.finish()
    return sum_up(failed, len(sources))


def _expand(arguments: argparse.Namespace, spec: ModelSpec) -> Iterator[str | int | Features]:
    """Yield what the arguments stand for; a features.json given to a model on features stands for its videos."""
    from runtime.features.feature_set import list_features
    from runtime.video.sources import expand_sources

    for source in expand_sources(arguments.videos, recursive=arguments.recursive):
        if spec.features is not None and isinstance(source, str) and source.endswith(".json"):
            yield from list_features([Path(source)], spec)
        else:
            yield source


def _options(arguments: argparse.Namespace) -> DetectorOptions:
    from runtime.detector import DetectorOptions

    return DetectorOptions(
        batch_size=arguments.batch,
        # labels change the scores, so what is shown is chosen after labelling
        **({} if arguments.video_scores else {"min_score": lowest_score(arguments), **selection_options(arguments)}),
        nms=arguments.nms,
        settle_seconds=arguments.settle,
        stride=arguments.stride,
        max_latency=arguments.max_latency,
        **reading_options(arguments),
        flow_method=arguments.flow_method,
    )


def lowest_score(arguments: argparse.Namespace) -> float:
    """Return the lowest score of the detections that are needed: pages have weaker ones than are shown at first.

    A selection among the shown ones is for pages, too.
    """
    from runtime.commands._output import chosen_formats

    on_pages = "html" in chosen_formats(arguments) and not selects(arguments)
    return min(arguments.score, PAGES_FROM) if on_pages else float(arguments.score)


def open_with(path: str, arguments: argparse.Namespace) -> Engine:
    """Open an engine with the options that the flags give."""
    from runtime.engines import open_engine
    from runtime.engines.openvino.cache import default_folder

    return open_engine(
        path,
        library=arguments.library,
        device=arguments.device,
        threads=arguments.threads,
        precision=arguments.precision,
        provider=arguments.provider,
        cuda_graph=arguments.cuda_graph,
        mode=getattr(arguments, "mode", None) or "latency",
        cache=None if arguments.no_cache else arguments.cache or default_folder(),
        verify=not arguments.no_verify,
    )


def _mode_for(arguments: argparse.Namespace) -> str:
    """Return how the engine is run: for the sum of all batches, or, where a source is live, for each of them."""
    from runtime.video.sources import STDIN, expand_sources, is_live

    sources = expand_sources(arguments.videos, recursive=arguments.recursive)
    return "latency" if any(is_live(source) or source == STDIN for source in sources) else "throughput"


def _detect_one(
    detector: Detector,
    source: str | int | Features,
    arguments: argparse.Namespace,
    output: Output,
    labels: VideoScores | None,
) -> None:
    from runtime.benchmark.profile import ThreadClock
    from runtime.commands._output import file_of

    def labelled(found: Detections) -> Detections:
        if labels is None:
            return found
        found = labels.label(found, arguments.labels_per_video).above(lowest_score(arguments))
        return found.select(**selection_options(arguments)) if selects(arguments) else found

    if labels is not None and isinstance(source, str) and Path(source).is_file():
        labels.require(Path(source).stem)
    if arguments.stream:
        output.begin()
        with closing(detector.stream(source, fps=arguments.fps)) as parts:  # type: ignore[type-var]  # a generator
            for part in parts:
                output.stream(labelled(part))
        output.end()
        return
    label = label_of(source)
    with ThreadClock() if arguments.profile else nullcontext() as threads:
        with ProgressLine() as line:
            found = detector.run(
                source, fps=arguments.fps, on_progress=lambda timing: line.show(f"{label}: {progress(timing)}")
            )
        output.video(labelled(found), label, detector.timing, threads, file_of(source))


def label_of(source: str | int | Features) -> str:
    """Return a source as it is named to people, in one line, without a URL's password."""
    from runtime.video.sources import is_url, name_of

    return printable(name_of(source)[1] if isinstance(source, str) and is_url(source) else str(source))


def progress(timing: Timing) -> str:
    """Return the progress of a video as text."""
    done = f"{timing.video_seconds:.0f} s"
    if timing.expected_frames:
        done = f"{min(timing.frames / timing.expected_frames, 1):.0%}"
    return f"{done}, {timing.real_time_factor:.1f}× real time"


def _check(arguments: argparse.Namespace) -> None:
    from runtime.commands._output import chosen_formats
    from runtime.video.sources import expand_sources, is_live

    check_shown_flags(arguments)
    require_in_range("--top", arguments.top, Number)
    if arguments.embed and "html" not in chosen_formats(arguments):
        raise InputError("--embed puts the video into its page: give --format html with it")
    require_in_range("--labels-per-video", arguments.labels_per_video, Count)
    if arguments.stream and chosen_formats(arguments):
        raise InputError(
            "--stream prints lines, and appends them to files with --out; leave out --format, --csv, --srt and --plot, "
            "or --stream itself"
        )
    if arguments.stream and arguments.video_scores and selects(arguments):
        raise InputError(
            "--exclusive, --merge-gap and --min-length need the whole video with --video-scores; leave out --stream"
        )
    if arguments.stream and arguments.profile:
        raise InputError("--profile is of whole videos; leave out --stream")
    if arguments.stream and arguments.nms == "reference":
        raise InputError("--nms reference needs the whole video; leave out --stream, or use --nms local")
    sources = expand_sources(arguments.videos, recursive=arguments.recursive)
    live = next((number for number, source in enumerate(sources) if is_live(source)), None)
    name = "" if live is None else label_of(sources[live])
    if live is not None and not arguments.stream:
        raise InputError(f"{name}: a live source has no end; add --stream to see detections as they come")
    if live is not None and live < len(sources) - 1:
        raise InputError(
            f"{name}: a live source has no end, so {label_of(sources[live + 1])} would wait for ever; "
            "afsd watch reads several at once"
        )
