"""Describe an evaluation for the index of a report: mAP, precision and curve of each class, errors, durations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime.annotations.activitynet import VideoAnnotation
from runtime.common.text import printable
from runtime.evaluation.curves import precision_recall
from runtime.evaluation.durations import A2NET_EDGES, evaluate_durations
from runtime.evaluation.error_kinds import KINDS, analyse_false_positives
from runtime.evaluation.mean_ap import EvaluationResult
from runtime.report.options import ReportOptions
from runtime.results.colours import class_colour, hexadecimal
from runtime.results.detections import Detections

CURVE_POINTS = 160
"""Most points of a curve of precision over recall."""


def describe_evaluation(
    result: EvaluationResult,
    found: Sequence[Detections],
    truth: Sequence[VideoAnnotation],
    options: ReportOptions,
    model: Sequence[str],
    edges: Sequence[float] = A2NET_EDGES,
) -> dict[str, Any]:
    """Return the figures of an evaluation, of what JSON holds.

    Args:
        result: average precisions of the detections.
        found: detections, per video.
        truth: annotations of the videos.
        options: tIoU of curves and errors, and the threshold that is marked on the curves.
        model: classes of the model, which give the colours.
        edges: edges of the durations in seconds.

    Raises:
        InputError, AnnotationError: see `evaluate`.
    """
    curves = {curve.name: curve for curve in precision_recall(found, truth, options.tiou, options.rule)}
    classes = []
    for c, name in enumerate(result.classes):
        curve = curves[name]
        recall, precision = curve.at(options.threshold)
        classes.append(
            {
                "name": printable(name),
                "colour": hexadecimal(class_colour(name, model)),
                "truths": int(result.truths[c]),
                "detections": int(result.detections[c]),
                "ap": result.ap[c].tolist(),
                "curve": curve.thinned(CURVE_POINTS),
                "recall": recall,
                "precision": precision,
            }
        )
    errors = analyse_false_positives(found, truth, options.tiou, options.rule)
    durations = evaluate_durations(found, truth, result.tious, edges, options.rule)
    return {
        "rule": result.rule,
        "tious": list(result.tious),
        "map": result.map.tolist(),
        "average": result.average,
        "truths": int(result.truths.sum()),
        "detections": int(result.detections.sum()),
        "classes": classes,
        "errors": {
            "kinds": list(KINDS),
            "counts": errors.counts.tolist(),
            "gains": errors.gains.tolist(),
            "shares": [None if np.isnan(row).any() else row.tolist() for row in errors.shares],
        },
        "durations": [
            {"name": name, "truths": int(count), "map": None if math.isnan(value) else value}
            for name, count, value in zip(
                durations.names, durations.truths, durations.map.mean(axis=1).tolist(), strict=True
            )
        ],
    }
