"""Keep candidates in a file before suppression, so that λ, late fusion and evaluation need no network again.

Suppression of kept candidates gives the detector's results. Late fusion joins the candidates of several networks for
one NMS (A2Net, Table III).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.files import atomic_path
from runtime.common.text import one_line
from runtime.decoding.candidates import Candidates
from runtime.decoding.two_stage import decode_proposals
from runtime.detector import Detector, DetectorOptions
from runtime.errors import InputError
from runtime.families import family_of
from runtime.features.video_features import Features
from runtime.inputs import FeatureInput
from runtime.results.detections import Detections
from runtime.spec.model import ModelSpec, spec_from_json
from runtime.suppression.nms import hard_nms

PLAIN, POINTS, ANCHORS, PROPOSALS = 0, 1, 2, 3
"""Modules of candidates; plain ones (AFSD's, or already weighted) have no λ. Proposals come from a two-stage detector's
first stage, all with label 0, and are not detections."""

ARRAYS = ("segments", "labels", "scores", "modules", "offsets")


@dataclass(frozen=True, eq=False)
class VideoCandidates:
    """Holds a network's M candidates in one video, in the order of the windows."""

    video: str
    start_s: float
    """Second of the video at the start of step 0, from which `candidates` count."""
    end_s: float
    """Second at which detections are cut."""
    step_s: float
    """Seconds from one step of the features to the next."""
    candidates: Candidates
    modules: NDArray[np.int8]
    """Module of each candidate [M]: PLAIN, POINTS, ANCHORS or PROPOSALS; scores of points and anchors are before λ."""
    offsets: NDArray[np.int64]
    """First step of each candidate's window [M]."""

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> VideoCandidates:
        """Take the candidates chosen by an index or bool array."""
        return replace(
            self,
            candidates=self.candidates.take(chosen),
            modules=self.modules[chosen],
            offsets=self.offsets[chosen],
        )


@dataclass(frozen=True, eq=False)
class KeptCandidates:
    """Holds the candidates of one network, or of several fused networks, in several videos."""

    spec: ModelSpec
    """Spec of the network; its decoding holds λ and the constants of the NMS."""
    videos: tuple[VideoCandidates, ...]

    def balance(self, balance: float) -> KeptCandidates:
        """Return a copy with another λ (A2Net, Table V).

        Raises:
            InputError: the network has no λ, or λ is outside 0..1.
        """
        if self.spec.a2net_decoding is None:
            raise InputError(f"λ {balance:g}: the candidates are of {self.spec.family}, expected a2net's")
        try:
            decoding = replace(self.spec.a2net_decoding, balance=balance)
        except ValueError as error:
            raise InputError(f"λ: {error}") from None
        return replace(self, spec=replace(self.spec, a2net_decoding=decoding))

    def weigh(self, weight: float = 1.0) -> KeptCandidates:
        """Return a copy with λ and `weight` multiplied into the scores.

        Proposals, and candidates at or below the score threshold, are removed.
        """
        return replace(self, videos=tuple(self._weigh(video, weight) for video in self.videos))

    def detections(self, options: DetectorOptions | None = None) -> list[Detections]:
        """Return the detections that a detector with these options gives, video by video."""
        options = DetectorOptions() if options is None else options
        return [self._suppress(self._weigh(video, 1.0), options) for video in self.videos]

    def proposals(self) -> list[Detections]:
        """Return a two-stage detector's first-stage proposals, video by video, best first, as actions of one class.

        The windows' proposals go through one more NMS. Weighted or fused candidates hold none.

        Raises:
            InputError: the network is not a two-stage detector.
        """
        if self.spec.two_stage is None:
            raise InputError(f"the network is {self.spec.family}, expected a two-stage detector, which has proposals")
        found = []
        for video in self.videos:
            proposed = video.take(video.modules == PROPOSALS).candidates
            kept = hard_nms(proposed.segments, proposed.scores, self.spec.two_stage.proposal_nms)
            found.append(_present(proposed.take(kept), video, ("action",), 0.0))
        return found

    def _weigh(self, video: VideoCandidates, weight: float) -> VideoCandidates:
        """Multiply λ and `weight` into the scores, in float32 as the decoder does."""
        video, decoding = video.take(video.modules != PROPOSALS), self.spec.a2net_decoding
        points, anchors = (1.0, 1.0) if decoding is None else decoding.weights
        factors = np.array([1.0, points, anchors], np.float32)[video.modules]
        scores = video.candidates.scores
        if decoding is not None:
            scores = np.where(video.modules == PLAIN, scores, scores.astype(np.float32) * factors)
        threshold = 0.0 if decoding is None else float(np.float32(decoding.score_threshold))
        plain = replace(
            video,
            candidates=replace(video.candidates, scores=scores * weight),
            modules=np.full_like(video.modules, PLAIN),
        )
        return plain.take((video.modules == PLAIN) | (scores > threshold))

    def _suppress(self, video: VideoCandidates, options: DetectorOptions) -> Detections:
        spec = replace(self.spec, sample_fps=1 / video.step_s)
        family, parts = family_of(spec), []
        published = options.nms == "reference"
        horizon = options.horizon(spec, endless=False)
        suppression = family.suppress_as_published(spec) if published else family.suppress(spec, horizon)
        starts = np.append(np.flatnonzero(np.diff(video.offsets, prepend=-1)), len(video.offsets))
        for first, last in pairwise(starts.tolist()):
            window = video.candidates.take(np.arange(first, last))
            parts.append(suppression.push(window, int(video.offsets[first])))
        found = Candidates.concatenate([*parts, suppression.finish()])
        return _present(found, video, spec.classes, options.min_score)


def keep_candidates(detector: Detector, features: Features) -> VideoCandidates:
    """Run a detector on the features of a video and keep its candidates before λ and suppression.

    A2Net's candidates are kept module by module, the points with λ 1 and the anchors with λ 0. A two-stage detector's
    proposals are kept beside its candidates.

    Raises:
        InputError, EngineError: see `Detector.run`.
    """
    video = FeatureInput(features, detector.spec)
    spec, published = replace(detector.spec, sample_fps=video.rate), detector.options.nms == "reference"
    specs = {PLAIN: spec}
    if (decoding := spec.a2net_decoding) is not None:  # within a window the anchors first, as the decoder orders them
        alone = {ANCHORS: replace(decoding, balance=0.0), POINTS: replace(decoding, balance=1.0)}
        specs = {module: replace(spec, a2net_decoding=constants) for module, constants in alone.items()}
    decode, threshold = family_of(spec).decode, detector.options.score_threshold
    found: list[tuple[int, int, Candidates]] = []
    for window, outputs, index in detector.infer(video):
        length = None if published else window.length
        for module, weighed in specs.items():
            part = decode(outputs, index, window.offset, weighed, threshold, keep_empty=published, length=length)
            found.append((module, window.offset, part))
        if spec.two_stage is not None:
            proposed = decode_proposals(outputs, index, window.offset, spec, window.length)
            found.append((PROPOSALS, window.offset, proposed))
    counts = [len(part) for _, _, part in found]
    return VideoCandidates(
        video.name,
        start_s=video.start_s,
        end_s=video.end_s,
        step_s=1 / video.rate,
        candidates=Candidates.concatenate([part for _, _, part in found]),
        modules=np.repeat(np.array([module for module, _, _ in found], np.int8), counts),
        offsets=np.repeat(np.array([offset for _, offset, _ in found], np.int64), counts),
    )


def _present(found: Candidates, video: VideoCandidates, classes: tuple[str, ...], min_score: float) -> Detections:
    """Convert final candidates to detections of the video."""
    shown = found.place(video.start_s, video.end_s)
    shown = shown.take(shown.scores >= min_score)
    return Detections(shown.segments, shown.labels, shown.scores, classes, video.video)


def fuse_late(members: Sequence[KeptCandidates], weights: Sequence[float] = ()) -> KeptCandidates:
    """Join the candidates of several networks for one NMS, that of the network with the longest windows.

    Args:
        members: candidates in the same videos and classes; at least one.
        weights: factors on the members' scores, divided by the largest, so that scores stay in 0..1; none: all 1.

    Raises:
        InputError: videos, times or classes differ, or not one weight above 0 for each.
    """
    factors = list(weights) or [1.0] * len(members)
    if not members or len(factors) != len(members) or min(factors) <= 0:
        raise InputError(
            f"late fusion of {len(members)} networks: got weights {factors}, expected one above 0 for each"
        )
    for member in members[1:]:
        if member.spec.classes != members[0].spec.classes or _times(member) != _times(members[0]):
            raise InputError(
                "late fusion: the networks differ in classes, videos or seconds per step; expected the same"
            )
    spec = max((member.spec for member in members), key=lambda spec: spec.window_length)
    weighed = [member.weigh(factor / max(factors)) for member, factor in zip(members, factors, strict=True)]
    return KeptCandidates(spec, tuple(map(_join_networks, zip(*(member.videos for member in weighed), strict=True))))


def write_candidates(path: Path, kept: KeptCandidates) -> None:
    """Write candidates as .npz, atomically."""
    head = [[v.video, v.start_s, v.end_s, v.step_s, len(v.offsets)] for v in kept.videos]
    arrays = {name: np.concatenate([_arrays(video)[name] for video in kept.videos]) for name in ARRAYS}
    with atomic_path(path) as unfinished:
        np.savez_compressed(unfinished, spec=kept.spec.to_json(), videos=json.dumps(head), **arrays)  # type: ignore[arg-type]


def read_candidates(path: Path) -> KeptCandidates:
    """Read a file of `write_candidates` (InputError: missing or of another kind; SpecError: see `spec_from_json`)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            spec, videos = str(file["spec"]), _cut_videos(file)
    except FileNotFoundError:
        raise InputError(f"{path}: file of candidates not found; delete the folder of the run and run again") from None
    except Exception as error:  # NumPy, zipfile, zlib and tokenize have errors of their own
        raise InputError(f"{path}: not a file of candidates: {one_line(error)}; run again") from None
    return KeptCandidates(spec_from_json(spec, str(path)), videos)


def _cut_videos(file: Mapping[str, NDArray[Any]]) -> tuple[VideoCandidates, ...]:
    """Cut the arrays of a file into those of its videos (ValueError: they do not fit)."""
    head, arrays = json.loads(str(file["videos"])), {name: file[name] for name in ARRAYS}
    counts = [int(entry[4]) for entry in head]
    if min(counts, default=0) < 0 or {len(values) for values in arrays.values()} != {sum(counts)}:
        raise ValueError(f"videos of {sum(counts)} candidates, arrays of {[*map(len, arrays.values())]}")
    videos = []
    for (video, start_s, end_s, step_s, count), end in zip(head, np.cumsum(counts).tolist(), strict=True):
        part = {name: values[end - count : end] for name, values in arrays.items()}
        candidates = Candidates(part["segments"], part["labels"], part["scores"])
        videos.append(VideoCandidates(video, start_s, end_s, step_s, candidates, part["modules"], part["offsets"]))
    return tuple(videos)


def _times(kept: KeptCandidates) -> list[tuple[str, float, float, float]]:
    return [(video.video, video.start_s, video.end_s, video.step_s) for video in kept.videos]


def _join_networks(parts: Sequence[VideoCandidates]) -> VideoCandidates:
    """Join the candidates of one video in the order of their windows; at equal offsets in the order of the networks."""
    together = replace(
        parts[0],
        candidates=Candidates.concatenate([part.candidates for part in parts]),
        modules=np.concatenate([part.modules for part in parts]),
        offsets=np.concatenate([part.offsets for part in parts]),
    )
    return together.take(np.argsort(together.offsets, kind="stable"))


def _arrays(video: VideoCandidates) -> dict[str, NDArray[np.generic]]:
    found = video.candidates
    return dict(zip(ARRAYS, (found.segments, found.labels, found.scores, video.modules, video.offsets), strict=True))
