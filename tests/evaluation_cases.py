"""Cases that tests of the evaluation share: by hand, at random, with the published evaluator's numbers; plain tIoU."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.annotations.activitynet import Instance, VideoAnnotation
from runtime.results.detections import Detections

CLASSES = ("jump", "throw")


class GoldenEvaluation(NamedTuple):
    """Made-up detections and annotations as files, and what the published evaluator said of them."""

    detections: Path
    annotations: Path
    published: dict[str, Any]


def write_golden_evaluation(folder: Path) -> GoldenEvaluation:
    """Write 3,318 detections in 120 videos of 20 classes, subsets "test" and "validation", all made up.

    Among them: a class that nothing was found of, inverted segments, a video that has no annotations, one that has no
    detections, and no two equal scores.
    """
    document = json.loads(gzip.decompress((Path(__file__).parent / "golden/evaluation_made_up.json.gz").read_bytes()))
    files = folder / "predictions.json", folder / "annotations.json"
    for path, part in zip(files, ("predictions", "ground_truth"), strict=True):
        path.write_text(json.dumps(document[part]))
    return GoldenEvaluation(*files, document["published"])


def truth(name: str, *instances: tuple[str, float, float]) -> VideoAnnotation:
    return VideoAnnotation(name, "test", None, None, tuple(Instance(s, e, label) for label, s, e in instances))


def found(name: str, *rows: tuple[str, float, float, float]) -> Detections:
    return Detections(
        np.array([row[1:3] for row in rows], np.float64).reshape(-1, 2),
        np.array([CLASSES.index(row[0]) for row in rows], np.int32),
        np.array([row[3] for row in rows], np.float64),
        CLASSES,
        name,
    )


def overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    """tIoU by the definition."""
    inner = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return inner / (a[1] - a[0] + b[1] - b[0] - inner)


def drawn(seed: int) -> tuple[list[Detections], list[VideoAnnotation]]:
    """Random detections, many of them near instances, over five videos with two classes and Ambiguous regions."""
    rng = np.random.default_rng(seed)
    videos, detections = [], []
    for v in range(5):
        spans = [
            (start, start + length) for start, length in zip(rng.uniform(0, 80, 8), rng.uniform(1, 12, 8), strict=True)
        ]
        labels = [CLASSES[k % 2] if k < 6 else "Ambiguous" for k in range(8)]
        videos.append(truth(f"v{v}", *((label, *span) for label, span in zip(labels, spans, strict=True))))
        rows = []
        for k in range(30):
            start, end = spans[k % 8]
            start += rng.normal(0, 2)
            rows.append(
                (
                    CLASSES[int(rng.integers(2))],
                    start,
                    start + max(0.5, end - start + rng.normal(0, 2)),
                    round(float(rng.random()), 2),
                )
            )
        detections.append(found(f"v{v}", *rows))
    return detections, videos
