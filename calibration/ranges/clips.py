"""Draw the windows that ranges are measured on by a seed, spread over videos, motion and brightness.

The largest values of a network set a range, so calibration clips must differ: dark and bright, still and moving. Every
video gives about the same number of clips; within a video the next clip is the one that differs most from those chosen
so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.temporaries import scratch_folder
from runtime.common.text import counted
from runtime.errors import InputError
from runtime.features.video_features import Features, Video, identify_video, open_steps
from runtime.inputs import make_engine_inputs, open_input
from runtime.spec.model import ModelSpec
from runtime.windows import Window, cut_windows

THINNED = 4
"""Stride of the rows and columns from which brightness and motion are measured."""

BLANK = 1.0
"""Standard deviation of the pixels (0 – 255) below which a window counts as a single colour."""


@dataclass(frozen=True)
class Clip:
    """Describes one window of a video."""

    video: str
    """Name of the file without its suffix, with its folder where two names would be equal."""
    window: int
    """Number of the window in the video, as the detector counts windows."""
    offset: int
    """First frame of the window, in sampled frames."""
    brightness: float
    """Mean of the pixels, 0 – 255, or mean of the features."""
    motion: float
    """Mean absolute change of the pixels from one frame to the next, 0 – 255, or of the features from step to step."""


class Clips:
    """Keeps the drawn windows in temporary files, to be read several times without filling the memory.

    Use it as a context manager, which removes the files at its end.
    """

    def __init__(self, spec: ModelSpec, clips: Sequence[Clip], videos: dict[str, str]) -> None:
        self.spec = spec
        self.clips = tuple(clips)
        """Clips in the order of the videos, then of time."""
        self.videos = videos
        """Name of each video that clips are from → the first digits of its SHA-256."""
        self.sha256 = ""
        """SHA-256 over the pixels of all clips; empty until `store` has written them."""
        self._closing = ExitStack()
        self._folder = self._closing.enter_context(scratch_folder())
        self._windows: list[tuple[Path, int]] = []

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the engine inputs of each clip, a batch of one."""
        return (self._inputs(k) for k in range(len(self._windows)))

    def first(self, count: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the engine inputs of `count` clips, spread evenly over all clips."""
        wanted = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int).tolist()
        return (self._inputs(k) for k in wanted)

    def _inputs(self, k: int) -> dict[str, NDArray[Any]]:
        path, length = self._windows[k]
        window = Window(0, np.load(path, allow_pickle=False), length)
        return make_engine_inputs([window], 1, self.spec)

    def store(self, windows: Iterator[Window]) -> None:
        """Write the windows of `clips`, in the order of `clips`, to the temporary files."""
        digest = sha256()
        for k, window in enumerate(windows):
            path = self._folder / f"{k}.npy"
            np.save(path, window.frames)
            digest.update(window.frames.tobytes())
            self._windows.append((path, window.length))
        self.sha256 = digest.hexdigest()

    def __enter__(self) -> Clips:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()


def draw_clips(
    videos: Sequence[Video], spec: ModelSpec, count: int, seed: int = 0, say: Callable[[str], None] = lambda _: None
) -> Clips:
    """Draw `count` windows, or all if there are fewer, and store them.

    Every window of the videos is decoded; if there are more videos than clips, `count` videos are drawn first.

    Args:
        videos: video files, or features if the model is on features.
        spec: ModelSpec with frame rate, size, window length and stride.
        count: number of clips.
        seed: seed of the draw.
        say: receives notes on what was drawn or left out.

    Raises:
        InputError: no video, a count below 1, or only windows of a single colour.
        VideoError: a video cannot be opened or decoded.
    """
    if not videos:
        raise InputError("calibration: got no videos, expected at least one; give --videos FILE or FOLDER")
    if count < 1:
        raise InputError(f"calibration: got {counted(count, 'clip')}, expected at least 1")
    rng = np.random.default_rng(seed)
    for video in videos:
        if isinstance(video, Features) != (spec.features is not None):
            raise InputError(f"{video}: the model sees {spec.stream}; calibrate it on {spec.stream}")
    videos = list(dict.fromkeys(v if isinstance(v, Features) else v.resolve() for v in videos))
    named = _names(videos)
    drawn = [videos[k] for k in np.sort(rng.permutation(len(videos))[:count])]
    if len(drawn) < len(videos):
        say(f"{len(drawn)} of {counted(len(videos), 'video')} drawn")
    found: list[list[Clip]] = []
    blank = 0
    for path in drawn:
        surveyed = [_survey(named[path], k, window) for k, window in enumerate(_windows(path, spec))]
        found.append([clip for clip in surveyed if clip is not None])
        blank += len(surveyed) - len(found[-1])
    if not any(found):
        raise InputError(
            f"calibration: all {blank} windows of {len(drawn)} video(s) show a single colour, so that nothing can be "
            "measured on them; expected videos like those that will be searched"
        )
    if blank:
        say(f"{blank} windows show a single colour and are left out")
    chosen = _choose(found, count, rng)
    if sum(map(len, chosen)) < count:
        say(f"the videos have {counted(sum(map(len, chosen)), 'window')}, all are taken")
    kept = [(path, clips) for path, clips in zip(drawn, chosen, strict=True) if clips]
    clips = Clips(spec, [c for _, clips in kept for c in clips], {named[p]: identify_video(p) for p, _ in kept})
    clips.store(window for path, some in kept for window in _read_windows(path, spec, some))
    return clips


def _names(videos: Sequence[Video]) -> dict[Video, str]:
    """Map each video to its file's name without suffix, with the folder where two names would be equal."""
    stems = [video.name if isinstance(video, Features) else video.stem for video in videos]
    return {
        video: stem if stems.count(stem) == 1 else str(Path(str(video)).with_suffix(""))
        for video, stem in zip(videos, stems, strict=True)
    }


def _windows(video: Video, spec: ModelSpec) -> Iterator[Window]:
    """Yield the windows of a video, as the detector cuts them."""
    if isinstance(video, Features):  # the time axis does not matter here
        yield from cut_windows(open_steps(video, spec).read(), spec.window_length, spec.window_stride)
        return
    with closing(open_input(video, spec, allow_truncated=True)) as opened:
        yield from (window for window in opened.windows() if isinstance(window, Window))


def _survey(video: str, number: int, window: Window) -> Clip | None:
    """Measure brightness and motion of a window; None if it shows a single colour or its features are one number."""
    if window.frames.ndim == 2:  # features: use all channels
        thin = window.frames[: window.length]
        blank = not np.ptp(thin) > 0
    else:
        thin = window.frames[: window.length, ::THINNED, ::THINNED].astype(np.int16)
        blank = bool(thin.std() < BLANK)
    if blank:
        return None
    motion = float(np.abs(np.diff(thin, axis=0)).mean()) if len(thin) > 1 else 0.0
    return Clip(video, number, window.offset, round(float(thin.mean()), 2), round(motion, 3))


def _choose(found: Sequence[Sequence[Clip]], count: int, rng: np.random.Generator) -> list[list[Clip]]:
    """Choose in each round one clip per video: the one farthest in motion and brightness from all chosen clips."""
    places = _ranks([clip for clips in found for clip in clips])
    chosen: list[list[Clip]] = [[] for _ in found]
    taken = np.empty((0, 2))
    while len(taken) < count:
        before = len(taken)
        for video in rng.permutation(len(found)):
            left = [clip for clip in found[video] if clip not in chosen[video]]
            if not left or len(taken) == count:
                continue
            at = np.array([places[clip.video, clip.window] for clip in left])
            gap = np.abs(at[:, None] - taken[None]).sum(axis=2).min(axis=1) if len(taken) else np.ones(len(at))
            best = int(np.argmax(gap + 1e-6 * rng.random(len(at))))
            chosen[video].append(left[best])
            taken = np.vstack([taken, at[best]])
        if len(taken) == before:
            break
    return [sorted(clips, key=lambda clip: clip.window) for clips in chosen]


def _ranks(clips: Sequence[Clip]) -> dict[tuple[str, int], tuple[float, float]]:
    """Map (video, window) to the ranks of its brightness and motion among all clips, 0 … 1."""
    values = np.array([[clip.brightness, clip.motion] for clip in clips])
    ranks = values.argsort(axis=0, kind="stable").argsort(axis=0) / max(len(clips) - 1, 1)
    return {(c.video, c.window): (float(b), float(m)) for c, (b, m) in zip(clips, ranks, strict=True)}


def _read_windows(video: Video, spec: ModelSpec, clips: Sequence[Clip]) -> Iterator[Window]:
    numbers = {clip.window for clip in clips}
    return (window for number, window in enumerate(_windows(video, spec)) if number in numbers)
