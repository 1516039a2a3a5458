"""Run `afsd serve MODEL`: detect in videos that clients send over HTTP."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands.flags.engine import add_backbone_flags, add_library_flags, opening_options
from runtime.common.console import print_note
from runtime.common.files import is_folder, read_text
from runtime.common.processors import usable_cores
from runtime.common.stops import end_well_at_stop
from runtime.errors import InputError, import_failure

if TYPE_CHECKING:
    from runtime.service.options import ServiceOptions
    from runtime.service.server import Running

AFTER_GRACE_S = 15.0
"""Seconds that a service may take beyond its grace until it ends: for workers that stop no job, for clients that see
how their jobs ended, and for the last answers. A supervisor has to wait for the sum."""
SHORTEST_TOKEN = 16
"""Least letters of a token."""


def add_serve(subparsers: Any) -> None:
    """Add the verb `serve`."""
    parser = subparsers.add_parser(
        "serve",
        epilog="examples:\n"
        "  afsd serve model.xml\n"
        "  afsd serve model.xml --port 9000 --workers 2 --root videos/\n"
        "  afsd serve model.engine --host 0.0.0.0 --token-file token --allowed-host detect.example\n",
        help="find actions in videos that are sent over HTTP",
        description="Serve detection over HTTP: a start page, jobs with JSON and pages, live frames, metrics; see "
        "docs/service.md. Try: curl -F video=@match.mp4 http://127.0.0.1:8000/v1/jobs. SIGTERM and Ctrl-C let running "
        "jobs end; a second one ends at once.",
    )
    parser.add_argument(
        "engine", metavar="MODEL", help="as for afsd detect; a model on frames, or on features with --backbone"
    )
    place = parser.add_argument_group("place")
    place.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s, this machine alone)")
    place.add_argument("--port", type=int, default=8000, help="port, 0 for any that is free (%(default)s)")
    place.add_argument(
        "--allowed-host", metavar="NAME", nargs="+", default=[],
        help="names by which clients reach the service, beside localhost and addresses in numbers",
    )  # fmt: skip
    place.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help="file with a secret that requests must bring (Authorization: Bearer)",
    )
    place.add_argument(
        "--behind-tls", action="store_true", help="clients come by a proxy with TLS: mark the cookie for TLS alone"
    )
    place.add_argument("--root", metavar="DIR", type=Path, help="folder whose videos clients may name by path (none)")
    place.add_argument(
        "--allow-private-urls", action="store_true", help="fetch from private networks and from this machine, too"
    )
    bounds = parser.add_argument_group("limits")
    bounds.add_argument("--workers", metavar="N", type=int, help="processes with an engine each (one for each device)")
    bounds.add_argument("--queue", metavar="N", type=int, default=32, help="jobs that may wait; then 429 (%(default)s)")
    bounds.add_argument("--max-upload", metavar="MIB", type=int, default=2048, help="largest video (%(default)s)")
    bounds.add_argument("--max-seconds", metavar="S", type=float, default=14_400, help="longest video (%(default)s)")
    bounds.add_argument(
        "--max-processing", metavar="S", type=float, default=3600, help="longest time on a worker (%(default)s)"
    )
    bounds.add_argument(
        "--max-live", metavar="N", type=int, default=1, help="live inputs at once; 0: none (%(default)s)"
    )
    bounds.add_argument(
        "--keep", metavar="S", type=float, default=3600, help="seconds that ended jobs stay (%(default)s)"
    )
    bounds.add_argument(
        "--disk", metavar="MIB", type=int, default=20_480, help="videos and results at a time (%(default)s)"
    )
    bounds.add_argument(
        "--memory", metavar="MIB", type=int, default=4096,
        help="memory of a worker beyond its loaded engine, on Linux; 0: any (%(default)s)",
    )  # fmt: skip
    bounds.add_argument(
        "--max-receive",
        metavar="S",
        type=float,
        default=3600,
        help="longest time in which a video is sent or fetched (%(default)s)",
    )
    bounds.add_argument(
        "--patience", metavar="S", type=float, default=30, help="longest silence of a client (%(default)s)"
    )
    bounds.add_argument(
        "--grace",
        metavar="S",
        type=float,
        default=30,
        help="seconds of running jobs when the service stops (%(default)s)",
    )
    bounds.add_argument(
        "--end-without-worker",
        metavar="S",
        type=float,
        default=900,
        help="end with status 2 once no worker could be opened for so long, so that a supervisor starts the service "
        "again (%(default)s)",
    )
    models = parser.add_argument_group("models")
    models.add_argument("--flow-engine", metavar="ENGINE", help="flow model beside an RGB one; their outputs are fused")
    add_backbone_flags(models)
    models.add_argument(
        "--score", type=float, help="leave out detections below this score unless a job asks for them (the model's own)"
    )
    models.add_argument(
        "--batch", metavar="N", type=int, default=1, help="windows per call of the engine (%(default)s)"
    )
    add_library_flags(models)
    parser.set_defaults(func=serve)


def serve(arguments: argparse.Namespace) -> int:
    """Run the verb until a signal ends it, and return 0."""
    try:
        import python_multipart  # noqa: F401 — used where a form comes in
        import websockets  # noqa: F401 — used by uvicorn

        from runtime.service.server import Service
    except ImportError as error:
        raise import_failure(error, "starlette", "serve", "afsd serve") from None
    from runtime.service.workers.worker import Models

    options = _options(arguments)
    devices = tuple(arguments.device.split(","))
    if arguments.threads is None and options.workers > 1:  # else each engine takes all cores
        arguments.threads = max(1, usable_cores() // options.workers)
    models = Models(
        arguments.engine,
        arguments.flow_engine,
        tuple(path for path in (arguments.backbone, arguments.flow_backbone) if path),
        arguments.batch,
        opening_options(arguments) | {"mode": "throughput"},
        devices,
    )
    service = Service(models, options, lambda text: print_note(f"afsd: {text}"))

    def started(running: Running) -> None:
        model, score = running.model, options.score
        if model["demonstration"]:
            print_note(
                f"afsd: {arguments.engine} is a demonstration model: it knows {model['demonstration']} and nothing else"
            )
        own = "the model's own threshold" if model["own_threshold"] else "the default; see docs/scores.md"
        origin = f"{model['threshold']:g} ({own})" if score is None else f"{score:g}"
        print_note(
            f"afsd: serving {model['model']} ({model['library']}, {model['device']}) at {running.address}, "
            f"{options.workers} worker{'' if options.workers == 1 else 's'}; detections of score {origin} or more"
        )
        if options.host not in ("127.0.0.1", "::1", "localhost") and not options.token:
            print_note("afsd: whoever reaches this address may use it: give --token-file, or put a proxy before it")

    with end_well_at_stop(service.stop, options.grace + AFTER_GRACE_S, service.kill):
        service.run(started)
    return 0


def _options(arguments: argparse.Namespace) -> ServiceOptions:
    from runtime.service.options import MIB, ServiceOptions

    if arguments.root is not None and not is_folder(arguments.root):
        raise InputError(f"--root {arguments.root}: no such folder; expected one with videos")
    return ServiceOptions(
        host=arguments.host,
        port=arguments.port,
        workers=len(arguments.device.split(",")) if arguments.workers is None else arguments.workers,
        queue=arguments.queue,
        max_upload=arguments.max_upload * MIB,
        max_seconds=arguments.max_seconds,
        max_processing=arguments.max_processing,
        max_live=arguments.max_live,
        keep=arguments.keep,
        disk=arguments.disk * MIB,
        memory=arguments.memory * MIB,
        max_receive=arguments.max_receive,
        patience=arguments.patience,
        grace=arguments.grace,
        longest_without_worker=arguments.end_without_worker,
        score=arguments.score,
        batch_size=arguments.batch,
        root=arguments.root,
        private_urls=arguments.allow_private_urls,
        token=_read_token(arguments.token_file),
        behind_tls=arguments.behind_tls,
        hosts=tuple(arguments.allowed_host),
    )


def _read_token(path: Path | None) -> str:
    """Return the token in a file; empty for none (InputError: it is too short)."""
    if path is None:
        return ""
    try:
        token = read_text(path, largest=4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {path}: cannot be read ({error}); expected a secret of one line") from None
    if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise InputError(
            f"--token-file {path}: expected at least {SHORTEST_TOKEN} letters and digits in one line, as openssl rand "
            "-hex 32 prints"
        )
    return token
