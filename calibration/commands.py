"""Define `afsd calibrate`; onnx and onnxruntime are imported only when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from runtime.commands.flags.checks import require_beside
from runtime.commands.flags.writing import add_overwrite_flag
from runtime.errors import InputError, VideoError, import_failure
from runtime.jobs.plan import label_of
from runtime.video.names import find_video
from runtime.video.sources import expand_sources, is_url


def add_calibrate(subparsers: Any) -> None:
    """Add `afsd calibrate MODEL.onnx --videos … --target openvino|tensorrt -o MODEL.int8.onnx`."""
    parser = subparsers.add_parser(
        "calibrate",
        epilog="examples:\n"
        "  afsd calibrate model.onnx --videos clips/ --target openvino\n"
        "  afsd calibrate model.onnx --videos clips/ --target tensorrt -o model.int8.onnx\n",
        help="INT8 (or FP8): measure ranges on videos, write a quantised ONNX file, report the loss of accuracy",
        description="Measures the ranges of a float32 ONNX network on your videos, writes an ONNX file whose heavy "
        "layers are 8 bit, and reports what that does to detections. `afsd export` makes an engine of the file.",
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="float32 ONNX file of this project")
    parser.add_argument("-o", "--out", type=Path, help="file to write (default: <stem>.int8.onnx beside MODEL)")
    parser.add_argument("--target", choices=("openvino", "tensorrt"), default="openvino", help="default: %(default)s")
    parser.add_argument(
        "--numbers", choices=("uint8", "int8", "fp8"), help="type of activations (default: the target's)"
    )
    _add_measuring(parser.add_argument_group("measuring"))
    _add_remedies(parser.add_argument_group("remedies, free at run time"))
    _add_judging(parser.add_argument_group("judging"))
    parser.set_defaults(func=_calibrate)
    require_beside(
        parser,
        {
            "--percentile": ("--method percentile",),
            "--clips": ("--videos", "--features"),
            "--seed": ("--videos", "--features"),
            "--subset": ("--annotations",),
            "--by": ("--max-drop", "--trade-off"),
            "--data": ("--fine-tune",),
            "--steps": ("--fine-tune",),
            "--learning-rate": ("--fine-tune",),
        },
    )


def _add_measuring(group: Any) -> None:
    group.add_argument(
        "--videos", nargs="+", default=[], metavar="VIDEO", help="files or folders that clips are drawn from"
    )
    group.add_argument(
        "--features", nargs="+", default=[], type=Path, metavar="DIR",
        help="for a model on features: folder of <video>.npy or .npz, one per stream; --videos and --test then take "
        "names of videos (default: --test those annotated, --videos all others)",
    )  # fmt: skip
    group.add_argument("--clips", type=int, default=64, metavar="N", help="windows to draw (default: %(default)s)")
    group.add_argument("--seed", type=int, default=0, help="seed of the draw (default: %(default)s)")
    group.add_argument(
        "--method", choices=("minmax", "percentile", "entropy", "mse", "output"), default="minmax",
        help="how ranges are chosen (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--percentile", type=float, default=99.99, help="for that method (default: %(default)s)")
    group.add_argument("--table", type=Path, metavar="FILE", help="ranges measured before (….ranges.json)")
    group.add_argument("--keep", nargs="+", default=[], metavar="LAYER", help="layers that stay in floating point")


def _add_remedies(group: Any) -> None:
    group.add_argument("--equalise", action="store_true", help="scale channels that share a range to similar size")
    group.add_argument("--correct-bias", action="store_true", help="subtract each layer's mean error from its bias")
    group.add_argument(
        "--fine-tune", type=Path, metavar="CHECKPOINT",
        help="last resort: train the checkpoint that MODEL was exported from further, with its layers rounded",
    )  # fmt: skip
    group.add_argument(
        "--data", default="", metavar="ROOT", help="root of the training data (default: the checkpoint's own)"
    )
    group.add_argument("--steps", type=int, default=200, help="optimiser steps (default: %(default)s)")
    group.add_argument("--learning-rate", type=float, default=0.0, help="default: derived from the checkpoint's own")


def _add_judging(group: Any) -> None:
    group.add_argument("--test", nargs="+", default=[], metavar="VIDEO", help="files or folders to judge on")
    group.add_argument(
        "--annotations", type=Path, metavar="FILE",
        help="ground truth of the test videos; without it the float network's own detections serve as labels",
    )  # fmt: skip
    group.add_argument("--subset", default="", help="subset of the annotations (default: the only one, else test)")
    group.add_argument(
        "--max-drop", type=float, metavar="POINTS", help="restore layers until mAP drops by no more than this"
    )
    group.add_argument(
        "--by", choices=("alone", "restored"), default="alone",
        help="cost of a layer: this layer alone quantised, or alone restored (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--trade-off", action="store_true", help="restore up to all layers and plot the trade-off")
    group.add_argument("--force", action="store_true", help="calibrate even on test videos")
    add_overwrite_flag(group)


def _calibrate(args: argparse.Namespace) -> int:
    try:
        from calibration.calibrate import calibrate, require_own_side_files
        from calibration.options import CalibrationOptions
        from calibration.tuning.fine_tune import FineTuning, Tuning
    except ImportError as error:
        raise import_failure(error, "", "export", "calibration") from None
    options = CalibrationOptions(
        target=args.target,
        numbers=args.numbers,
        method=args.method,
        percentile=args.percentile,
        clips=args.clips,
        seed=args.seed,
        equalise=args.equalise,
        correct_bias=args.correct_bias,
        keep=tuple(args.keep),
        max_drop=args.max_drop,
        way=args.by,
        trade_off=args.trade_off,
        force=args.force,
        tune=Tuning(args.fine_tune, args.data, FineTuning(args.steps, args.learning_rate)) if args.fine_tune else None,
    )
    precision = "fp8" if options.stored == "fp8" else "int8"
    out = args.out or args.model.with_name(f"{args.model.stem}.{precision}.onnx")
    if not args.overwrite:
        require_own_side_files(out)
    videos, test = _list_features(args) if args.features else (_list_files(args.videos, "--videos"), _test_set(args))
    calibrate(args.model, out, options, videos=videos, table=args.table, test=test)
    return 0


def _list_features(args: argparse.Namespace) -> tuple[list[Any], Any]:
    """Return the videos to calibrate on and the test set, from folders of features."""
    from calibration.options import TestSet
    from export.graph.carried_spec import read_carried_spec
    from export.graph.files import load_graph
    from runtime.annotations.ground_truth import load_ground_truth
    from runtime.features.feature_set import list_features, open_model_features

    test, judging = None, []
    spec = read_carried_spec(load_graph(args.model), str(args.model))
    if args.annotations is not None:
        truth = load_ground_truth(args.annotations, None if args.subset == "all" else args.subset)
        if args.test:
            truth = tuple(video for video in truth if video.name in args.test)
        if not truth:
            raise InputError(f"{args.annotations}: names none of the test videos; give other names with --test")
        features = open_model_features(args.features, spec, truth)
        judging = [features.features(video.name) for video in truth]
        test = TestSet(tuple(judging), truth)
    elif args.test:
        judging = list_features(args.features, spec, args.test)
        test = TestSet(tuple(judging))
    if args.videos or args.table:
        return list_features(args.features, spec, args.videos) if args.videos else [], test
    judged = {path.resolve() for video in judging for path in video.paths}
    everything = list_features(args.features, spec)
    others = [video for video in everything if judged.isdisjoint(path.resolve() for path in video.paths)]
    if not others:
        raise InputError(
            f"--features: all {len(judging)} videos are test videos, so none is left for clips; name the test "
            "videos with --test or --subset"
        )
    return others, test


def _list_files(arguments: list[str], flag: str) -> list[Path]:
    """Return video files; a folder stands for the videos in it."""
    sources = expand_sources(arguments)
    for source in sources:
        if is_url(source):
            raise InputError(f"{flag} {label_of(str(source))}: an address; copy the videos to a folder here")
    files = [Path(str(source)) for source in sources]
    for file in files:
        if not file.is_file():
            raise InputError(f"{flag} {file}: no such video file, and no folder of videos")
    return files


def _test_set(args: argparse.Namespace) -> Any:
    """Return the test videos; with annotations only the files whose videos the subset contains."""
    from calibration.options import TestSet
    from runtime.annotations.ground_truth import load_ground_truth
    from runtime.annotations.video_rates import warn_of_other_rates

    if not args.test:
        if args.annotations:
            raise InputError("--annotations are for test videos; give --test VIDEO or FOLDER as well")
        return None
    files = _list_files(args.test, "--test")
    if args.annotations is None:
        return TestSet(tuple(files))
    truth = load_ground_truth(args.annotations, None if args.subset == "all" else args.subset)
    folders = {file.parent for file in files}
    given = {file.resolve() for file in files}
    chosen = []
    for video in truth:
        for folder in folders:
            try:
                found = find_video(folder, video.name)
            except VideoError:  # the video may be in another folder
                continue
            if found.resolve() in given:
                chosen.append((found, video))
                break
    if not chosen:
        raise InputError(f"{args.annotations}: names none of the {len(files)} test videos; give the right folder")
    if len(chosen) < len(files):
        print(f"{len(files) - len(chosen)} of {len(files)} test videos are not in the annotations and are left out")
    test = TestSet(tuple(file for file, _ in chosen), tuple(video for _, video in chosen))
    warn_of_other_rates([video for _, video in chosen], [file for file, _ in chosen])
    return test
