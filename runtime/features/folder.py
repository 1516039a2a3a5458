"""Write the features of videos as a feature set (`afsd features`).

<out>/rgb/<video>.npy, <out>/flow/<video>.npy   float32 [T,C], a folder per backbone; rgb/day1/cam1.npy of "day1/cam1"
<out>/features.json       the description that training reads (see description.py)
<out>/videos.json         duration and rate of each video, as annotations without any action
<out>/extraction.json     the settings: later runs must have the same, and skip the videos that are done

Several processes may write to one folder, each its own videos. A name stands for one video; a video whose content has
changed is made anew, and so is a URL, whose content nobody knows before it is read, unless a store says its tag.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from runtime.common.files import read_json, write_json
from runtime.common.locks import lock_folder
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.common.names import path_in
from runtime.common.npy_writer import grow_npy
from runtime.common.ranges import FramesPerSecond, check_ranges
from runtime.common.stops import shield
from runtime.common.temporaries import NAME
from runtime.errors import InputError, VideoWarning
from runtime.features.description import FEATURES, FeatureDescription, StreamFolder, write_description
from runtime.features.extractor import FeatureExtractor, feature_width
from runtime.timing import Timing
from runtime.video.flow import FlowEstimator, FlowMethod
from runtime.video.names import DIGITS, video_digest
from runtime.video.readers.choice import ReaderName
from runtime.video.rgb_and_flow import open_streams
from runtime.video.sampling import FrameStream, FrameTiming
from runtime.video.sources import is_remote, local_path, name_of
from runtime.video.stores import ask_facts

VIDEOS, RECORD = "videos.json", "extraction.json"
SHA256_DIGITS = 64


@dataclass(frozen=True)
class ExtractionOptions:
    """Holds the settings of extraction that concern the frames."""

    fps: FramesPerSecond | None = None
    """Frames per second of the videos, if the file declares none or a wrong rate."""
    flow_method: FlowMethod = "auto"
    timing: FrameTiming | None = None
    """Rule by which frames are sampled (see `FrameTiming`); None: that of the folder, "presented" in a new one."""
    reader: ReaderName = "auto"
    """Library that reads the videos (see `ReaderName`)."""
    allow_truncated: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class BackboneRecord:
    """Holds the properties of a backbone that determine the features."""

    stream: str
    weights_sha256: str
    frame_size: tuple[int, int]
    snippet: int
    """Number of frames of a snippet."""
    stride: int
    """Number of frames from one snippet to the next."""
    precision: str
    library: str
    """Name of the engine library, without its version."""


@dataclass(frozen=True)
class ExtractionSettings:
    """Holds all settings that determine the features of a video."""

    backbones: tuple[BackboneRecord, ...]
    sample_fps: float | None
    """Rate at which frames were sampled; None: every frame."""
    fps: float | None
    """Rate given for the videos; None: as the files declare."""
    flow: str
    """Method of optical flow; empty without a flow backbone."""
    timing: FrameTiming = "counted"
    """Rule by which frames were sampled; older records have none."""


@dataclass(frozen=True)
class VideoRecord:
    """Records a video whose features are written."""

    digest: str
    """Identity of the content (see `video_digest`): of an object of a store of what that says, of a URL of its text."""
    fps: float
    duration_s: float
    steps: int
    source: str = ""
    """Path of the file or folder from the folder of the features; of an object of a store its address; empty for
    another URL, which may hold a password."""


@dataclass(frozen=True)
class ExtractionRecord:
    """Holds the content of extraction.json."""

    settings: ExtractionSettings
    videos: dict[str, VideoRecord] = field(default_factory=dict)
    schema: int = 1


class FeatureFolder:
    """Writes the features of one video after the other to a folder."""

    def __init__(self, out: Path, extractor: FeatureExtractor, options: ExtractionOptions | None = None) -> None:
        """Start a folder, or continue an existing one.

        Raises:
            InputError: the folder holds features of other or unknown settings.
            MissingDependencyError: the method of optical flow is not installed.
        """
        self.out, self._extractor = out, extractor
        self._options = ExtractionOptions() if options is None else options
        with lock_folder(out, "afsd features"):
            record = _read_record(out / RECORD)
            timing = self._options.timing or ("presented" if record is None else record.settings.timing)
            self._settings = _settings(extractor, replace(self._options, timing=timing))
            self._record = self._read_or_start()

    def add(
        self, source: str | int, on_progress: Callable[[Timing], None] | None = None, name: str = ""
    ) -> tuple[str, VideoRecord, Timing | None]:
        """Write the features of a video.

        Args:
            source: file, folder of images, or URL.
            on_progress: called after each batch of snippets.
            name: name of the video, such as its path in a folder, "day1/cam1"; empty: that of the source itself.

        Returns:
            The video's name, its record, and the timing; None instead of the timing if the features already existed.

        Raises:
            VideoError, InputError, EngineError: the video cannot be read, another video of its name was written, or a
                backbone failed; nothing of the video is written.
        """
        if is_remote(source):  # to open one costs a request for many bytes
            digest, place = self._identify(source)
            known = name or name_of(str(source))[0]
            there = self._find_there(known, digest, place)
            if there is not None and there.digest == digest and place:
                return known, there, None
        timing = Timing(self._extractor.spec.sample_fps)
        stream = open_streams(
            source,
            self._extractor.spec,
            timing,
            flow_method=self._options.flow_method,
            fps=self._options.fps,
            batch_size=self._extractor.batch_size,
            allow_truncated=self._options.allow_truncated,
            frame_timing=self._record.settings.timing,
            reader=self._options.reader,
        )
        with stream:
            name = name or stream.name
            digest, place = self._identify(source)
            there = self._find_there(name, digest, place)
            self._warn_of_older_name(name, place)
            if there is not None and there.digest == digest and place:
                return name, there, None
            return name, self._write(name, stream, digest, place, timing, on_progress), timing

    def paths(self, video: str) -> list[Path]:
        """Return the paths of a video's feature files, one per backbone."""
        folders = [self.out / engine.spec.stream for engine in self._extractor.backbones]
        return [path_in(folder, video, ".npy", deep=True) for folder in folders]

    def _read_or_start(self) -> ExtractionRecord:
        """Read the folder's record, or start one; the lock must be held."""
        record = _read_record(self.out / RECORD)
        if record is None or not (record.videos or _features_in(self.out, record)):
            record = _start_record(self.out, ExtractionRecord(self._settings))
        difference = next(_differences(record.settings, self._settings), None)
        if difference is not None:
            name, there, here = difference
            raise InputError(
                f"{self.out}: its features were made with {name} {there}, these would be with {here}; "
                "use another folder"
            )
        return record

    def _identify(self, source: str | int) -> tuple[str, str]:
        """Return the digest of a video and its path from the folder; of an object in a store its address.

        Of another URL, of which nothing is known before it is read, it is the digest of its text, and no path.
        """
        path = None if isinstance(source, int) else local_path(source)
        if path is None:
            text, place = str(source), ""
            if isinstance(source, str) and is_remote(source):
                with suppress(Exception):  # opening it says what is wrong
                    facts = ask_facts(source)
                    text, place = ("\n".join(facts), name_of(source)[1]) if facts else (text, place)
            return sha256(text.encode(errors="surrogateescape")).hexdigest()[:DIGITS], place
        path = path.resolve()
        try:
            place = os.path.relpath(path, self.out.resolve())
        except ValueError:  # on another drive of Windows
            place = str(path)
        return video_digest(path), Path(place).as_posix()

    def _find_there(self, name: str, digest: str, place: str) -> VideoRecord | None:
        """Return the record of the video if its files are there, of this content or an earlier one (InputError: they
        are of another video)."""
        record = self._record.videos.get(name)
        if record is None or not all(path.is_file() for path in self.paths(name)):
            return None
        if record.digest not in ("", digest) and not (place and place == record.source):
            raise InputError(
                f"{self.out}: holds features of another video named {name}{record.source and f', {record.source}'}; "
                "rename one, or use another folder"
            )
        return record

    def _warn_of_older_name(self, name: str, place: str) -> None:
        """Warn if the folder has the features of a video under the name of its file alone, as older releases wrote."""
        older = name.rpartition("/")[2]
        record = self._record.videos.get(older)
        if older != name and record is not None and place and record.source == place:
            warnings.warn(
                f"{self.out}: holds the features of {place} as {older!r}, too, so the video is twice in the set; "
                "use another folder",
                VideoWarning,
                stacklevel=3,
            )

    def _write(
        self,
        name: str,
        stream: FrameStream,
        digest: str,
        place: str,
        timing: Timing,
        on_progress: Callable[[Timing], None] | None,
    ) -> VideoRecord:
        """Write all files of the video and return its record; if one file fails, none counts."""
        widths = [feature_width(engine.spec) for engine in self._extractor.backbones]
        edges, count = list(accumulate(widths))[:-1], 0
        with ExitStack() as unfinished:
            files = zip(self.paths(name), widths, strict=True)
            writers = [unfinished.enter_context(grow_npy(path, (width,), "<f4")) for path, width in files]
            for steps in self._extractor.steps(stream, timing):
                if steps is None:
                    continue
                for append, part in zip(writers, np.split(steps, edges, axis=1), strict=True):
                    append(part)
                count += len(steps)
                if on_progress is not None:
                    on_progress(timing)
            record = VideoRecord(digest, stream.fps, stream.seconds, count, place)
            with shield(), lock_folder(self.out, "afsd features"):
                self._record = self._read_or_start()  # with what other processes have added
                self._find_there(name, digest, place)
                unfinished.close()  # gives the files their names
                self._record = replace(self._record, videos={**self._record.videos, name: record})
                self._describe()
        return record

    def _describe(self) -> None:
        """Write videos.json, features.json unless it exists, and last extraction.json."""
        database = {
            name: {"duration": video.duration_s, "fps": video.fps, "annotations": []}
            for name, video in self._record.videos.items()
        }
        write_json(self.out / VIDEOS, {"database": database})
        if not (self.out / FEATURES).exists():
            streams = tuple(StreamFolder(engine.spec.stream) for engine in self._extractor.backbones)
            sampling, width = self._extractor.sampling, self._extractor.width
            description = FeatureDescription(VIDEOS, streams, sampling, layout="steps_first", width=width)
            write_description(self.out / FEATURES, description)
        write_json(self.out / RECORD, to_mapping(self._record))


def _settings(extractor: FeatureExtractor, options: ExtractionOptions) -> ExtractionSettings:
    records = tuple(
        BackboneRecord(
            stream=engine.spec.stream,
            weights_sha256=engine.spec.checkpoint_sha256,
            frame_size=engine.spec.frame_size,
            snippet=engine.spec.window_length,
            stride=engine.spec.window_stride,
            precision=engine.precision,
            library=engine.library.split()[0],
        )
        for engine in extractor.backbones
    )
    flow = FlowEstimator(options.flow_method).name if any(r.stream == "flow" for r in records) else ""
    return ExtractionSettings(records, extractor.sampling.fps, options.fps, flow, options.timing or "presented")


def _read_record(path: Path) -> ExtractionRecord | None:
    if not path.exists():
        return None
    content = read_json(path, "record of afsd features; write to another folder", InputError)
    try:
        return from_mapping(ExtractionRecord, content)
    except StructureError as error:
        raise InputError(f"{path}: not the record of afsd features ({error}); write to another folder") from None


def _start_record(out: Path, record: ExtractionRecord) -> ExtractionRecord:
    """Write and return the record of a new folder, before any feature (InputError: it holds a file in the way)."""
    strangers = [*_features_in(out, record), *filter(Path.exists, [out / VIDEOS])]
    if strangers:
        raise InputError(f"{strangers[0]}: of unknown origin ({out / RECORD} is missing); use another folder")
    write_json(out / RECORD, to_mapping(record))
    return record


def _features_in(out: Path, record: ExtractionRecord) -> list[Path]:
    folders = (out / backbone.stream for backbone in record.settings.backbones)
    files = (path for folder in folders for path in sorted(folder.rglob("*.np[yz]")))
    return [path for path in files if not NAME.fullmatch(path.name)]


def _differences(there: ExtractionSettings, here: ExtractionSettings) -> Iterator[tuple[str, str, str]]:
    """Yield the name of each setting that differs and its two values; backbones are numbered."""
    left, right = _flatten(there), _flatten(here)
    for name in [*left, *(name for name in right if name not in left)]:
        if left.get(name) != right.get(name):
            yield name, _abbreviate(left.get(name)), _abbreviate(right.get(name))


def _flatten(settings: ExtractionSettings) -> dict[str, Any]:
    content = to_mapping(settings)
    backbones = content.pop("backbones")
    own = {f"backbone {k}'s {name}": value for k, each in enumerate(backbones, 1) for name, value in each.items()}
    return {"backbones": len(backbones), **own, **content}


def _abbreviate(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == SHA256_DIGITS else text
