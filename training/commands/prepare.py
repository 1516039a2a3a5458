"""Add `afsd prepare thumos14 | activitynet | own | features`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from runtime.commands.flags.checks import refuse_flags, require_beside
from runtime.commands.flags.ray import add_ray_flags, fleet_options
from runtime.common.console import EXIT_ERROR
from runtime.errors import InputError, import_failure
from runtime.features.description import FeatureDescription, StreamFolder
from runtime.spec.time_axis import FeatureSampling
from runtime.video.flow import FLOW_METHODS
from runtime.video.sampling import FRAME_TIMINGS


def add_prepare(subparsers: Any) -> None:
    """Add `afsd prepare thumos14|activitynet|own|features`, which makes a checked data set."""
    parser = subparsers.add_parser(
        "prepare",
        epilog="examples:\n"
        "  afsd prepare own mydata --fps 10\n"
        "  afsd prepare thumos14 --tables annotations --videos videos\n",
        help="make a data set ready for training",
        description="Make frame stores, one annotation file and a report of what was odd from videos and annotations; "
        "or check every value of a feature set and describe it. An interrupted run continues where it stopped; a video "
        "that cannot be read is reported and the others continue.",
    )
    sets = parser.add_subparsers(dest="data_set", metavar="DATA_SET", required=True)
    _add_thumos14(sets)
    _add_activitynet(sets)
    _add_own(sets)
    _add_features(sets)


def _add_thumos14(sets: Any) -> None:
    parser = sets.add_parser("thumos14", help="THUMOS14 from its videos and the published tables")
    parser.add_argument("--tables", metavar="DIR", type=Path, required=True, help="folder of the annotation tables")
    parser.add_argument("--videos", metavar="DIR", type=Path, help="folder of the videos of the chosen subsets")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("data/thumos14"), help="default: %(default)s")
    parser.add_argument("--subset", choices=("val", "test", "both"), default="both", help="val is the training set")
    parser.add_argument(
        "--faults",
        choices=("keep", "repair"),
        default="keep",
        help="the tables' known faults; keep: as published",
    )
    parser.add_argument("--check", action="store_true", help="only compare the tables with the published training set")
    _add_store_flags(parser)
    parser.set_defaults(func=_prepare_thumos14)


def _add_activitynet(sets: Any) -> None:
    parser = sets.add_parser("activitynet", help="ActivityNet v1.3 from its videos and its JSON")
    parser.add_argument("--videos", metavar="DIR", type=Path, required=True, help="folder of v_<id>.mp4 or <id>.mp4")
    parser.add_argument("--annotations", metavar="FILE", type=Path, required=True, help="activity_net.v1-3.json")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("data/activitynet"), help="default: %(default)s"
    )
    parser.add_argument("--classes", metavar="FILE", type=Path, help="class names, one a line (default: from the JSON)")
    _add_store_flags(parser)
    parser.set_defaults(func=_prepare_activitynet)


def _add_own(sets: Any) -> None:
    parser = sets.add_parser("own", help="a folder with videos/ and annotations, of any tool")
    parser.add_argument("root", metavar="FOLDER", type=Path, help="holds videos/ and the annotations; stores go there")
    parser.add_argument("--annotations", metavar="NAME", default="annotations.json", help="default: %(default)s")
    parser.add_argument("--fps", type=float, default=10.0, help="frames per second to sample (%(default)s)")
    parser.add_argument("--size", type=int, default=112, help="side of the stored square frame, pixels (%(default)s)")
    parser.add_argument(
        "--whole-video", metavar="T", type=int, help="in place of --fps: sample every video down to T frames"
    )
    parser.add_argument(
        "--timing",
        choices=FRAME_TIMINGS,
        help="take frames by their time stamps, or count them as for the published arrays (as the store has them; "
        "presented in a new one)",
    )
    _add_store_flags(parser)
    parser.set_defaults(func=_prepare_own)


def _add_features(sets: Any) -> None:
    parser = sets.add_parser("features", help="feature files (.npy, .npz), one per video, and an annotation file")
    parser.add_argument(
        "--features",
        metavar="DIR",
        nargs="+",
        required=True,
        help="folder of <video>.npy; two folders are two streams (RGB, then flow); {fold} stands for a fold's name",
    )
    parser.add_argument("--annotations", metavar="FILE", required=True, help="ActivityNet JSON")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder for the description, features.json"
    )
    parser.add_argument(
        "--stride", metavar="FRAMES", type=float, default=1.0, help="frames from one step to the next (%(default)g)"
    )
    parser.add_argument("--window", metavar="FRAMES", type=float, help="frames of a snippet (default: the stride)")
    parser.add_argument("--fps", type=float, help="frame rate the features were made at (default: fps of annotations)")
    parser.add_argument("--offset", metavar="FRAMES", type=float, help="middle of the first step (default: window / 2)")
    parser.add_argument("--every", metavar="N", type=int, default=1, help="use every n-th step (%(default)s)")
    parser.add_argument("--whole-video", action="store_true", help="the steps are spread evenly over each video")
    parser.add_argument("--resize", metavar="T", type=int, help="with --whole-video: resize every video to T steps")
    parser.add_argument(
        "--layout", choices=("auto", "steps_first", "channels_first"), default="auto", help="[T,C], [C,T]"
    )
    parser.add_argument("--prefix", default="", help="part of file names before the video's name")
    parser.add_argument("--suffix", default="", help="part of file names after the video's name, before .npy")
    parser.add_argument("--width", metavar="C", type=int, help="expected number of channels of all streams together")
    parser.add_argument(
        "--uneven",
        choices=("cut", "stretch"),
        default="cut",
        help="align streams of different length (%(default)s)",
    )
    parser.add_argument(
        "--classes", metavar="FILE", type=Path, help="the model's classes, one a line, which must include all labels"
    )
    parser.set_defaults(func=_prepare_features)


def _add_store_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", choices=("rgb", "flow"), nargs="+", default=["rgb"], help="default: rgb")
    parser.add_argument(
        "--flow-method", choices=FLOW_METHODS, default="auto", help="auto: TV-L1 where OpenCV has it, else DIS"
    )
    parser.add_argument("--flow-jpeg", action="store_true", help="compress frames and flow by JPEG, as published")
    parser.add_argument("--allow-truncated", action="store_true", help="read a file that ends early as far as possible")
    parser.add_argument("--workers", metavar="N", type=int, help="processes (default: one per CPU)")
    add_ray_flags(parser)
    require_beside(parser, {"--flow-method": ("--streams flow",)})


def _prepare_thumos14(args: argparse.Namespace) -> int:
    if args.check:
        return _check_thumos14(args.tables)
    if args.videos is None:
        raise InputError("afsd prepare thumos14 needs --videos DIR, or --check to compare only the tables")
    prepare = _load_prepare()
    subsets = ("val", "test") if args.subset == "both" else (args.subset,)
    options = _store_options(args, sample_fps=prepare.THUMOS_FPS)
    return _print_report(
        prepare.prepare_thumos14(
            args.videos, args.tables, args.out, subsets=subsets, faults=args.faults, options=options
        )
    )


def _check_thumos14(tables: Path) -> int:
    """Print the check values and the tables' faults, and return 2 if a value differs."""
    _load_prepare()
    from training.preparation.preparation_report import PreparationReport
    from training.preparation.thumos_check import check_thumos14

    values, found = check_thumos14(tables)
    for value in values:
        print(f"{value.what}: {value.got}" + ("  ok" if value.agrees else f"  DIFFERS, published: {value.expected}"))
    for line in PreparationReport({}, found).lines():
        print(line)
    return 0 if all(value.agrees for value in values) else EXIT_ERROR


def _prepare_activitynet(args: argparse.Namespace) -> int:
    prepare = _load_prepare()
    options = _store_options(args, whole_frames=prepare.ACTIVITYNET_FRAMES)
    return _print_report(
        prepare.prepare_activitynet(args.videos, args.annotations, args.out, classes_file=args.classes, options=options)
    )


def _prepare_own(args: argparse.Namespace) -> int:
    whole = args.whole_video
    if whole is not None:
        refuse_flags(args, ("--fps",), "--whole-video samples each video down to a number of frames")
    options = _store_options(
        args,
        sample_fps=None if whole is not None else args.fps,
        whole_frames=whole,
        frame_size=args.size,
        timing=args.timing,
    )
    return _print_report(_load_prepare().prepare_own(args.root, annotations=args.annotations, options=options))


def _prepare_features(args: argparse.Namespace) -> int:
    try:
        from training.preparation.prepare_features import prepare_features
    except ImportError as error:
        raise import_failure(error, "", "train", "preparing data") from None
    return _print_report(prepare_features(_describe_features(args), args.out, classes_file=args.classes))


def _describe_features(args: argparse.Namespace) -> FeatureDescription:
    try:
        return FeatureDescription(
            annotations=args.annotations,
            streams=tuple(StreamFolder(folder, args.prefix, args.suffix) for folder in args.features),
            sampling=FeatureSampling(
                stride=args.stride,
                window=args.stride if args.window is None else args.window,
                fps=args.fps,
                offset=args.offset,
                every=args.every,
                whole_video=args.whole_video,
            ),
            layout=args.layout,
            width=args.width,
            resize=args.resize,
            uneven=args.uneven,
        )
    except ValueError as error:
        raise InputError(f"afsd prepare features: {error}") from None


def _store_options(args: argparse.Namespace, **sampling: Any) -> Any:
    options = {"sample_fps": None, "whole_frames": None, **sampling}
    return _load_prepare().StoreOptions(
        streams=tuple(args.streams),
        flow_method=args.flow_method,
        flow_jpeg=args.flow_jpeg,
        allow_truncated=args.allow_truncated,
        workers=args.workers,
        fleet=fleet_options(args),
        **options,
    )


def _load_prepare() -> Any:
    try:
        from training.preparation import prepare
    except ImportError as error:
        raise import_failure(error, "", "train", "preparing data") from None
    return prepare


def _print_report(report: Any) -> int:
    """Print the report, and return 2 if a video could not be prepared."""
    for line in report.lines():
        print(line)
    return EXIT_ERROR if report.failed else 0
