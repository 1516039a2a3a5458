"""Label class-agnostic proposals with a video classifier's scores (AFSD on ActivityNet; the CUHK file's form)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.files import PathLike, read_json
from runtime.common.ranges import Range, require_in_range
from runtime.errors import AnnotationError, InputError
from runtime.results.detections import Detections
from runtime.video.names import find_name, without_prefix


@dataclass(frozen=True, eq=False)
class VideoScores:
    """Holds a classifier's scores of whole videos."""

    classes: tuple[str, ...]
    """Names of the classes, in the order of the scores."""
    scores: Mapping[str, NDArray[np.float64]]
    """Scores [classes] by video id of the file, finite and not negative."""

    def __contains__(self, video: str) -> bool:
        return find_name(video, self.scores) is not None

    def check(self, classes: Sequence[str], top_k: int = 1) -> None:
        """Raise an InputError unless a model of these classes can be labelled with `top_k` classes per video."""
        if len(classes) != 1:
            raise InputError(
                f"video scores: the model distinguishes {len(classes)} classes itself, expected a "
                "class-agnostic one (classes: action); leave the scores out"
            )
        require_in_range("top_k", top_k, Annotated[int, Range(1, len(self.classes), what="classes")])

    def require(self, video: str) -> NDArray[np.float64]:
        """Return the scores [classes] of a video (InputError: there are none)."""
        name = find_name(video, self.scores)
        if name is None:
            raise InputError(
                f"video scores: none for the video {video!r}; expected one of {len(self.scores)} ids such as "
                f"{next(iter(self.scores), 'none')!r}; name the file by its id, or add its scores"
            )
        return self.scores[name]

    def label(self, proposals: Detections, top_k: int = 1) -> Detections:
        """Return the proposals of one video as actions of its `top_k` best classes, best class first.

        The score is the proposal's times the class's. As in the published test code, a leading "v_" of the video's
        name is dropped; that code uses only the best class.

        Raises:
            InputError: the video has no scores, the proposals have classes, or `top_k` is out of range.
        """
        self.check(proposals.classes, top_k)
        scores = self.require(proposals.video)
        best = np.argsort(-scores, kind="stable")[:top_k]
        count = len(proposals)
        return replace(
            proposals,
            segments=np.tile(proposals.segments, (top_k, 1)),
            labels=np.repeat(best, count).astype(np.int32),
            scores=(scores[best, None] * proposals.scores).ravel(),
            classes=self.classes,
            video=without_prefix(proposals.video),
        )


def load_video_scores(path: PathLike) -> VideoScores:
    """Read `{"results": {id: [scores]}, "class": [names]}`; ids with or without a leading "v_".

    Raises:
        AnnotationError: the file is not found or has another form, or scores are not finite, negative, too few or many.
    """
    data = read_json(path, "file of video-level scores", AnnotationError)
    results, classes = (data.get("results"), data.get("class")) if isinstance(data, dict) else (None, None)
    if not isinstance(results, dict) or not isinstance(classes, list):
        raise AnnotationError(f'{path}: expected the keys "results" (id → scores) and "class" (names)')
    if not classes or not all(isinstance(name, str) for name in classes) or len(set(classes)) < len(classes):
        raise AnnotationError(f'{path}: "class" must be a list of different names')
    scores = {str(video): _parse_scores(row, str(video), len(classes), path) for video, row in results.items()}
    return VideoScores(tuple(classes), scores)


def _parse_scores(row: Any, video: str, classes: int, path: PathLike) -> NDArray[np.float64]:
    """Return one video's scores as float64 [classes], checked."""
    try:
        scores = np.asarray(row, np.float64)
    except (TypeError, ValueError, OverflowError):
        scores = np.empty(0)
    if scores.shape != (classes,):
        got = f"{len(row)} values" if isinstance(row, list) else type(row).__name__
        raise AnnotationError(f"{path}: video {video!r} has {got}, expected a list of {classes} numbers, one per class")
    if not (np.isfinite(scores) & (scores >= 0)).all():
        wrong = int(np.flatnonzero(~(np.isfinite(scores) & (scores >= 0)))[0])
        raise AnnotationError(
            f"{path}: video {video!r} has the score {scores[wrong]} for class {wrong}, expected finite numbers of at "
            "least 0 (probabilities)"
        )
    return scores
