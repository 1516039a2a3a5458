"""Run `afsd triton MODEL --out REPO`: write a model repository for NVIDIA's Triton Inference Server."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from runtime.commands.flags.reading import add_reading_flags, add_stride_flags, reading_options
from runtime.commands.flags.shown import add_shown_flags, check_shown_flags, choose_score, selection_options
from runtime.common.text import printable


def add_triton(subparsers: Any) -> None:
    """Add the verb `triton`."""
    parser = subparsers.add_parser(
        "triton",
        epilog="examples:\n"
        "  afsd triton model.xml --out repository --root /srv/videos\n"
        "  afsd triton model.engine --out repository --device gpu:0,gpu:1 --instances 2 --network-in-triton\n",
        help="a model repository for the Triton Inference Server",
        description="Write models for Triton: NAME takes whole videos, NAME_stream chunks of frames by sequence, "
        "NAME_network is the network alone. The server's Python needs this package, numpy, av, OpenCV and the engine's "
        "library; REPO/README.txt has the list. See docs/triton.md.",
    )
    parser.add_argument("engine", metavar="MODEL", help=".onnx, OpenVINO .xml, or TensorRT .engine or .plan")
    parser.add_argument("--out", metavar="REPO", type=Path, required=True, help="folder; models of others in it stay")
    parser.add_argument("--name", default="afsd", help="name of the model of whole videos (%(default)s)")
    models = parser.add_argument_group("further models")
    for option, text in (
        ("--flow-engine", "flow model beside an RGB one; their outputs are fused"),
        ("--backbone", "I3D on RGB that makes the features of a model on features"),
        ("--flow-backbone", "I3D on flow, whose features follow those of RGB"),
    ):
        models.add_argument(option, metavar="ENGINE", help=text)
    models.add_argument("--flow-method", choices=("auto", "tvl1", "dis"), default="auto", help="optical flow (auto)")
    _add_serving_flags(parser.add_argument_group("serving"))
    shown = parser.add_argument_group("detections")
    add_shown_flags(shown)
    add_stride_flags(shown)
    add_reading_flags(shown)
    parser.set_defaults(func=triton)


def _add_serving_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--device", default="auto", help="cpu, or GPUs as in gpu:0,gpu:1 (gpu:0 for .engine, else cpu)")
    group.add_argument("--instances", metavar="N", type=int, default=1, help="of each model, on each GPU (%(default)s)")
    group.add_argument("--threads", metavar="N", type=int, help="CPU threads of the engine of an instance (all cores)")
    group.add_argument("--precision", choices=("fp32", "bf16"), help="OpenVINO on the CPU: bf16 is faster, less exact")
    group.add_argument("--batch", metavar="N", type=int, default=1, help="windows of a video in a call (%(default)s)")
    group.add_argument(
        "--network",
        choices=("native", "python", "none"),
        default="native",
        help="what runs NAME_network: Triton's backend for the file, a Python model, or leave it out (%(default)s)",
    )
    group.add_argument(
        "--network-in-triton",
        action="store_true",
        help="let NAME and NAME_stream run the network in NAME_network, where Triton joins the windows of all requests",
    )
    group.add_argument(
        "--max-batch", metavar="N", type=int, default=8, help="largest batch of NAME_network (%(default)s)"
    )
    group.add_argument(
        "--batch-delay", metavar="US", type=int, default=0, help="microseconds to wait for a fuller batch (%(default)s)"
    )
    group.add_argument("--queue", metavar="N", type=int, default=64, help="requests that may wait (%(default)s)")
    group.add_argument("--max-wait", metavar="S", type=float, help="longest time that a request waits (any)")
    group.add_argument(
        "--max-sequences", metavar="N", type=int, default=64, help="streams at a time of an instance (%(default)s)"
    )
    group.add_argument(
        "--idle", metavar="SECONDS", type=float, default=300.0, help="longest wait for a stream's chunk (%(default)s)"
    )
    group.add_argument("--max-mb", metavar="MIB", type=int, default=512, help="largest video or chunk (%(default)s)")
    group.add_argument("--max-seconds", metavar="S", type=float, default=43_200, help="longest video (%(default)s)")
    group.add_argument(
        "--max-processing", metavar="S", type=float, default=14_400, help="longest time for a video (%(default)s)"
    )
    group.add_argument(
        "--max-held-mb", metavar="MIB", type=int, default=4096, help="chunks that an instance holds (%(default)s)"
    )
    group.add_argument("--root", metavar="DIR", type=Path, help="folder below which PATH is read (none: no path is)")
    group.add_argument(
        "--url",
        metavar="PREFIX",
        action="append",
        default=[],
        help="beginning of addresses that URL may have, as in https://host/videos/; several times if wanted (none)",
    )


def triton(arguments: argparse.Namespace) -> int:
    """Run the verb."""
    from runtime.detector import DetectorOptions
    from runtime.triton.configs import Placement
    from runtime.triton.planning import Repository
    from runtime.triton.repository import write_repository
    from runtime.triton.serving import NETWORKS
    from runtime.triton.settings import MIB, Settings
    from runtime.triton.sources import require_root, require_url_prefix

    check_shown_flags(arguments)
    for prefix in arguments.url:
        require_url_prefix(prefix)
    origin = choose_score(arguments, _spec(arguments))
    options = DetectorOptions(
        batch_size=arguments.batch,
        min_score=arguments.score,
        **selection_options(arguments),
        stride=arguments.stride,
        max_latency=arguments.max_latency,
        **reading_options(arguments),
        flow_method=arguments.flow_method,
    )
    settings = Settings(
        "",
        threads=arguments.threads,
        precision=arguments.precision,
        detector=options,
        root=require_root(arguments.root),
        url_prefixes=tuple(arguments.url),
        max_bytes=arguments.max_mb * MIB,
        max_video_s=arguments.max_seconds,
        max_processing_s=arguments.max_processing,
        max_sequences=arguments.max_sequences,
        max_held_bytes=arguments.max_held_mb * MIB,
        idle_s=arguments.idle,
    )
    repository = Repository(
        {role: Path(path) for role in NETWORKS if (path := getattr(arguments, role))},
        arguments.name,
        settings,
        Placement(
            device=arguments.device,
            instances=arguments.instances,
            max_batch=arguments.max_batch,
            delay_us=arguments.batch_delay,
            queue=arguments.queue,
            wait_s=arguments.max_wait,
        ),
        arguments.network,
        arguments.network_in_triton,
    )
    for line in write_repository(repository, arguments.out):
        print(printable(line))
    print(f"detections of score {arguments.score:g} or more" + (f" ({origin})" if origin else ""))
    print(printable(f"{arguments.out}: tritonserver --model-repository={arguments.out}; README.txt says what it needs"))
    return 0


def _spec(arguments: argparse.Namespace) -> Any:
    """Return the spec of the model; for two streams the fused one."""
    from runtime.spec.model import fuse_specs
    from runtime.triton.planning import read_engine

    spec = read_engine(Path(arguments.engine)).spec
    return fuse_specs(spec, read_engine(Path(arguments.flow_engine)).spec) if arguments.flow_engine else spec
