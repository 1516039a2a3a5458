"""Keep candidates in a file before suppression, so that λ, late fusion and judging need no network again.

Suppression of what is kept gives what the detector gives. Several networks are fused late as A2Net's Table III does:
the candidates of all of them go through one NMS.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.common.files import atomic_path
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
"""Which module a candidate is of; plain ones (AFSD's, or already weighed) have no λ. Proposals are those of a two-stage
detector's first stage, all with label 0, and no detections."""

ARRAYS = ("segments", "labels", "scores", "modules", "offsets")


@dataclass(frozen=True, eq=False)
class VideoCandidates:
    """What a network proposes in one video, M candidates in the order of its windows."""

    video: str
    start_s: float
    """Second of the video at the edge of step 0, from which `candidates` count."""
    end_s: float
    """Second at which detections are cut."""
    step_s: float
    """Seconds from one step of the features to the next."""
    candidates: Candidates
    modules: NDArray[np.int8]
    """[M] PLAIN, POINTS, ANCHORS or PROPOSALS; scores of points and anchors are before λ."""
    offsets: NDArray[np.int64]
    """[M] first step of the window each is of."""

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> VideoCandidates:
        """Those chosen by an index or bool array."""
        return replace(
            self,
            candidates=self.candidates.take(chosen),
            modules=self.modules[chosen],
            offsets=self.offsets[chosen],
        )


@dataclass(frozen=True, eq=False)
class KeptCandidates:
    """The candidates of one network, or of several fused, in several videos."""

    spec: ModelSpec
    """Its decoding holds λ and the constants of the NMS."""
    videos: tuple[VideoCandidates, ...]

    def balance(self, balance: float) -> KeptCandidates:
        """Return a copy under another λ (A2Net, Table V).

        Raises:
            InputError: another network, which has no λ, or λ outside 0..1.
        """
        if self.spec.a2net_decoding is None:
            raise InputError(f"λ {balance:g}: the candidates are of {self.spec.family}, expected a2net's")
        try:
            decoding = replace(self.spec.a2net_decoding, balance=balance)
        except ValueError as error:
            raise InputError(f"λ: {error}") from None
        return replace(self, spec=replace(self.spec, a2net_decoding=decoding))

    def weigh(self, weight: float = 1.0) -> KeptCandidates:
        """Return a copy with λ and `weight` multiplied into the scores. Proposals, and candidates at or below the score
        threshold, are removed."""
        return replace(self, videos=tuple(self._weigh(video, weight) for video in self.videos))

    def detections(self, options: DetectorOptions | None = None) -> list[Detections]:
        """Return what the detector of these options gives, video by video."""
        options = DetectorOptions() if options is None else options
        return [self._suppress(self._weigh(video, 1.0), options) for video in self.videos]

    def proposals(self) -> list[Detections]:
        """Return what a two-stage detector's first stage proposes, video by video, as actions of one class, best first.

        The windows' proposals go through the NMS once more. Weighed or fused candidates hold none.

        Raises:
            InputError: another network.
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
        """In float32, as the decoder does."""
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
        suppression = family.suppress_as_published(spec) if options.nms == "reference" else family.suppress(spec)
        starts = np.append(np.flatnonzero(np.diff(video.offsets, prepend=-1)), len(video.offsets))
        for first, last in pairwise(starts.tolist()):
            window = video.candidates.take(np.arange(first, last))
            parts.append(suppression.push(window, int(video.offsets[first])))
        found = Candidates.concatenate([*parts, suppression.finish()])
        return _present(found, video, spec.classes, options.min_score)


def keep_candidates(detector: Detector, features: Features) -> VideoCandidates:
    """Run a detector on the features of a video and keep its candidates before λ and suppression.

    A2Net's are kept module by module: λ 1 leaves the points alone, λ 0 the anchors. A two-stage detector's proposals
    are kept beside its candidates.

    Raises:
        InputError, EngineError: see `Detector.run`.
    """
    video = detector.open(features)
    assert isinstance(video, FeatureInput)
    spec, published = replace(detector.spec, sample_fps=video.rate), detector.options.nms == "reference"
    specs = {PLAIN: spec}
    if (decoding := spec.a2net_decoding) is not None:  # of one window the anchors first, as the decoder gives them
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
    """Return final candidates as detections of the video."""
    shown = found.place(video.start_s, video.end_s)
    shown = shown.take(shown.scores >= min_score)
    return Detections(shown.segments, shown.labels, shown.scores, classes, video.video)


def fuse_late(members: Sequence[KeptCandidates], weights: Sequence[float] = ()) -> KeptCandidates:
    """Join the candidates of several networks for one NMS: that of the network with the longest windows.

    Args:
        members: of the same videos and classes; at least one.
        weights: factors of their scores, divided by the largest, so that scores stay in 0..1; none: all 1.

    Raises:
        InputError: other videos, times or classes, or not a weight above 0 for each.
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
    """Write an .npz, whole or not at all."""
    head = [[v.video, v.start_s, v.end_s, v.step_s, len(v.offsets)] for v in kept.videos]
    arrays = {name: np.concatenate([_arrays(video)[name] for video in kept.videos]) for name in ARRAYS}
    with atomic_path(path) as unfinished:
        np.savez_compressed(unfinished, spec=kept.spec.to_json(), videos=json.dumps(head), **arrays)  # type: ignore[arg-type]


def read_candidates(path: Path) -> KeptCandidates:
    """Read what `write_candidates` wrote (InputError: missing or not such a file; SpecError: see `spec_from_json`)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            spec, head = str(file["spec"]), json.loads(str(file["videos"]))
            arrays = {name: file[name] for name in ARRAYS}
    except FileNotFoundError:
        raise InputError(
            f"{path}: no candidates are kept there; delete the folder of the run and run it again"
        ) from None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a file of candidates: {' '.join(str(error).split())}; run again") from None
    ends = np.cumsum([entry[4] for entry in head])
    videos = []
    for (video, start_s, end_s, step_s, count), end in zip(head, ends, strict=True):
        part = {name: values[end - count : end] for name, values in arrays.items()}
        candidates = Candidates(part["segments"], part["labels"], part["scores"])
        videos.append(VideoCandidates(video, start_s, end_s, step_s, candidates, part["modules"], part["offsets"]))
    return KeptCandidates(spec_from_json(spec, str(path)), tuple(videos))


def _times(kept: KeptCandidates) -> list[tuple[str, float, float, float]]:
    return [(video.video, video.start_s, video.end_s, video.step_s) for video in kept.videos]


def _join_networks(parts: Sequence[VideoCandidates]) -> VideoCandidates:
    """The candidates of one video in the order of their windows; of one offset those of the first network first."""
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
