"""What a feature set is: folders with one feature file per video, and a file that describes them.

<root>/features.json     which folders, which annotations, how the steps lie in time (`FeatureSource`)
<folder>/<prefix><video><suffix>.npy | .npz     [T,C]   (see runtime/features/files.py)

Folders and annotations are relative to the file. A folder may hold `{fold}` in its name, as in "split{fold}": features
that were made anew for every fold of a cross-validation, such as GTEA's, each to be used with its own fold alone.
Several folders are streams: their channels follow one another in the order of the folders (A2Net: RGB, then flow).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from runtime.common.files import atomic_path
from runtime.common.mappings import from_mapping, to_mapping
from runtime.errors import InputError
from runtime.features.files import Layout
from runtime.spec.time_axis import FeatureSampling

FEATURES = "features.json"
FOLD = "{fold}"
Uneven = Literal["cut", "stretch"]
"""Streams of different length: cut to the shortest, if they differ by a step or two (flow has one frame less than RGB);
or stretched to the longest by linear interpolation, however different they are (OpenTAD)."""


@dataclass(frozen=True)
class FeatureStream:
    """The files of one stream."""

    folder: str
    """Relative to the description; may hold `{fold}`."""
    prefix: str = ""
    """Before the name of the video in its file's name (ActionFormer: `file_prefix`; ActivityNet: v_) …"""
    suffix: str = ""
    """… and after it, before .npy or .npz."""


@dataclass(frozen=True)
class FeatureSource:
    """The content of features.json."""

    annotations: str
    """ActivityNet JSON."""
    streams: tuple[FeatureStream, ...]
    """At least one."""
    sampling: FeatureSampling = field(default_factory=FeatureSampling)
    layout: Layout | Literal["auto"] = "auto"
    """Which axis of the arrays is time; "auto": found out where there is no doubt (see feature_layout.py)."""
    width: int | None = None
    """Channels of all streams together, where it is known beforehand."""
    resize: int | None = None
    """Every video is resized to this many steps by linear interpolation (whole videos, ActivityNet)."""
    uneven: Uneven = "cut"
    schema: int = 1

    def __post_init__(self) -> None:
        if not self.streams:
            raise ValueError("streams is empty, expected at least one folder of features")
        if self.resize is not None and (self.resize < 1 or not self.sampling.whole_video):
            raise ValueError(f"resize is {self.resize}, expected 1 or more, and only with sampling.whole_video")

    @property
    def per_fold(self) -> bool:
        """Whether the features are other ones in every fold."""
        return any(FOLD in stream.folder for stream in self.streams)

    def of_streams(self, *numbers: int) -> FeatureSource:
        """The set of some of its streams alone, counted from 0, in the order given (A2Net, Table VII)."""
        if not all(0 <= number < len(self.streams) for number in numbers):
            raise InputError(f"streams {numbers}: expected numbers from 0 to {len(self.streams) - 1}")
        return replace(self, streams=tuple(self.streams[number] for number in numbers), width=None)


def read_source(path: str | os.PathLike[str]) -> FeatureSource:
    """The description of a feature set (InputError: missing or malformed)."""
    path = Path(path)
    try:
        return from_mapping(FeatureSource, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: no description of a feature set; write one with afsd prepare features") from None
    except (OSError, ValueError) as error:  # StructureError is a ValueError
        raise InputError(f"{path}: not the description of a feature set: {' '.join(str(error).split())}") from None


def write_source(path: str | os.PathLike[str], source: FeatureSource) -> None:
    """Write the description of a feature set, whole or not at all."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(to_mapping(source), indent=1), encoding="utf-8")
