"""Measure what lower precision does: how far outputs drift, and which detections are lost, gained or moved.

Parity (`export.comparison.parity`) checks that an engine computes the same network. Drift is for engines whose
arithmetic differs on purpose: it compares the detections on real windows, each with its partner of the reference.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graph.trace import seeded_batches
from runtime.common.files import write_json
from runtime.common.tables import align
from runtime.decoding.two_stage import TWO_STAGE_OUTPUTS
from runtime.detector import Detector, DetectorOptions
from runtime.engines.base import Engine
from runtime.errors import ExportError, InputError
from runtime.evaluation.matching import match_by_score
from runtime.features.video_features import Features
from runtime.results.detections import Detections
from runtime.segments import tiou
from runtime.spec.model import ModelSpec
from runtime.video.sources import FrameSource

PARTNER_TIOU = 0.5
"""Smallest tIoU of two detections of one class that are partners."""

MOVED_SECONDS = 0.1
"""Distance in seconds between a start or end and its partner's above which a detection counts as moved."""

PROPOSALS = TWO_STAGE_OUTPUTS[0]

PROPOSAL_TIOU = 0.7
"""Smallest tIoU of two proposals that are partners: R-C3D's threshold of the NMS between the stages."""

BEST = 200
"""Number of top-scoring detections of each video that are compared; lower ones differ between any two precisions."""


OutputPair = tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]]
"""Raw outputs of reference and engine for one batch, arrays [B,N,width] by name."""


@dataclass(frozen=True)
class OutputDrift:
    """Holds the drift of one raw output over all windows."""

    name: str
    rms: float
    """Root mean square of the reference's output."""
    relative: float
    """Root mean square of the difference, divided by `rms`."""
    worst: float
    """Largest absolute difference; infinite where a number became NaN or infinite."""
    unpaired: float = 0.0
    """Share of a two-stage detector's reference proposals that the engine does not propose; they are left out."""


@dataclass(frozen=True)
class DetectionDrift:
    """Compares the best detections of one video, or of several together."""

    video: str
    followed: int
    """Number of best detections of the reference that are compared."""
    lost: int
    """Number of followed detections without a partner among all detections of the engine."""
    gained: int
    """Number of best detections of the engine without a partner among all detections of the reference."""
    moved: int
    """Number of followed detections whose partner starts or ends more than MOVED_SECONDS away."""
    median_shift_s: float
    """Median over the partners of the larger of start's and end's shift, in seconds."""
    largest_shift_s: float
    """Largest shift of a start or end over the partners, in seconds."""
    median_score_change: float
    """Median absolute change of the score over the partners."""
    best_unpaired: float
    """Highest score of a lost or gained detection; those near the score threshold differ in the last digit alone."""

    def sentence(self) -> str:
        """Describe in words what happened to the best detections."""
        alone = f" (highest score {self.best_unpaired:.3f})" if self.lost or self.gained else ""
        return (
            f"{self.followed - self.lost} of the best {self.followed} detections kept, {self.moved} of them moved by "
            f"more than {MOVED_SECONDS:g} s; {self.lost} lost and {self.gained} new{alone}"
        )


@dataclass(frozen=True)
class DriftReport:
    """Compares one engine with the reference, on the windows of some videos or on seeded windows."""

    engine: str
    reference: str
    windows: int
    outputs: tuple[OutputDrift, ...]
    detections: tuple[DetectionDrift, ...]
    """One entry per video, then one for all videos together; empty without videos."""

    def table(self) -> str:
        """Return the report as aligned text."""
        rows = [["output", "rms", "drift", "worst"]]
        rows += [[o.name, f"{o.rms:.4g}", f"{o.relative:.2%}", f"{o.worst:.3g}"] for o in self.outputs]
        kind = "windows of the videos" if self.detections else "seeded windows"
        text = f"drift of {self.engine} from {self.reference}, {self.windows} {kind}\n{_indent(align(rows))}"
        if self.outputs[0].unpaired:
            text += f"\n  {self.outputs[0].unpaired:.2%} of the proposals have no partner and are left out"
        if not self.detections:
            return text
        rows = [
            [
                "video",
                "detections",
                "lost",
                "gained",
                f"moved > {MOVED_SECONDS:g} s",
                "median shift",
                "largest",
                "score",
                "best unpaired",
            ]
        ]
        rows += [
            [
                d.video, str(d.followed), str(d.lost), str(d.gained), str(d.moved), f"{d.median_shift_s:.3f} s",
                f"{d.largest_shift_s:.2f} s", f"±{d.median_score_change:.4f}", f"{d.best_unpaired:.3f}",
            ]
            for d in self.detections
        ]  # fmt: skip
        return f"{text}\n{_indent(align(rows))}"

    def write(self, path: Path) -> None:
        """Store the report as JSON."""
        write_json(path, asdict(self))


@dataclass(frozen=True)
class Recording:
    """Keeps the raw outputs and detections of an engine on some videos."""

    engine: str
    """Precision, library and device of the engine, for reports."""
    outputs: tuple[Mapping[str, NDArray[Any]], ...]
    """Raw outputs of every window."""
    detections: tuple[Detections, ...]
    """Detections of every video."""


def record(engine: Engine, videos: Sequence[FrameSource | Features]) -> Recording:
    """Detect in videos and keep the engine's raw outputs and the detections.

    Args:
        engine: engine of any model.
        videos: see `runtime.detector.Detector.run`.

    Raises:
        InputError: features for a model on frames, or frames for one on features.
        VideoError, EngineError: see `Detector.run`.
    """
    recorder = _RecordingEngine(engine)
    detector = Detector(recorder, options=DetectorOptions(allow_truncated=True))
    detections = [detector.run(video) for video in videos]
    return Recording(_name(engine), tuple(recorder.outputs), tuple(detections))


def compare_recordings(reference: Recording, recording: Recording, *, best: int = BEST) -> DriftReport:
    """Compare two recordings of the same videos by raw outputs and the `best` top-scoring detections of each video."""
    pairs = list(zip(reference.outputs, recording.outputs, strict=True))
    found = list(zip(reference.detections, recording.detections, strict=True))
    each = tuple(measure_detection_drift([pair], best, pair[0].video) for pair in found)
    together = measure_detection_drift(found, best, "all")
    return DriftReport(recording.engine, reference.engine, len(pairs), measure_output_drift(pairs), (*each, together))


def measure_drift_on_videos(
    reference: Engine, engine: Engine, videos: Sequence[FrameSource | Features], *, best: int = BEST
) -> DriftReport:
    """Detect in each video with both engines and compare raw outputs and detections.

    Args:
        reference, engine: engines of one model; both see the same windows.
        videos: see `record`.
        best: number of top-scoring detections of each video that are compared.

    Raises:
        InputError: no video, or engines of different models.
        VideoError, EngineError: see `Detector.run`.
    """
    if not len(videos):
        raise InputError("drift: got no videos, expected at least one")
    if reference.spec.outputs != engine.spec.outputs or reference.spec.inputs != engine.spec.inputs:
        raise InputError("drift: the two engines have other inputs or outputs; expected one model in two precisions")
    return compare_recordings(record(reference, videos), record(engine, videos), best=best)


def measure_drift_on_windows(reference: Engine, engine: Engine, smallest: int = 1, largest: int = 2) -> DriftReport:
    """Compare raw outputs on the seeded windows of the parity report (no video, so no detections).

    Args:
        reference, engine: engines of one model.
        smallest, largest: range of batch sizes that the engine takes.
    """
    batches = list(seeded_batches(reference.spec, smallest, largest))
    pairs = [(reference.infer(inputs), engine.infer(inputs)) for inputs in batches]
    windows = sum(len(inputs["lengths"]) for inputs in batches)
    return DriftReport(_name(engine), _name(reference), windows, measure_output_drift(pairs), ())


def require_drift(report: DriftReport, names: Collection[str], limit: float, cause: str, advice: str) -> float:
    """Return the largest relative drift of some outputs, after checking it against a limit.

    Args:
        report: drift of an engine.
        names: names of the outputs that are checked.
        limit: largest relative drift, and largest share of unpaired proposals.
        cause: what explains drift up to the limit, for the message.
        advice: what the user can do, for the message.

    Raises:
        ExportError: the drift or the share of unpaired proposals is above the limit.
    """
    worst = max((output for output in report.outputs if output.name in names), key=lambda o: o.relative)
    if worst.unpaired > limit:
        raise ExportError(
            f"{report.engine} proposes other segments than {report.reference} ({worst.unpaired:.1%} of them), "
            f"more than {cause} explains ({limit:.0%}); {advice}"
        )
    if not worst.relative <= limit:
        raise ExportError(
            f"{report.engine} drifts from {report.reference} by {worst.relative:.1%} in its output {worst.name}, "
            f"more than {cause} explains ({limit:.0%}); {advice}"
        )
    return worst.relative


def measure_output_drift(pairs: Sequence[OutputPair]) -> tuple[OutputDrift, ...]:
    """Measure the drift of every raw output over all batches (at least one).

    A two-stage detector gives its proposals in the order of their scores, and two with nearly equal scores may swap
    places when the last digit changes; so every proposal is compared with its partner.
    """
    share = 0.0
    if PROPOSALS in pairs[0][0]:
        pairs, share = _pair_proposals(pairs)
    drifts = []
    for name in pairs[0][0]:
        expected = np.concatenate([np.float64(a[name]).ravel() for a, _ in pairs])
        error = np.abs(np.concatenate([np.float64(b[name]).ravel() for _, b in pairs]) - expected)
        error[~np.isfinite(error)] = np.inf
        if not error.size:  # no proposal of the engine has a partner
            drifts.append(OutputDrift(name, 0.0, np.inf, np.inf, share))
            continue
        rms = float(np.sqrt(np.mean(expected**2)))
        relative = float(np.sqrt(np.mean(error**2))) / max(rms, 1e-12)
        drifts.append(OutputDrift(name, rms, relative, float(error.max()), share))
    return tuple(drifts)


def _pair_proposals(pairs: Sequence[OutputPair]) -> tuple[list[OutputPair], float]:
    """Return windows whose rows are partner proposals in one order, and the share that the engine lacks.

    Each proposal takes the free one that it overlaps most. NMS leaves no two proposals of one side with a tIoU above
    its threshold, so at R-C3D's threshold a proposal has one candidate above PROPOSAL_TIOU at most.
    """
    paired: list[OutputPair] = []
    together = all_of_them = 0
    for expected, found in pairs:
        for window in range(len(expected[PROPOSALS])):
            sides = [{name: value[window] for name, value in side.items()} for side in (expected, found)]
            a, b = ({name: v[side["prop_score"][:, 0] > 0] for name, v in side.items()} for side in sides)
            overlaps = tiou(a[PROPOSALS][:, None], b[PROPOSALS][None]).astype(np.float64)
            rows, columns = np.array(match_by_score(overlaps, PROPOSAL_TIOU), np.int64).reshape(-1, 2).T
            paired.append(({n: v[rows] for n, v in a.items()}, {n: v[columns] for n, v in b.items()}))
            together += len(rows)
            all_of_them += len(a[PROPOSALS])
    return paired, 1 - together / max(all_of_them, 1)


def measure_detection_drift(pairs: Sequence[tuple[Detections, Detections]], best: int, name: str) -> DetectionDrift:
    """Compare pairs of (reference, engine) detections, one pair per video, and sum over the videos."""
    followed = lost = gained = 0
    shifts, changes, alone = [np.empty(0)], [np.empty(0)], [0.0]
    for reference, engine in pairs:
        expected, found = reference.sorted(), engine.sorted()
        first, last = np.arange(min(best, len(expected))), np.arange(min(best, len(found)))
        partners = _partners(expected.take(first), found)
        followed += len(first)
        back = _partners(found.take(last), expected)
        lost += len(first) - len(partners)
        gained += len(last) - len(back)
        alone += [_unpaired(expected.scores[: len(first)], partners), _unpaired(found.scores[: len(last)], back)]
        rows, columns = np.array(partners, np.int64).reshape(-1, 2).T
        shifts.append(np.abs(expected.segments[rows] - found.segments[columns]).max(axis=1, initial=0))
        changes.append(np.abs(expected.scores[rows] - found.scores[columns]))
    shift, change = np.concatenate(shifts), np.concatenate(changes)
    return DetectionDrift(
        name,
        followed,
        lost,
        gained,
        int((shift > MOVED_SECONDS).sum()),
        float(np.median(shift)) if shift.size else 0.0,
        float(shift.max(initial=0)),
        float(np.median(change)) if change.size else 0.0,
        max(alone),
    )


class _RecordingEngine:
    """Runs an engine and keeps its raw outputs, which are small."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.spec: ModelSpec = engine.spec
        self.library, self.device, self.precision = engine.library, engine.device, engine.precision
        self.outputs: list[dict[str, NDArray[np.float32]]] = []

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        outputs = self._engine.infer(inputs)
        self.outputs.append({name: np.array(value) for name, value in outputs.items()})
        return outputs

    def close(self) -> None:
        self._engine.close()


def _partners(rows: Detections, columns: Detections) -> list[tuple[int, int]]:
    """Return (row, column) of partners of one class; each row in turn takes the free column with the largest tIoU."""
    pairs: list[tuple[int, int]] = []
    for label in np.unique(rows.labels):
        at, of = np.flatnonzero(rows.labels == label), np.flatnonzero(columns.labels == label)
        overlaps = tiou(rows.segments[at][:, None], columns.segments[of][None])
        pairs += [(int(at[r]), int(of[c])) for r, c in match_by_score(overlaps, PARTNER_TIOU)]
    return sorted(pairs)


def _unpaired(scores: NDArray[np.float64], pairs: list[tuple[int, int]]) -> float:
    """Return the highest score whose row is in no pair; 0 when all rows are in one."""
    left = np.delete(scores, [row for row, _ in pairs])
    return float(left.max(initial=0))


def _name(engine: Engine) -> str:
    return f"{engine.precision} ({engine.library} on {engine.device})"


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
