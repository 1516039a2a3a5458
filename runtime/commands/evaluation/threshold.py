"""Write what an evaluation measured into the model's file: the score from which on to show detections, and the mAP."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runtime.annotations.activitynet import VideoAnnotation
from runtime.errors import InputError
from runtime.evaluation import EvaluationResult, ThresholdResult
from runtime.results.detections import Detections
from runtime.spec.model import ModelSpec
from runtime.spec.model_card import ModelCard, OperatingPoint
from runtime.two_streams import is_pair
from runtime.video.names import find_name

DECODED_FROM = 0.05
"""Score up to which a file of detections counts as whole: those below change no mAP to speak of."""
DETECT = "afsd detect --score"
"""What takes a score that no file can hold."""


def cut_from(found: Sequence[Detections]) -> float:
    """Return the score from which on a file has detections, if it is above what decoding leaves out; else 0."""
    stated = [part.facts.threshold for part in found if part.facts is not None and part.facts.threshold is not None]
    return max((score for score in stated if score > DECODED_FROM), default=0.0)


def selection_of(found: Sequence[Detections]) -> str:
    """Return the flags of `afsd detect` by which detections were left out or merged, as a file says; empty: none."""
    flags: dict[str, None] = {}
    for facts in (part.facts for part in found if part.facts is not None):
        for flag, value in (
            ("exclusive", facts.exclusive),
            ("merge-gap", facts.merge_gap),
            ("min-length", facts.min_length),
        ):
            if value not in ("", None):
                flags[f"--{flag} {value}"] = None
    return ", ".join(flags)


def check_write_flags(arguments: argparse.Namespace) -> None:
    """Check, before any work, that what will be measured is the model's own (InputError), and that it can be written.

    Raises:
        EngineError, SpecError, OSError: see `require_card_holder`.
    """
    from runtime.engines.card_writing import require_card_holder

    model = arguments.write_threshold
    if arguments.flow_engine:
        raise InputError(
            f"--write-threshold {model}: the scores are those of the pair with {arguments.flow_engine}, and no file "
            f"holds the pair; leave --flow-engine out, or print the score with --threshold and give it to {DETECT}"
        )
    if arguments.video_scores:
        raise InputError(
            f"--write-threshold {model}: the scores are the model's times those of {arguments.video_scores}, and so "
            f"no threshold of the model; print the score with --threshold and give it to {DETECT}"
        )
    require_card_holder(model)


def list_missing(found: Sequence[Detections], truth: Sequence[VideoAnnotation]) -> str:
    """Return how many of the judged videos a file of detections lacks, in words; empty: none that has an action."""
    there = {part.video for part in found}
    missing = [video.name for video in truth if video.instances and find_name(video.name, there) is None]
    if not missing:
        return ""
    more = ", …" if len(missing) > 1 else ""
    return f"{len(missing)} of the {len(truth)} videos have no entry among the detections ({missing[0]}{more})"


def write_threshold(
    arguments: argparse.Namespace,
    found: Sequence[Detections],
    shown: ThresholdResult,
    result: EvaluationResult,
    lacking: str,
) -> None:
    """Write the threshold, what it was measured on, and the mAP into a model file.

    Args:
        arguments: arguments of the command.
        found: the detections.
        shown: quality by score.
        result: the mAP.
        lacking: why the result is not that of all videos; empty: it is.

    Raises:
        InputError: threshold and mAP are not those of the model on all videos.
        EngineError, SpecError, OSError: see `write_card`.
    """
    from runtime.engines.card_writing import write_card

    model = arguments.write_threshold
    pair = next((part.facts.model for part in found if part.facts is not None and is_pair(part.facts.model)), "")
    if lacking:
        raise InputError(
            f"--write-threshold {model}: nothing is written, since {lacking}, and threshold and mAP would be those of "
            "the others alone"
        )
    if not shown.chosen.hits:
        raise InputError(
            f"--write-threshold {model}: no detection from score {shown.chosen.threshold:g} on is "
            "right, so there is nothing to choose by; judge on more videos, or look at the model"
        )
    if arguments.cut_from:
        raise InputError(
            f"--write-threshold: the detections are those of score {arguments.cut_from:g} or more, so neither "
            "threshold nor mAP of the model follow from them; judge the model itself, or detect with --score 0"
        )
    if arguments.selected:
        raise InputError(
            f"--write-threshold: the detections were selected by {arguments.selected}, so neither threshold nor mAP of "
            "the model follow from them; judge the model itself, or detect without these flags"
        )
    if pair:
        raise InputError(
            f"--write-threshold {model}: the detections are those of the pair {pair}, and no file holds the pair; "
            f"give the score to {DETECT}"
        )
    subset = arguments.fold or arguments.subset
    origin = Path(arguments.ground_truth).name + (f", {subset}" if subset else "")
    quality = shown.chosen

    def describe(spec: ModelSpec) -> ModelCard:
        unknown = sorted(set(result.classes) - set(spec.classes))
        if len(unknown) == len(result.classes) and len(spec.classes) == 1:
            raise InputError(
                f"--write-threshold {model}: the model knows {spec.classes[0]!r} alone, and none of the judged classes "
                f"({', '.join(unknown[:3])}, …): video-level scores named its detections, and multiplied their scores, "
                f"so there is no threshold of the model; give the score to {DETECT}"
            )
        if len(unknown) == len(result.classes):
            raise InputError(
                f"--write-threshold {model}: the model has none of the judged classes "
                f"({', '.join(unknown[:3])}, …), so the detections are another model's; name their model"
            )
        return replace(spec.card, average_map=round(result.average, 4), tious=result.tious, judged_on=origin)

    write_card(
        model,
        describe,
        OperatingPoint(
            quality.threshold, shown.tiou, quality.precision, quality.recall, quality.instances, judged_on=origin
        ),
    )
