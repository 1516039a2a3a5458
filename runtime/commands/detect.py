"""Run `afsd detect ENGINE VIDEO…`: find actions in videos, print a table or JSON, write files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands.detection.failures import sum_up
from runtime.commands.detection.opened import OpenedOnce
from runtime.commands.flags.engine import (
    add_backbone_flags,
    add_engine_flags,
    add_flow_flags,
    add_label_flags,
    add_mode_flag,
    open_with,
)
from runtime.commands.flags.ray import add_ray_flags, fleet_options
from runtime.commands.flags.reading import SOURCES_HELP, add_settle_flag, add_stride_flags
from runtime.commands.flags.shown import add_shown_flags, check_shown_flags, choose_score, selects
from runtime.commands.flags.writing import add_overwrite_flag, results_place
from runtime.common.files import require_writable_folder
from runtime.common.ranges import Count, Number, Seconds, require_in_range
from runtime.errors import InputError
from runtime.jobs.row_tables import ROW_TABLES
from runtime.results.writers import FORMATS

if TYPE_CHECKING:
    from runtime.engines import Engine
    from runtime.engines.options import EngineOptions
    from runtime.features.video_features import Features
    from runtime.jobs.plan import VideoJob
    from runtime.results.video_scores import VideoScores
    from runtime.spec.model import ModelSpec
    from runtime.video.sources import NamedSource


def add_detect(subparsers: Any) -> None:
    """Add the verb `detect`."""
    parser = subparsers.add_parser(
        "detect",
        epilog="examples:\n"
        "  afsd detect model.xml video.mp4\n"
        "  afsd detect model.xml videos/ --out results --format json csv png\n"
        "  afsd detect model.xml videos/ --out results --format html\n"
        "  afsd detect model.xml match.mp4 --exclusive class --merge-gap 1\n"
        "  afsd detect model.onnx rtsp://camera/1 --stream --json\n"
        "  afsd detect model.onnx s3://bucket/day1/ --out s3://bucket/found --ray auto --actors 2-8\n",
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
    _add_job_flags(parser.add_argument_group("many videos (docs/many_videos.md)"))
    add_ray_flags(parser)
    parser.set_defaults(func=detect)


def _add_output_flags(group: argparse._ArgumentGroup) -> None:
    printed = group.add_mutually_exclusive_group()
    printed.add_argument("--json", action="store_true", help="print JSON, not a table; with --stream one object a line")
    printed.add_argument(
        "--jsonl", action="store_true", help="print one JSON object per video, a line each, as soon as it is done"
    )
    formats = ", ".join(f"{name} ({format.description})" for name, format in FORMATS.items())
    group.add_argument(
        "--format",
        metavar="NAME",
        nargs="+",
        choices=(*FORMATS, *ROW_TABLES),
        help=f"write DIR/<video>.NAME, several if wanted: {formats} (default with --out: json); parquet, jsonl: "
        "one table of all videos for data tools, DIR/detections.NAME",
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
        type=results_place,
        help="folder of the files, and of the records by which what is done is skipped at the next start; also one of "
        "an object store, as s3://bucket/found (default: the working directory, without records); with --stream lines "
        "are appended to DIR/<video>.jsonl",
    )
    add_overwrite_flag(group)
    group.add_argument("--bom", action="store_true", help="begin CSV files with the mark by which Excel knows UTF-8")
    add_shown_flags(group)
    group.add_argument("--top", metavar="N", type=int, default=20, help="rows of the table per video (%(default)s)")
    group.add_argument("--stream", action="store_true", help="print each detection as soon as it is final")
    add_settle_flag(group)


def _add_running_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--batch", metavar="N", type=int, default=1, help="windows per call of the engine (%(default)s)")
    add_engine_flags(group)
    add_mode_flag(group)
    add_stride_flags(group)
    group.add_argument(
        "--profile", action="store_true", help="also print where the time of each video went; with --json in it"
    )
    group.add_argument("--nms", choices=("local", "reference"), default="local", help="reference: as published")


def _add_job_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fresh",
        action="store_true",
        help="do all videos again; else, with --out, those are skipped that are done by the records in DIR/.afsd: same "
        "video, model and options, files still there. Without --out nothing is recorded: every start does everything",
    )
    group.add_argument(
        "--workers",
        metavar="N",
        type=int,
        help="processes with an engine each; 0: none but this one, so that a crash of a decoder ends the command (what "
        "fills the machine, from 8 videos on)",
    )
    group.add_argument(
        "--patience",
        metavar="S",
        type=float,
        help="seconds without progress in a video after which its worker or actor is ended, so that a drive or decoder "
        "that hangs costs its video alone (600; needs workers, so one is started if none else would be)",
    )
    group.add_argument(
        "--shard",
        metavar="I/N",
        help="do the I-th of N disjoint parts of the list, by the names of the results; all parts may share one --out",
    )
    group.add_argument(
        "--max-errors",
        metavar="N",
        type=int,
        help="end when more than N videos have failed; those in work are still done, but not with --ray (never; 0: at "
        "the first)",
    )


def detect(arguments: argparse.Namespace) -> int:
    """Run the verb and return 2 if any video failed, after all others are done."""
    from runtime.commands.detection.job import DetectJob
    from runtime.commands.detection.output import Output, chosen_formats, chosen_tables
    from runtime.commands.detection.settings import make_settings
    from runtime.jobs.plan import Shard, plan_jobs
    from runtime.jobs.result_place import open_place
    from runtime.jobs.tables import KEPT
    from runtime.results.video_scores import load_video_scores
    from runtime.video.sources import list_sources

    _check(arguments)
    listed = list_sources(arguments.videos, recursive=arguments.recursive)
    _check_sources(arguments, [one.source for one in listed])
    fleet = fleet_options(arguments, **({} if arguments.patience is None else {"patience": arguments.patience}))
    shard = Shard.parse(arguments.shard) if arguments.shard else Shard()
    labels = load_video_scores(arguments.video_scores) if arguments.video_scores else None
    arguments.mode = arguments.mode or _mode_for([one.source for one in listed])
    with ExitStack() as stack:
        place = None
        if arguments.out is not None:
            place = stack.enter_context(open_place(arguments.out, KEPT, advice="choose another with --out"))
        elif chosen_formats(arguments) or chosen_tables(arguments):
            require_writable_folder(".", "choose another with --out")
        engines = OpenedOnce(arguments, stack, open_with)
        spec = engines.spec()
        origin = choose_score(arguments, spec)
        if labels is not None:
            labels.check(spec.classes, arguments.labels_per_video)
        jobs = plan_jobs(list(_with_features(listed, spec)), labelled=labels is not None)
        if arguments.stream:
            return _stream(arguments, engines, jobs, labels)
        chosen = [job for job in jobs if shard.holds(job)]
        output = Output(arguments, origin, jobs)
        settings = make_settings(arguments, jobs, None if place is None else place.records)
        job = DetectJob(arguments, settings, jobs, chosen, output, place, shard)
        return job.run(arguments.workers, arguments.device.split(","), arguments.threads, engines.open_worker, fleet)


def _stream(
    arguments: argparse.Namespace, engines: OpenedOnce, jobs: list[VideoJob], labels: VideoScores | None
) -> int:
    """Print detections as they become final."""
    from runtime.commands.detection.settings import make_settings
    from runtime.commands.detection.streamed import stream_videos
    from runtime.detector import Detector

    settings = make_settings(arguments, jobs)
    running = settings.engine_options
    with ExitStack() as stack:

        def opened(path: str, options: EngineOptions) -> Engine:
            return stack.enter_context(closing(engines.open(path, options)))

        detector = Detector(
            opened(settings.engine, running),
            flow_engine=opened(settings.flow_engine, running) if settings.flow_engine else None,
            backbone=[opened(path, replace(running, mode="latency")) for path in settings.backbones] or None,
            options=settings.detector_options,
        )
        failed = stream_videos(detector, jobs, arguments, labels, settings.options.min_score)
    return sum_up(failed, len(jobs))


def _with_features(listed: Sequence[NamedSource], spec: ModelSpec) -> Iterator[NamedSource | Features]:
    """Yield the sources of a list; a features.json given to a model on features stands for its videos."""
    from runtime.features.feature_set import list_features

    for one in listed:
        if spec.features is not None and isinstance(one.source, str) and one.source.endswith(".json"):
            yield from list_features([Path(one.source)], spec)
        else:
            yield one


def _mode_for(sources: Sequence[str | int]) -> str:
    """Return how the engine is run: for the sum of all batches, or, where a source is live, for each of them."""
    from runtime.video.sources import STDIN, is_live

    return "latency" if any(is_live(source) or source == STDIN for source in sources) else "throughput"


def _check(arguments: argparse.Namespace) -> None:
    from runtime.commands.detection.output import chosen_formats, chosen_tables
    from runtime.jobs.row_tables import import_pyarrow

    check_shown_flags(arguments)
    if "parquet" in chosen_tables(arguments):
        import_pyarrow()
    require_in_range("--top", arguments.top, Number)
    if arguments.embed and "html" not in chosen_formats(arguments):
        raise InputError("--embed puts the video into its page: give --format html with it")
    if arguments.bom and "csv" not in chosen_formats(arguments):
        raise InputError("--bom marks CSV files: give --csv or --format csv with it")
    require_in_range("--labels-per-video", arguments.labels_per_video, Count)
    if arguments.labels_per_video > 1 and not arguments.video_scores:
        raise InputError("--labels-per-video is of a classifier's scores: give --video-scores with it")
    if arguments.fresh and arguments.out is None:
        raise InputError("--fresh does again what the records in --out have as done: give --out with it")
    require_in_range("--workers", arguments.workers, Number | None)
    require_in_range("--max-errors", arguments.max_errors, Number | None)
    require_in_range("--patience", arguments.patience, Seconds | None)
    if arguments.patience is not None and arguments.workers == 0:
        raise InputError("--patience is of worker processes, which can be ended; leave it out with --workers 0")
    if "," in arguments.device and arguments.workers == 0:
        raise InputError(f"--device: got {arguments.device}; several devices need a worker each, leave out --workers 0")
    for option in ("jsonl", "shard", "workers", "max_errors", "patience", "fresh") if arguments.stream else ():
        if getattr(arguments, option) is not None and getattr(arguments, option) is not False:
            raise InputError(f"--{option.replace('_', '-')} is of whole videos; leave out --stream")
    if arguments.stream and arguments.out is not None and not isinstance(arguments.out, Path):
        raise InputError(
            f"--stream appends lines to files, which no object store can; got --out {arguments.out}, expected a folder "
            "of this machine"
        )
    if arguments.stream and (chosen_formats(arguments) or chosen_tables(arguments)):
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
    if arguments.stream and "," in arguments.device:
        raise InputError(f"--device: got {arguments.device}, expected one device with --stream")


def _check_sources(arguments: argparse.Namespace, sources: Sequence[str | int]) -> None:
    """Check that no source without an end stands where one with an end is needed (InputError: one does)."""
    from runtime.jobs.plan import label_of
    from runtime.video.sources import is_live

    live = next((number for number, source in enumerate(sources) if is_live(source)), None)
    name = "" if live is None else label_of(sources[live])
    if live is not None and not arguments.stream:
        raise InputError(f"{name}: a live source has no end; add --stream to see detections as they come")
    if live is not None and live < len(sources) - 1:
        raise InputError(
            f"{name}: a live source has no end, so {label_of(sources[live + 1])} would wait for ever; "
            "afsd watch reads several at once"
        )
