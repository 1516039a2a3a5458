"""Run `afsd watch MODEL SOURCE…`: find actions in live sources for as long as they last."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands.flags.checks import refuse_flags
from runtime.commands.flags.engine import add_engine_flags, add_flow_flags, add_mode_flag, open_with
from runtime.commands.flags.reading import add_settle_flag, add_stride_flags, reading_options
from runtime.commands.flags.shown import add_shown_flags, check_shown_flags, choose_score, selection_options
from runtime.common.console import EXIT_ERROR, print_error, print_json, print_note, print_warning
from runtime.common.ranges import Seconds, require_in_range
from runtime.common.stops import end_well_at_stop
from runtime.common.supervisor import READY, STOPPING, notify
from runtime.common.text import one_line
from runtime.errors import InputError, VideoError, import_failure

if TYPE_CHECKING:
    from runtime.live.events import Event
    from runtime.live.watcher import Watcher

GRACE_SECONDS = 1.8
"""Seconds in which a watch that a signal ends gives out what is final."""


def add_watch(subparsers: Any) -> None:
    """Add the verb `watch`."""
    parser = subparsers.add_parser(
        "watch",
        epilog="examples:\n"
        "  afsd watch model.xml rtsp://camera/1 rtsp://camera/2 --out events\n"
        "  afsd watch model.stream.xml 0 --max-latency 30 --metrics 9000\n"
        "  afsd watch model.xml @cameras.txt --out events --quiet --keep-days 30   (a source a line)\n",
        help="find actions in live sources, for days",
        description="Read cameras, streams and files side by side and print events as JSON lines: detections as soon "
        "as they are final, gaps, losses, reconnections. Ctrl-C and SIGTERM give out what is final and end with 0.",
    )
    parser.add_argument(
        "engine", metavar="MODEL", help="as for afsd detect; a model on frames, on windows or a streaming one"
    )
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="URL of a stream, camera number, or a file, which is read once and as fast as possible; @LIST: a text "
        "file with one a line, which keeps passwords out of the process list",
    )
    add_flow_flags(parser.add_argument_group("further models"))
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", type=Path, help="append the lines of each source to DIR/<name>.jsonl")
    output.add_argument(
        "--keep-days",
        metavar="N",
        type=int,
        help="a file a day (UTC) in place of one: DIR/<name>.<day>.jsonl; those older than N days are removed, with 0 "
        "none",
    )
    output.add_argument("--quiet", action="store_true", help="print no lines; with --out")
    add_shown_flags(output)
    output.add_argument(
        "--metrics",
        metavar="[HOST:]PORT",
        help="serve /metrics for Prometheus and /healthz; on the loopback address unless HOST is given",
    )
    live = parser.add_argument_group("live sources")
    live.add_argument(
        "--stall", metavar="SECONDS", type=float, default=5.0, help="silence after which a stream is lost (%(default)s)"
    )
    live.add_argument(
        "--gap",
        metavar="SECONDS",
        type=float,
        default=1.0,
        help="jump of time stamps that is a gap; more than the slowest camera takes between two frames (%(default)s)",
    )
    live.add_argument(
        "--retry",
        metavar="SECONDS",
        type=float,
        default=30.0,
        help="longest time between attempts to open a lost source; the first come sooner (%(default)s)",
    )
    live.add_argument(
        "--end-when-hung",
        metavar="SECONDS",
        type=float,
        help="end with status 75 once the engine, who reads the lines, or the readers of all sources have hung for so "
        "long, for supervisors that start again what has ended; longer than a batch takes (never)",
    )
    add_settle_flag(live)
    add_stride_flags(live)
    running = parser.add_argument_group("running")
    running.add_argument(
        "--batch",
        metavar="N",
        type=int,
        help="windows, or sources of a streaming model, in one turn of the engine at most (one per source, up to 8)",
    )
    add_engine_flags(running)
    add_mode_flag(running)
    parser.set_defaults(func=watch)


def watch(arguments: argparse.Namespace) -> int:
    """Run the verb and return 2 if any source could not be read."""
    from runtime.detector import Detector, DetectorOptions
    from runtime.live.events import Failed
    from runtime.live.loop_guard import LoopGuard
    from runtime.live.options import WatchOptions
    from runtime.live.watcher import choose_batch
    from runtime.metrics.addresses import parse_address
    from runtime.spec.model import fuse_specs
    from runtime.two_streams import name_pair
    from runtime.video.sources import list_sources

    check_shown_flags(arguments)
    address = None if arguments.metrics is None else parse_address(arguments.metrics)
    if address is not None:
        try:
            from runtime.metrics.server import MetricsServer
        except ImportError as error:
            raise import_failure(error, "prometheus_client", "metrics", "afsd watch --metrics") from None
    if arguments.quiet and arguments.out is None:
        raise InputError("--quiet: nothing would be given out; add --out DIR")
    if arguments.keep_days is not None and arguments.out is None:
        raise InputError("--keep-days: there are no files to keep; add --out DIR")
    require_in_range("--end-when-hung", arguments.end_when_hung, Seconds | None)
    sources = list_sources(arguments.sources, recursive=arguments.recursive)
    options = WatchOptions(arguments.stall, arguments.gap, arguments.retry, arguments.fps)
    with ExitStack() as stack:
        watcher: Watcher | None = None

        def end() -> None:
            if watcher is None:
                raise KeyboardInterrupt
            notify(STOPPING)
            watcher.stop()

        stack.enter_context(end_well_at_stop(end, GRACE_SECONDS))
        engine = stack.enter_context(closing(open_with(arguments.engine, arguments)))
        flow = arguments.flow_engine and stack.enter_context(closing(open_with(arguments.flow_engine, arguments)))
        if engine.spec.stream == "rgb" and not flow:
            refuse_flags(arguments, ("--flow-method",), f"{arguments.engine} sees no flow")
        origin = choose_score(arguments, fuse_specs(engine.spec, flow.spec) if flow else engine.spec)
        detector = Detector(
            engine,
            flow_engine=flow,
            options=DetectorOptions(
                batch_size=choose_batch(len(sources), engine.spec) if arguments.batch is None else arguments.batch,
                min_score=arguments.score,
                **selection_options(arguments),
                settle_seconds=arguments.settle,
                stride=arguments.stride,
                max_latency=arguments.max_latency,
                **reading_options(arguments),
                flow_method=arguments.flow_method,
            ),
            model=name_pair(str(arguments.engine), str(arguments.flow_engine or "")),
        )
        watcher = detector.watch(sources, options)
        append = None if arguments.out is None else _open_files(arguments.out, arguments.keep_days)
        shown = f"detections of score {arguments.score:g} or more" + (f" ({origin})" if origin else "")
        print(f"afsd: watching {one_line(', '.join(watcher.names))}: {watcher.delay}; {shown}", file=sys.stderr)
        if address is not None:
            server = stack.enter_context(MetricsServer(watcher, address))
            print(f"afsd: metrics at {server.address}/metrics, health at {server.address}/healthz", file=sys.stderr)
        stack.enter_context(LoopGuard(watcher, arguments.end_when_hung))
        notify(READY)
        unwritten: set[str] = set()
        losses = Losses()
        for event in stack.enter_context(closing(iter(watcher))):  # type: ignore[type-var]  # a generator
            if append is not None:
                try:
                    append(event)
                except (OSError, InputError) as error:  # of this source's file; the others go on
                    if event.video not in unwritten:
                        print_error(error)
                    unwritten.add(event.video)
            if not arguments.quiet:
                print_json(event.to_dict())
            if isinstance(event, Failed):
                print_error(VideoError(event.reason))
            losses.report(event)
    return EXIT_ERROR if watcher.failed or unwritten else 0


class Losses:
    """Prints a line on stderr when a source is lost, and one when it is back."""

    def __init__(self) -> None:
        self._lost: set[str] = set()

    def report(self, event: Event) -> None:
        """Print what an event says of its source: it is lost, or gives frames again; of other events nothing."""
        from runtime.live.events import Lost, Reconnected, Started

        if isinstance(event, Lost):
            self._lost.add(event.video)
            print_warning(f"{event.reason}; {event.video} is opened again until it is back")
        elif isinstance(event, (Started, Reconnected)) and event.video in self._lost:
            self._lost.remove(event.video)
            seconds = f" after {event.lost_s:.1f} s" if isinstance(event, Reconnected) else ""
            print_note(f"afsd: {event.video} is {'back' if seconds else 'there'}{seconds}")


def _open_files(folder: Path, keep_days: int | None) -> Callable[[Event], None]:
    """Return the function that appends an event to the file of its source, of one for each day with --keep-days."""
    from runtime.live.day_files import DayFiles
    from runtime.results.json_lines import JsonLineFiles

    if keep_days is None:
        files = JsonLineFiles(folder)
        return lambda event: files.append(event.video, event.to_json())
    days = DayFiles(folder, keep_days)
    return lambda event: days.append(event.video, event.to_json(), event.at)
