"""Compute how long after the end of an action its detection comes at the latest."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.spec.model import ModelSpec
from runtime.spec.streaming import LIVE_CHUNK


@dataclass(frozen=True)
class Delay:
    """Holds the longest times from the end of a detection to the moment when it is given out, in seconds.

    The times that the network, the network cable and the source need come on top; a source that falls silent adds the
    seconds until it counts as lost.
    """

    usual_s: float
    """Bound for a detection that no chain of better ones holds back."""
    worst_s: float
    """Bound for every detection."""

    def __str__(self) -> str:
        return (
            f"a detection comes up to {self.usual_s:.1f} s after its action ends, in a chain of ever better "
            f"overlapping ones up to {self.worst_s:.1f} s; the time that the network takes comes on top"
        )


def worst_delay(
    spec: ModelSpec, settle_s: float, *, exclusive: bool = False, merge_gap_s: float | None = None
) -> Delay:
    """Compute the delay of a stream from its model and the bound on chains.

    With windows of L frames every S frames at r frames per second, a detection that ends at e is final when a window
    that starts at or after e has been seen, since candidates start no earlier than their window. The first such window
    starts at most S frames after e and is complete L frames later. What is on screen is known when the next picture has
    come, at most one frame later if the source is no slower than the model, and flow one frame after that. So

        usual = (L + S + 1 + flow) / r

    A better candidate that overlaps and is not final itself holds the detection back, and may be held back in turn,
    but none for longer than the bound on chains after it could have been final:

        worst = usual + settle

    A streaming backbone gives its features D frames late, and in chunks of C frames, while a window may be whole after
    any multiple of M frames, so usual grows by (D + C − M) / r.

    A selection (`runtime.suppression.selection`) waits for all detections that start before e, and one that is L frames
    long may not be final yet: exclusive detections add L / r, merging L / r and the gap. Each may hold a chain back for
    as long as suppression may.

    Args:
        spec: the model's.
        settle_s: longest wait in seconds in a chain (`DetectorOptions.horizon`).
        exclusive: whether detections may not overlap.
        merge_gap_s: gap in seconds within which detections are merged; None: they are not.
    """
    flow = spec.stream in ("flow", "rgb+flow")
    late = 0 if spec.streaming is None else spec.streaming.delay + LIVE_CHUNK - spec.streaming.multiple
    frames = spec.window_length + spec.window_stride + late + 1 + flow
    stages = exclusive + (merge_gap_s is not None)
    usual = (frames + stages * spec.window_length) / spec.sample_fps + (merge_gap_s or 0.0)
    return Delay(usual, usual + (1 + stages) * settle_s)
