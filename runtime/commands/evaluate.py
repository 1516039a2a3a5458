"""Run `afsd evaluate`: mean average precision of an engine on annotated videos, or of a file of detections."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from runtime.annotations.activitynet import VideoAnnotation, parse_annotations, parse_splits, read_document
from runtime.annotations.ground_truth import load_ground_truth
from runtime.commands.evaluation.engine_run import run_engine
from runtime.commands.evaluation.report import (
    USUAL_TIOU,
    add_report_flags,
    check_report,
    find_videos,
    videos_folder,
    write_report,
)
from runtime.commands.evaluation.seen_videos import check_unseen, find_models, judged_files
from runtime.commands.evaluation.threshold import (
    DECODED_FROM,
    check_write_flags,
    cut_from,
    list_missing,
    selection_of,
    write_threshold,
)
from runtime.commands.flags.checks import refuse_flags, require_beside
from runtime.commands.flags.engine import add_flow_flags, add_label_flags
from runtime.commands.flags.reading import add_reading_flags
from runtime.commands.flags.writing import add_overwrite_flag
from runtime.common.console import EXIT_ERROR, print_error, print_json, print_note, print_warning
from runtime.common.files import is_folder, require_writable_folder
from runtime.common.ranges import Count, Range, Seconds, Share, require_in_range
from runtime.common.stops import GIVE_OUT_S, give_out_at_stop, shield
from runtime.common.text import counted, quote
from runtime.errors import AfsdError, InputError
from runtime.evaluation import (
    A2NET_EDGES,
    THUMOS_RECALL_TIOUS,
    DurationResult,
    FalsePositiveResult,
    ProposalResult,
    ThresholdResult,
    analyse_false_positives,
    evaluate,
    evaluate_durations,
    evaluate_proposals,
    evaluate_thresholds,
    format_table,
)
from runtime.evaluation.coverage import describe_coverage, require_common
from runtime.evaluation.error_kinds import TOUCHING
from runtime.evaluation.number_lists import parse_numbers, parse_tious
from runtime.exchange.found import load_found, lowest_score, names_engine
from runtime.exchange.inputs import input_path
from runtime.exchange.record import RATE_ADVICE
from runtime.results.detections import Detections, write_results
from runtime.results.writers import require_ours

if TYPE_CHECKING:
    pass

ENGINE_FLAGS = (
    "--features", "--feature-fold", "--save", "--force", "--nms", "--flow-engine", "--flow-method", "--video-scores",
    "--labels-per-video", "--timing", "--reader", "--allow-truncated",
)  # fmt: skip
"""Flags that a file of detections gives nothing to do."""
BEST = "best"
"""Value of --threshold without a score."""
DURATION_EDGES = ",".join(f"{edge:g}" for edge in A2NET_EDGES)
Tiou = Annotated[float, Range(0, 1, above=True)]
HIT_RANGE = Range(TOUCHING, 1, above=True)
"""tIoU of a hit where misses are told apart from localization errors."""


def add_evaluate(subparsers: Any) -> None:
    """Add the verb `evaluate` to the parser of `afsd`."""
    parser = subparsers.add_parser(
        "evaluate",
        epilog="examples:\n"
        "  afsd evaluate model.xml annotations.json --subset val --per-class\n"
        "  afsd evaluate detections.json annotations.json --false-positives --plot errors.png\n"
        "  afsd evaluate model.xml annotations.json --subset val --write-threshold model.xml\n"
        "  afsd evaluate model.xml annotations.json --format html --out report\n",
        help="mean average precision of an engine or of detections",
        description="Mean average precision of a file of detections, or of an engine run on the annotated videos; "
        "and further measures of their quality.",
    )
    parser.add_argument(
        "detections",
        metavar="DETECTIONS|ENGINE",
        help='ActivityNet JSON with "results", THUMOS\'14 text (.txt), a table, JSON lines, packed (.gz) or not; the '
        "folder of afsd detect's results; or an engine file",
    )
    parser.add_argument(
        "ground_truth",
        metavar="GROUND_TRUTH",
        help='ActivityNet JSON with "database", a table (.csv: video, type, start, end), the folder of annotations '
        "of the THUMOS'14 kit, or files of an annotation tool, as afsd convert reads them",
    )
    parser.add_argument(
        "--subset",
        metavar="NAME",
        default="",
        help="subset of a JSON to judge on, or 'all' (default: the only one there is, else test)",
    )
    parser.add_argument(
        "--fold", metavar="NAME", default="", help='judge on the test videos of this fold of a JSON\'s "splits"'
    )
    parser.add_argument(
        "--rule",
        choices=("activitynet", "thumos14"),
        default="activitynet",
        help="how detections are judged (default: %(default)s)",
    )
    parser.add_argument(
        "--tiou",
        metavar="LIST",
        default="0.3:0.1:0.7",
        help="thresholds as start:step:stop or separated by commas (default: 0.3:0.1:0.7)",
    )
    parser.add_argument(
        "--tie-order",
        choices=("stable", "reference"),
        default="stable",
        help="equal scores: the first read goes first (default), or as in the published evaluator, whose order "
        "depends on the processor",
    )
    parser.add_argument(
        "--fps", metavar="F", type=float, help="frames per second of the videos, where the ground truth counts frames"
    )
    parser.add_argument("--per-class", action="store_true", help="a line for every class")
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_further(parser.add_argument_group("further questions"))
    add_report_flags(parser.add_argument_group("report"))
    _add_engine_flags(parser.add_argument_group("with an engine"))
    parser.set_defaults(func=run_evaluate, shown_from=None)
    require_beside(
        parser,
        {
            "--duration-edges": ("--durations", "--format html"),
            "--proposal-rule": ("--proposals",),
            "--false-positive-tiou": ("--false-positives", "--format html"),
            "--plot": ("--false-positives",),
            "--threshold-tiou": ("--threshold", "--write-threshold"),
            "--out": ("--format html",),
            "--embed": ("--format html",),
            "--feature-fold": ("--features",),
            "--labels-per-video": ("--video-scores",),
        },
    )


def _add_engine_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--videos",
        metavar="DIR",
        type=Path,
        help="videos (default: videos/ beside the ground truth); a report shows them",
    )
    group.add_argument(
        "--features",
        metavar="PLACE",
        nargs="+",
        type=Path,
        help="of a model on features, in place of --videos: a features.json, or a folder of <video>.npy or .npz per "
        "stream; {fold} in a folder's name stands for the fold's",
    )
    group.add_argument(
        "--feature-fold",
        metavar="NAME",
        default="",
        help="fold whose features are used, if every fold has its own (default: --fold)",
    )
    group.add_argument("--save", metavar="FILE", type=Path, help="write the detections as JSON")
    add_overwrite_flag(group)
    group.add_argument(
        "--force", action="store_true", help="judge an int8 network on videos that it was calibrated on all the same"
    )
    group.add_argument("--nms", choices=("local", "reference"), default="local", help="reference: as published")
    add_flow_flags(group)
    add_label_flags(group)
    add_reading_flags(group)


def _add_further(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--durations", action="store_true", help="mAP by duration of the instances")
    parser.add_argument(
        "--duration-edges", metavar="LIST", default=DURATION_EDGES, help="edges of the bins in seconds (%(default)s)"
    )
    parser.add_argument(
        "--proposals", action="store_true", help="average recall of proposals and its area (AR@AN, AUC)"
    )
    parser.add_argument(
        "--proposal-rule",
        choices=("activitynet", "thumos14"),
        default="activitynet",
        help="tIoU 0.5:0.05:0.95 up to 100 proposals per video (activitynet, default), or 0.5:0.05:1.0 up to 1000",
    )
    parser.add_argument(
        "--false-positives",
        action="store_true",
        help="kinds of errors among the best detections, and what each costs",
    )
    parser.add_argument(
        "--false-positive-tiou",
        metavar="TIOU",
        type=float,
        default=USUAL_TIOU,
        help="threshold of a hit, also in a report (%(default)s)",
    )
    parser.add_argument("--plot", metavar="FILE.png", type=Path, help="draw the kinds of errors")
    parser.add_argument(
        "--threshold",
        metavar="SCORE",
        nargs="?",
        type=_score,
        const=BEST,
        help="precision, recall and F1 of the detections from a score on, by class; without a SCORE at that of the "
        "largest F1",
    )
    parser.add_argument(
        "--threshold-tiou",
        metavar="TIOU",
        type=float,
        default=USUAL_TIOU,
        help="tIoU from which on a detection is right, also in a report (%(default)s)",
    )
    parser.add_argument(
        "--write-threshold",
        metavar="MODEL",
        type=Path,
        help="write the score of the largest F1, or that of --threshold, and the mAP into a model file; afsd detect "
        "then shows what reaches it",
    )


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit status."""
    arguments.detections = str(input_path(arguments.detections, "models and results"))
    arguments.ground_truth = str(input_path(arguments.ground_truth, "annotations"))
    tious = parse_tious(arguments.tiou)
    require_in_range("--labels-per-video", arguments.labels_per_video, Count)
    edges = parse_numbers(arguments.duration_edges, "--duration-edges", "rising seconds such as 1.5,2.5")
    if arguments.threshold is None and arguments.write_threshold:
        arguments.threshold = BEST
    _check_ranges(arguments, tious, edges)
    if not arguments.overwrite:
        for path, suffix in ((arguments.save, "json"), (arguments.plot, "")):
            if path:
                require_ours(path, suffix)
    for path in filter(None, (arguments.save, arguments.plot, arguments.write_threshold)):
        require_writable_folder(path.parent)
    if arguments.write_threshold:
        check_write_flags(arguments)
    truth = _ground_truth(arguments)
    check_report(arguments, truth)
    found = _read_detections(arguments, truth)
    if found is not None:
        for spec in find_models(found, arguments.write_threshold):
            files = find_videos(arguments, truth)
            check_unseen(spec, judged_files(found, (video.name for video in truth), files), warn=True)
        status = _give_out(arguments, found, truth, tious, edges, list_missing(found, truth))
        write_report(arguments, found, truth, tious, edges)
        return status
    found, whole = [], False

    def give_out_part() -> None:
        if not whole:
            _give_out_part(arguments, found, truth, tious, edges)

    with give_out_at_stop(give_out_part):
        failed = run_engine(arguments, truth, found)
        judged = tuple(video for video in truth if video.name not in failed)
        with shield(GIVE_OUT_S):
            whole = True
            lacking = f"{len(failed)} of {len(truth)} videos could not be read" if failed else ""
            status = _give_out(arguments, found, judged, tious, edges, lacking)
    write_report(arguments, found, judged, tious, edges)
    return EXIT_ERROR if failed else status


def _score(text: str) -> float | str:
    """Parse the value of --threshold."""
    try:
        return BEST if text == BEST else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {quote(text)}, expected a score from 0 to 1, or none") from None


def _check_ranges(arguments: argparse.Namespace, tious: Sequence[float], edges: Sequence[float]) -> None:
    """Check the numbers of the flags before the videos are run, which may take hours (InputError)."""
    if arguments.threshold not in (None, BEST):
        require_in_range("--threshold", arguments.threshold, Share)
    for tiou in tious:
        require_in_range("--tiou", tiou, Tiou)
    require_in_range("--threshold-tiou", arguments.threshold_tiou, Tiou)
    require_in_range("--false-positive-tiou", arguments.false_positive_tiou, Annotated[float, HIT_RANGE])
    for edge in edges:
        require_in_range("--duration-edges", edge, Seconds)
    if any(after <= before for before, after in pairwise(edges)):
        raise InputError(
            f"--duration-edges: got {quote(arguments.duration_edges)}, expected rising seconds such as 1.5,2.5"
        )


def _give_out_part(
    arguments: argparse.Namespace,
    found: Sequence[Detections],
    truth: Sequence[VideoAnnotation],
    tious: Sequence[float],
    edges: Sequence[float],
) -> None:
    """Save and judge the videos that were finished when a signal came."""
    names = {detections.video for detections in found}
    if names:
        lacking = f"ended after {len(names)} of {counted(len(truth), 'video')}"
        print_warning(f"{lacking}; the result is that of these")
        _give_out(arguments, list(found), tuple(v for v in truth if v.name in names), tious, edges, f"it {lacking}")


def _give_out(
    arguments: argparse.Namespace,
    found: Sequence[Detections],
    truth: Sequence[VideoAnnotation],
    tious: Sequence[float],
    edges: Sequence[float],
    lacking: str = "",
) -> int:
    """Save the detections, judge them and print the result, also where a file cannot be written; return the status.

    `lacking` says why the detections are not those of all videos.
    """
    written: list[str] = []
    failures: list[AfsdError | OSError] = []
    arguments.cut_from = cut_from(found)
    if arguments.cut_from:
        print_warning(
            f"the detections are those of score {arguments.cut_from:g} or more, and the mAP is lower for it; "
            "detect with --score 0 to judge a model"
        )
    arguments.selected = selection_of(found)
    if arguments.selected:
        print_warning(
            f"the detections were selected by {arguments.selected}, and the mAP is that of the selection; detect "
            "without these flags to judge a model"
        )
    if arguments.save:
        with _keep_failure(failures, written, arguments.save):
            write_results(arguments.save, found)
    result = evaluate(found, truth, tious, arguments.tie_order, arguments.rule)
    further: dict[str, DurationResult | ProposalResult | FalsePositiveResult | ThresholdResult] = {}
    if arguments.durations:
        further["durations"] = evaluate_durations(found, truth, tious, edges, arguments.rule)
    if arguments.proposals:
        up_to_1000 = arguments.proposal_rule == "thumos14"
        further["proposals"] = (
            evaluate_proposals(found, truth, THUMOS_RECALL_TIOUS, largest=1000)
            if up_to_1000
            else evaluate_proposals(found, truth)
        )
    if arguments.false_positives:
        errors = analyse_false_positives(found, truth, arguments.false_positive_tiou, arguments.rule)
        further["false_positives"] = errors
        if arguments.plot:
            from runtime.evaluation.error_plot import draw_profile
            from runtime.results.timeline import save_image

            with _keep_failure(failures, written, arguments.plot):
                save_image(draw_profile(errors), arguments.plot)
    if arguments.threshold is not None:
        score = None if arguments.threshold == BEST else float(arguments.threshold)
        shown = further["threshold"] = evaluate_thresholds(found, truth, arguments.threshold_tiou, score)
        arguments.shown_from = shown.chosen.threshold
        if arguments.write_threshold:
            with _keep_failure(failures, written, arguments.write_threshold):
                write_threshold(arguments, found, shown, result, lacking)
    if arguments.json:
        print_json(result.to_mapping() | {name: part.to_mapping() for name, part in further.items()})
    else:
        print("\n\n".join([format_table(result, arguments.per_class), *(part.table() for part in further.values())]))
        if written:
            print(f"\nwritten: {', '.join(written)}")
    for failure in failures:
        print_error(failure)
    return EXIT_ERROR if failures else 0


@contextmanager
def _keep_failure(failures: list[AfsdError | OSError], written: list[str], path: Path) -> Iterator[None]:
    """Note that a file was written, or why not, so that the result is shown in any case."""
    try:
        yield
        written.append(str(path))
    except (AfsdError, OSError) as error:
        failures.append(error)


def _ground_truth(arguments: argparse.Namespace) -> tuple[VideoAnnotation, ...]:
    """Load the videos of the subset, or those of the fold's test list."""
    if not arguments.fold:
        folder = videos_folder(arguments)
        truth = load_ground_truth(
            arguments.ground_truth,
            None if arguments.subset == "all" else arguments.subset,
            fps=arguments.fps,
            videos=folder if is_folder(folder) else None,
            advice=RATE_ADVICE,
        )
        if arguments.subset != "all" and not any(video.subset for video in truth):
            refuse_flags(arguments, ("--subset",), f"{arguments.ground_truth} has no subsets")
        return truth
    refuse_flags(arguments, ("--fps",), "annotations with folds have seconds")
    if arguments.subset:
        raise InputError("--fold and --subset: each names the videos to judge on; leave one out")
    origin, document = arguments.ground_truth, read_document(arguments.ground_truth)
    splits = parse_splits(document, origin)
    if arguments.fold not in splits:
        raise InputError(f"{origin}: no fold {arguments.fold!r}; the file has {', '.join(splits) or 'no splits'}")
    names = set(splits[arguments.fold][1])
    truth = tuple(video for video in parse_annotations(document, origin) if video.name in names)
    missing = sorted(names - {video.name for video in truth})
    if missing or not truth:
        raise InputError(
            f"{origin}: fold {arguments.fold} tests {missing[0] if missing else 'nothing'}, expected annotated videos"
        )
    return truth


def _read_detections(arguments: argparse.Namespace, truth: Sequence[VideoAnnotation]) -> list[Detections] | None:
    """Read the detections from a file or folder, and note videos that it lacks; None for an engine."""
    origin = arguments.detections
    if names_engine(origin):
        return None
    refuse_flags(arguments, ENGINE_FLAGS, f"{origin} holds detections, and it is of an engine")
    found = load_found(origin, _note)
    judged_by, choose = arguments.ground_truth, "--subset" if any(video.subset for video in truth) else ""
    if arguments.fold:
        judged_by, choose = f"fold {arguments.fold} of {judged_by}", "--fold"
    require_common(found, truth, origin, judged_by, choose)
    if coverage := describe_coverage(found, truth, arguments.rule):
        _note(f"{origin}: {coverage}")
    if (lowest := lowest_score(found)) > DECODED_FROM:
        _note(f"{origin}: no score is below {lowest:g}; if some were left out, the mAP of the model is higher")
    return found


def _note(text: str) -> None:
    print_note(f"afsd: note: {text}")
