"""Describe a feature set: folders with one feature file per video, and the file features.json about them.

<root>/features.json     the folders, the annotations, and the time axis of the steps (`FeatureDescription`)
<folder>/<prefix><video><suffix>.npy | .npz     [T,C]   (see files.py)

Folders and annotations are relative to features.json. A folder may hold `{fold}` in its name, as in "split{fold}":
features made anew for every fold of a cross-validation (GTEA), each used with its own fold only.
Several folders are streams: their channels are concatenated in the order of the folders (A2Net: RGB, then flow).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from runtime.common.files import PathLike, read_json, write_json
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.common.names import require_safe_name
from runtime.common.text import one_line
from runtime.errors import InputError
from runtime.features.axes import AxisOrder
from runtime.spec.time_axis import FeatureSampling, Uneven

FEATURES = "features.json"
FOLD = "{fold}"


@dataclass(frozen=True)
class StreamFolder:
    """Holds the folder and the file names of one stream."""

    folder: str
    """Folder of the files, relative to the description; may hold `{fold}`."""
    prefix: str = ""
    """Text before the video's name in a file's name (ActionFormer: `file_prefix`; ActivityNet: v_)."""
    suffix: str = ""
    """Text after the video's name, before .npy or .npz."""

    def __post_init__(self) -> None:
        for name in ("prefix", "suffix"):
            require_safe_name(f"x{getattr(self, name)}x", what=f"{name} around a video's name")


@dataclass(frozen=True)
class FeatureDescription:
    """Holds the content of features.json."""

    annotations: str
    """Path of the annotations in ActivityNet JSON, relative to features.json."""
    streams: tuple[StreamFolder, ...]
    """Folders of the streams, at least one."""
    sampling: FeatureSampling = field(default_factory=FeatureSampling)
    layout: AxisOrder | Literal["auto"] = "auto"
    """Axis order of the arrays; "auto": found from the arrays where they leave no doubt (see axes.py)."""
    width: int | None = None
    """Channels of all streams together, where known in advance."""
    resize: int | None = None
    """Number of steps to which every video is resized by linear interpolation (whole videos, ActivityNet)."""
    uneven: Uneven = "cut"
    """Treatment of videos whose streams differ in length."""
    schema: int = 1

    def __post_init__(self) -> None:
        if not self.streams:
            raise ValueError("streams is empty, expected at least one folder of features")
        if self.resize is not None and (self.resize < 1 or not self.sampling.whole_video):
            raise ValueError(f"resize is {self.resize}, expected 1 or more, and only with sampling.whole_video")

    @property
    def per_fold(self) -> bool:
        """Whether every fold has its own features."""
        return any(FOLD in stream.folder for stream in self.streams)

    def take_streams(self, *numbers: int) -> FeatureDescription:
        """Return the description with only the given streams, counted from 0, in the order given (A2Net, Table VII)."""
        if not all(0 <= number < len(self.streams) for number in numbers):
            raise InputError(f"streams {numbers}: expected numbers from 0 to {len(self.streams) - 1}")
        return replace(self, streams=tuple(self.streams[number] for number in numbers), width=None)


def read_description(path: PathLike) -> FeatureDescription:
    """Read the description of a feature set (InputError: missing or malformed)."""
    content = read_json(path, "description of a feature set; afsd prepare features writes one", InputError)
    try:
        return from_mapping(FeatureDescription, content)
    except StructureError as error:
        raise InputError(f"{path}: not the description of a feature set: {one_line(error)}") from None


def write_description(path: PathLike, description: FeatureDescription) -> None:
    """Write the description of a feature set atomically."""
    write_json(path, to_mapping(description))
