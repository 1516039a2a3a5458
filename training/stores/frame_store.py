"""Read frame stores: a folder with one memory-mapped array of sampled, resized frames per video, and an index.

<store>/<video>.npy    uint8 [T,H,W,3] RGB (or [T,H,W,2] flow x, y), as the published arrays
<store>/index.json     sampling of the frames, and size and origin of each array
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.common.files import open_file, read_json, write_json
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.common.names import require_safe_names
from runtime.common.ranges import Channels, Frames, FramesPerSecond, Pixels, check_ranges
from runtime.common.text import counted, one_line
from runtime.errors import InputError
from runtime.features.files import UNREADABLE
from runtime.video.sampling import FrameTiming

INDEX = "index.json"


@dataclass(frozen=True)
class Sampling:
    """Describes how frames were taken from the videos."""

    fps: FramesPerSecond | None
    """Frames per second of video time; None: each video at its own rate, which gives `whole_frames`."""
    frame_size: Pixels
    """Side of the square frame, pixels; the aspect ratio is not kept."""
    channels: Channels = 3
    """Number of channels: 3 = RGB, 2 = flow (x, y)."""
    whole_frames: Frames | None = None
    """Number T of frames to which a whole video is sampled down; a shorter video keeps all its frames (ActivityNet)."""
    timing: FrameTiming = "counted"
    """Rule by which frames were taken: by time stamps, or counted, as in the published stores and in older ones."""

    def __str__(self) -> str:
        rate = f"{self.fps:g} fps" if self.fps else f"whole videos in up to {self.whole_frames} frames"
        return f"{'flow' if self.channels == 2 else 'RGB'}, {self.frame_size} pixels, {rate}, {self.timing}"

    def __post_init__(self) -> None:
        check_ranges(self)
        if (self.fps is None) == (self.whole_frames is None):
            raise ValueError(f"got fps {self.fps} and whole_frames {self.whole_frames}, expected one of the two")
        if self.channels not in (2, 3):
            raise ValueError(f"channels: got {self.channels}, expected 3 (RGB) or 2 (flow)")


@dataclass(frozen=True)
class StoredVideo:
    """Describes one array of the store, as the index holds it."""

    frames: int
    array_bytes: int
    """Size of the .npy file."""
    source_bytes: int | None = None
    """Size of the video file that the array or its RGB frames were made from; None: made by other software."""
    source_digest: str = ""
    """Identity of that video file's content (see `video_digest`); empty: unknown."""
    source_modified_ns: int | None = None
    """Time of that video file's last change; as long as it stands, the content need not be read to be known."""
    source_fps: float | None = None
    """Frame rate of the video file."""
    source_frames: int | None = None
    """Number of frames decoded from the video file."""
    declared_frames: int | None = None
    """Number of frames that the video file's container declares."""
    sample_fps: float | None = None
    """Sampled frames per second of this video, if the store has no common rate."""


@dataclass(frozen=True)
class StoreIndex:
    """Holds the content of index.json."""

    sampling: Sampling
    videos: dict[str, StoredVideo] = field(default_factory=dict)
    flow_method: str = ""
    """Name of the method that made a flow store's flow; empty for RGB and for arrays made by other software."""
    schema: int = 1


class FrameStore:
    """Opens the arrays of a store on demand; the data set is never in memory as a whole."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open a store.

        Raises:
            InputError: the folder has no index, or an index of another kind.
        """
        self.folder = Path(folder)
        self._index = read_index(self.folder / INDEX)

    @property
    def sampling(self) -> Sampling:
        return self._index.sampling

    @property
    def videos(self) -> Mapping[str, StoredVideo]:
        """Videos of the store by name."""
        return self._index.videos

    @property
    def flow_method(self) -> str:
        """Name of the method of a flow store; empty if unknown."""
        return self._index.flow_method

    def sample_fps(self, video: str) -> float:
        """Return the sampled frames per second of a video of the store (InputError: unknown)."""
        rate = self._index.videos[video].sample_fps or self.sampling.fps
        if rate is None:
            raise InputError(f"{self.folder}: {INDEX} has no sample_fps for {video!r}; build the frame store again")
        return rate

    def __len__(self) -> int:
        return len(self._index.videos)

    def __getitem__(self, video: str) -> NDArray[np.uint8]:
        """Open the frames of a video, uint8 [T,H,W,C], as a read-only memory map.

        The file is opened at each call (0.1 ms) and closed with the array, so that open files do not accumulate.

        Raises:
            InputError: video not in the store, or its file is missing, truncated, or differs from the index.
        """
        if video not in self._index.videos:
            raise InputError(f"{self.folder}: no frames of {video!r}; build the frame store again with this video")
        return open_array(self.folder / f"{video}.npy", self.sampling, self._index.videos[video].frames)


def index_arrays(
    folder: str | os.PathLike[str],
    *,
    frame_size: int,
    sample_fps: float | None = None,
    rates: Mapping[str, float] | None = None,
    whole_frames: int | None = None,
    channels: int = 3,
) -> FrameStore:
    """Index a folder of .npy files made by other software (the published RGB or flow arrays) as a frame store.

    Args:
        folder: holds <video>.npy.
        frame_size: side of the square frames, pixels.
        sample_fps: common rate of all videos (THUMOS14: 10), or None with `rates` and `whole_frames`.
        rates: rate of each video (ActivityNet: `fps` of the released video_info_train_val.json).
        whole_frames: largest number T of frames of a video (768).
        channels: 3, or 2 for flow.

    Raises:
        InputError: the folder has no .npy file, one that is not uint8 [T, frame_size, frame_size, channels], or a video
            without a rate.
    """
    folder = Path(folder)
    sampling = make_sampling(fps=sample_fps, frame_size=frame_size, channels=channels, whole_frames=whole_frames)
    paths = sorted(folder.glob("*.npy"))
    if not paths:
        raise InputError(f"{folder}: holds no .npy file, expected one array [T,H,W,{channels}] per video")
    lacking = [path.stem for path in paths if sample_fps is None and path.stem not in (rates or {})]
    if lacking:
        raise InputError(
            f"{folder}: {counted(len(lacking), 'video')} without a rate, the first is {lacking[0]!r}; add it to rates"
        )
    videos = {
        path.stem: StoredVideo(
            len(open_array(path, sampling)),
            path.stat().st_size,
            sample_fps=None if rates is None else float(rates[path.stem]),
        )
        for path in paths
    }
    write_index(folder / INDEX, StoreIndex(sampling, videos))
    return FrameStore(folder)


def make_sampling(
    *,
    frame_size: int,
    fps: float | None = None,
    channels: int = 3,
    whole_frames: int | None = None,
    timing: FrameTiming = "counted",
) -> Sampling:
    """Build a `Sampling` from a user's values (InputError: out of range)."""
    try:
        return Sampling(None if fps is None else float(fps), frame_size, channels, whole_frames, timing)
    except ValueError as error:
        raise InputError(f"frame store: {error}") from None


def open_array(path: Path, sampling: Sampling, frames: int | None = None) -> NDArray[np.uint8]:
    """Memory-map one array and check its type and shape (InputError); `frames` None accepts any number."""
    advice = "delete it and build the frame store again"
    try:
        open_file(path).close()  # a pipe would be waited for
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)}); {advice}") from None
    expected = (sampling.frame_size, sampling.frame_size, sampling.channels)
    if (
        array.dtype != np.uint8
        or array.ndim != 4
        or array.shape[1:] != expected
        or len(array) != (frames or len(array))
    ):
        want = ",".join(map(str, (frames or "T", *expected)))
        raise InputError(f"{path}: got {array.dtype} {list(array.shape)}, expected uint8 [{want}]; {advice}")
    return array


def read_index(path: Path) -> StoreIndex:
    """Read the index of a store (InputError: missing or malformed)."""
    if not path.exists():
        raise InputError(f"{path.parent}: frame store not found ({path.name} is missing); build it first")
    try:
        index = from_mapping(StoreIndex, read_json(path, "frame store's index", InputError))
    except StructureError as error:
        raise InputError(f"{path}: not the index of a frame store: {one_line(error)}") from None
    require_safe_names(index.videos)
    return index


def write_index(path: Path, index: StoreIndex) -> None:
    """Write the index of a store atomically."""
    write_json(path, to_mapping(index))
