"""Describe a feature set: folders with one feature file per video, and a file that says what they are.

<root>/features.json     which folders, which annotations, how the steps lie in time (`FeatureDescription`)
<folder>/<prefix><video><suffix>.npy | .npz     [T,C]   (see files.py)

Folders and annotations are relative to the file. A folder may hold `{fold}` in its name, as in "split{fold}": features
that were made anew for every fold of a cross-validation, such as GTEA's, each to be used with its own fold alone.
Several folders are streams: their channels follow one another in the order of the folders (A2Net: RGB, then flow).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from runtime.common.files import PathLike, one_line, read_json, write_json
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.errors import InputError
from runtime.features.axes import AxisOrder
from runtime.spec.time_axis import FeatureSampling, Uneven

FEATURES = "features.json"
FOLD = "{fold}"


@dataclass(frozen=True)
class StreamFolder:
    """Where the files of one stream lie and how they are named."""

    folder: str
    """Relative to the description; may hold `{fold}`."""
    prefix: str = ""
    """Text before the video's name in a file's name (ActionFormer: `file_prefix`; ActivityNet: v_)."""
    suffix: str = ""
    """Text after the video's name, before .npy or .npz."""


@dataclass(frozen=True)
class FeatureDescription:
    """The content of features.json."""

    annotations: str
    """ActivityNet JSON."""
    streams: tuple[StreamFolder, ...]
    """At least one."""
    sampling: FeatureSampling = field(default_factory=FeatureSampling)
    layout: AxisOrder | Literal["auto"] = "auto"
    """Which axis of the arrays is time; "auto": found out where there is no doubt (see axes.py)."""
    width: int | None = None
    """Channels of all streams together, where known beforehand."""
    resize: int | None = None
    """Every video is resized to this many steps by linear interpolation (whole videos, ActivityNet)."""
    uneven: Uneven = "cut"
    """What is done where the streams of a video differ in length."""
    schema: int = 1

    def __post_init__(self) -> None:
        if not self.streams:
            raise ValueError("streams is empty, expected at least one folder of features")
        if self.resize is not None and (self.resize < 1 or not self.sampling.whole_video):
            raise ValueError(f"resize is {self.resize}, expected 1 or more, and only with sampling.whole_video")

    @property
    def per_fold(self) -> bool:
        """Whether every fold has features of its own."""
        return any(FOLD in stream.folder for stream in self.streams)

    def of_streams(self, *numbers: int) -> FeatureDescription:
        """Return the description of some streams alone, counted from 0, in the order given (A2Net, Table VII)."""
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
    """Write the description of a feature set, whole or not at all."""
    write_json(path, to_mapping(description))
