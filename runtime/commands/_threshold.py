"""Write what an evaluation measured into the model's file: the score from which on to show detections, and the mAP."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runtime.errors import InputError
from runtime.evaluation import EvaluationResult, ThresholdResult
from runtime.results.detections import Detections
from runtime.spec.model import ModelSpec
from runtime.spec.model_card import ModelCard, OperatingPoint

DECODED_FROM = 0.05
"""Score up to which a file of detections counts as whole: those below change no mAP to speak of."""


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


def write_threshold(arguments: argparse.Namespace, shown: ThresholdResult, result: EvaluationResult) -> None:
    """Write the threshold, what it was measured on, and the mAP into a model file."""
    from runtime.engines.card_writing import write_card

    if not shown.chosen.hits:
        raise InputError(
            f"--write-threshold {arguments.write_threshold}: no detection from score {shown.chosen.threshold:g} on is "
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
    subset = arguments.fold or arguments.subset
    origin = Path(arguments.ground_truth).name + (f", {subset}" if subset else "")
    quality = shown.chosen

    def describe(spec: ModelSpec) -> ModelCard:
        unknown = sorted(set(result.classes) - set(spec.classes))
        if len(unknown) == len(result.classes):
            raise InputError(
                f"--write-threshold {arguments.write_threshold}: the model has none of the judged classes "
                f"({', '.join(unknown[:3])}, …), so the detections are another model's; name their model"
            )
        return replace(spec.card, average_map=round(result.average, 4), tious=result.tious, judged_on=origin)

    write_card(
        arguments.write_threshold,
        describe,
        OperatingPoint(
            quality.threshold, shown.tiou, quality.precision, quality.recall, quality.instances, judged_on=origin
        ),
    )
