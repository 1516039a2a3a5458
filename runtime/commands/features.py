"""Run `afsd features VIDEO… --backbone ENGINE --out DIR`: write features of videos for training and detection."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands.detection.failures import sum_up
from runtime.commands.flags.checks import require_beside
from runtime.commands.flags.engine import add_backbone_flags, add_engine_flags, open_backbones
from runtime.commands.flags.ray import add_ray_flags, backbone_paths, engine_options, fleet_options
from runtime.commands.flags.reading import SOURCES_HELP, reading_options
from runtime.common.console import ProgressLine, print_error
from runtime.common.files import require_writable_folder
from runtime.common.ranges import FramesPerSecond, require_in_range
from runtime.common.temporaries import sweep
from runtime.common.text import printable
from runtime.errors import AfsdError, InputError
from runtime.jobs.plan import folders_of, label_of, own_name

if TYPE_CHECKING:
    from runtime.features.folder import ExtractionOptions, FeatureFolder
    from runtime.fleet.options import FleetOptions
    from runtime.fleet.outcome import Outcome
    from runtime.timing import Timing
    from runtime.video.sources import NamedSource


def add_features(subparsers: Any) -> None:
    """Add the verb `features`."""
    parser = subparsers.add_parser(
        "features",
        epilog="examples:\n"
        "  afsd features videos/ --out features --backbone i3d.xml\n"
        "  afsd features videos/ --out features --backbone rgb.xml --flow-backbone flow.xml\n"
        "  afsd features 's3://bucket/videos/*.mp4' --out /shared/features --backbone i3d.onnx --ray auto\n",
        help="make the features of videos",
        description="Make the features of videos with the engines of `afsd export-backbone`: one .npy [T,C] per video "
        "and stream, and their description. Videos that are done are skipped, so an interrupted run can be continued.",
    )
    parser.add_argument("videos", metavar="VIDEO", nargs="+", help=SOURCES_HELP)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the features")
    models = parser.add_argument_group("models")
    add_backbone_flags(models)
    models.add_argument("--flow-method", choices=("auto", "tvl1", "dis"), default="auto", help="optical flow (auto)")
    running = parser.add_argument_group("running")
    running.add_argument(
        "--sample-fps", metavar="FPS", type=float, help="take frames at this rate (default: every frame)"
    )
    running.add_argument("--batch", metavar="N", type=int, help="snippets per call of a backbone (default: 4)")
    add_engine_flags(running)
    add_ray_flags(parser)
    require_beside(parser, {"--flow-method": ("--flow-backbone",)})
    parser.set_defaults(func=features)


def features(arguments: argparse.Namespace) -> int:
    """Run the verb and return 2 if any video failed, after all others are done."""
    from runtime.features.extractor import FeatureExtractor
    from runtime.features.folder import ExtractionOptions, FeatureFolder
    from runtime.video.sources import is_live, list_sources

    fleet = fleet_options(arguments)
    # a job on Ray lists its sources itself, and looks for live ones
    sources = [] if fleet is not None else list_sources(arguments.videos, recursive=arguments.recursive)
    live = [one.source for one in sources if is_live(one.source)]
    if live:
        raise InputError(f"{label_of(live[0])}: a live source has no end; give afsd detect --stream the backbone")
    if not (arguments.backbone or arguments.flow_backbone):
        raise InputError("afsd features: no backbone; give --backbone, --flow-backbone, or both")
    require_in_range("--sample-fps", arguments.sample_fps, FramesPerSecond | None)
    options = ExtractionOptions(
        fps=arguments.fps,
        flow_method=arguments.flow_method,
        **reading_options(arguments),
    )
    require_writable_folder(arguments.out, "choose another with --out")
    if fleet is not None:
        return _make_on_ray(arguments, options, fleet)
    failed: list[str] = []
    with ExitStack() as stack:
        engines = open_backbones(arguments, stack)
        extractor = FeatureExtractor(engines, sample_fps=arguments.sample_fps, batch_size=arguments.batch)
        folder = FeatureFolder(arguments.out, extractor, options)
        for engine in engines:
            place = arguments.out / engine.spec.stream
            require_writable_folder(place, "choose another with --out")
            for name in folders_of(one.name for one in sources):
                sweep(place / name)
        for one in sources:
            try:
                print(f"{label_of(one.source)}: {_write(folder, one, extractor.width)}", flush=True)
            except BrokenPipeError:  # of the reader of stdout: see `main`
                raise
            except (AfsdError, OSError) as error:
                print_error(error)
                failed.append(own_name(one) or label_of(one.source))
    return sum_up(failed, len(sources))


def _make_on_ray(arguments: argparse.Namespace, options: ExtractionOptions, fleet: FleetOptions) -> int:
    """Make the features on Ray, say of each video what became of it, and return 2 if any failed."""
    from runtime.fleet.features import MadeFeatures, extract_features_dataset

    def say(label: str, outcome: Outcome) -> None:
        made = outcome.work.content
        if outcome.work.failure is not None:
            print_error(AfsdError(outcome.work.failure.message))
        elif isinstance(made, MadeFeatures):
            steps = f"{made.steps} steps are there already"
            if made.frames:
                steps = f"{made.steps} steps of {made.frames} frames in {outcome.wall_seconds:.1f} s"
            print(f"{label}: {steps} ({outcome.host})", flush=True)

    summary = extract_features_dataset(
        arguments.videos,
        backbone_paths(arguments),
        out=arguments.out,
        options=options,
        recursive=arguments.recursive,
        sample_fps=arguments.sample_fps,
        batch_size=arguments.batch,
        engine=engine_options(arguments),
        fleet=fleet,
        on_video=say,
    )
    print(summary)
    return sum_up([failed.video for failed in summary.failures], summary.videos)


def _write(folder: FeatureFolder, one: NamedSource, width: int) -> str:
    """Write the features of a video and return a line that describes them."""
    label = label_of(one.source)
    with ProgressLine() as line:
        name, video, timing = folder.add(
            one.source, lambda timing: line.show(f"{label}: {_progress(timing)}"), one.name
        )
    files = printable(", ".join(map(str, folder.paths(name))))
    if timing is None:
        return f"{video.steps} steps are there already, in {files}"
    return (
        f"{video.steps} steps of {width} channels of {timing.frames} frames in {timing.wall_seconds:.1f} s "
        f"({timing.video_fps:.1f} frames/s, {timing.real_time_factor:.2f}× real time), in {files}"
    )


def _progress(timing: Timing) -> str:
    """Return the progress of a video as text."""
    done = f"{timing.video_seconds:.0f} s"
    if timing.expected_frames:
        done = f"{min(timing.frames / timing.expected_frames, 1):.0%}"
    return f"{done}, {timing.real_time_factor:.1f}× real time"
