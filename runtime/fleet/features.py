"""Make the features of many videos on Ray, as `afsd features` makes them: the same files, the same records."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.common.files import PathLike
from runtime.common.ranges import Count, FramesPerSecond, require_in_range
from runtime.engines import EngineOptions
from runtime.features.extractor import FeatureExtractor
from runtime.features.folder import ExtractionOptions, FeatureFolder
from runtime.fleet.engines import open_shared, require_device, share_engine
from runtime.fleet.files import JobFile, files_here, offer_models
from runtime.fleet.options import FleetOptions
from runtime.fleet.outcome import Work
from runtime.fleet.places import first_relative, require_shared, shared_folder
from runtime.fleet.running import connected, run_on_actors
from runtime.fleet.shares import choose_shares
from runtime.fleet.summary import FleetSummary, FleetTally, OnVideo
from runtime.fleet.videos import require_finite
from runtime.jobs.plan import folders_of, plan_jobs
from runtime.jobs.worker_count import are_heavy
from runtime.jobs.worker_process import digest_allowance
from runtime.timing import Timing
from runtime.video.sources import NamedSource, list_sources


class FeatureWorker:
    """Makes features in an actor."""

    def __init__(
        self,
        backbones: Sequence[JobFile],
        engine: EngineOptions,
        out: Path,
        mark: str,
        options: ExtractionOptions,
        sampling: Mapping[str, Any],
    ) -> None:
        """Open the backbones and the folder of the features; `mark` lies in it (see `shared_folder`)."""
        require_shared(mark)
        self._opened = ExitStack()  # as long as the actor lives
        paths = self._opened.enter_context(files_here(backbones))
        engines = [open_shared(paths[backbone.path], engine) for backbone in backbones]
        self._folder = FeatureFolder(out, FeatureExtractor(engines, **sampling), options)
        self.seen = (0, 0)
        """Frames and windows of the video in work that were seen so far."""

    def work(self, item: NamedSource) -> Work:
        """Write the features of a video; of one that is done none."""
        name, video, timing = self._folder.add(item.source, self._see, name=item.name)
        content = MadeFeatures(name, video.steps, 0 if timing is None else timing.frames)
        return Work("skipped" if timing is None else "done", content, video.duration_s)

    def allowance(self, item: NamedSource) -> float:
        """Return the seconds that the digest of a video may take in silence."""
        return digest_allowance(item.source)

    def _see(self, timing: Timing) -> None:
        self.seen = (timing.frames, timing.windows)


@dataclass(frozen=True)
class MadeFeatures:
    """Names the features of a video."""

    video: str
    """Name of the video."""
    steps: int
    frames: int
    """Number of frames that were read; 0 of a video whose features were there."""


def extract_features_dataset(
    sources: Sequence[PathLike],
    backbones: PathLike | Sequence[PathLike],
    *,
    out: PathLike,
    options: ExtractionOptions | None = None,
    recursive: bool = False,
    sample_fps: float | None = None,
    batch_size: int | None = None,
    engine: EngineOptions | None = None,
    fleet: FleetOptions | None = None,
    on_video: OnVideo | None = None,
) -> FleetSummary:
    """Write the features of many videos, made by a pool of actors on Ray, as a feature set (docs/ray.md).

    The files are those of `afsd features`, and so is the record of what is done: each skips what the other has made.

    Args:
        sources: files, patterns, folders, lists (@list.txt) and URLs, also of object stores.
        backbones: engine of `afsd export-backbone`, or one on RGB and one on flow; on this machine, from which
            others take what they do not have.
        out: folder of the features, which every machine sees.
        options: settings that concern the frames.
        recursive: take the videos of all folders below a folder, too; they are named by their paths in it, "day1/cam1".
        sample_fps: rate at which frames are sampled; None: every frame.
        batch_size: snippets per call; None: see `FeatureExtractor`.
        engine: how the engines run; each gets the threads, or the share of a GPU, that `fleet` gives an actor.
        fleet: see `FleetOptions`.
        on_video: called with each video when it is finished.

    Raises:
        InputError: no video, a live source, an option out of range, a folder that an actor does not see, a model that
            it cannot have, or more failures than `fleet.max_errors`.
        MissingDependencyError: Ray is not installed.
        AfsdError: Ray lost the job.
    """
    fleet, options = fleet or FleetOptions(), options or ExtractionOptions()
    require_in_range("sample_fps", sample_fps, FramesPerSecond | None)
    require_in_range("batch_size", batch_size, Count | None)
    paths = [backbones] if isinstance(backbones, (str, os.PathLike)) else list(backbones)
    listed = list_sources([os.fspath(source) for source in sources], recursive=recursive)
    jobs = plan_jobs(listed)
    require_finite(jobs)
    place = Path(out)
    folders = ["", *folders_of(one.name for one in listed)]
    below = [f"{stream}/{folder}" for stream in ("rgb", "flow") for folder in folders]
    files = [os.fspath(path) for path in paths]
    heavy = are_heavy(files)
    require_device(engine or EngineOptions(), fleet)
    with shared_folder(place, below=below) as mark, connected(fleet.address) as ray:
        fleet = choose_shares(ray, fleet, heavy=heavy)
        arguments = {
            "backbones": offer_models(files),
            "engine": share_engine(engine or EngineOptions(), fleet),
            "out": place,
            "mark": mark,
            "options": options,
            "sampling": {"sample_fps": sample_fps, "batch_size": batch_size},
        }
        tally = FleetTally([(job.name, job.label) for job in jobs], on_video)
        labels = [job.label for job in jobs]
        relative = first_relative([place, *(one.source for one in listed)])
        for _ in tally.count(run_on_actors(listed, FeatureWorker, arguments, fleet, labels, relative=relative)):
            pass
    return tally.summary()
