"""Find actions in many videos on Ray, as `afsd detect --out` does: the same files, the same records."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.common.console import describe_error
from runtime.common.files import PathLike
from runtime.common.object_store import open_filesystem
from runtime.common.text import counted, one_line, some
from runtime.detector import DetectorOptions
from runtime.engines import EngineOptions, open_engine
from runtime.engines.artifact import READERS, read_artifact
from runtime.engines.openvino.cache import default_folder
from runtime.errors import AfsdError, InputError, VideoWarning
from runtime.features.feature_set import list_features
from runtime.features.video_features import Features
from runtime.fleet.options import FleetOptions
from runtime.fleet.outcome import Outcome, Work
from runtime.fleet.pool import detect_on_actors
from runtime.fleet.running import import_ray
from runtime.fleet.summary import FleetSummary, FleetTally, OnVideo
from runtime.fleet.tables import FAILURES, failure_table, write_failures
from runtime.fleet.videos import require_finite
from runtime.jobs.failures import Failure, FailureFile
from runtime.jobs.looking import look_at_all
from runtime.jobs.places import prepare_places
from runtime.jobs.plan import Shard, Source, VideoJob, plan_jobs
from runtime.jobs.recipe import make_recipe
from runtime.jobs.result_files import ResultFiles
from runtime.jobs.result_place import ResultPlace, open_place, place_of
from runtime.jobs.row_tables import ROW_TABLES, detection_table, require_own_tables
from runtime.jobs.running import WorkerPlan
from runtime.jobs.settings import FileOptions, JobSettings, choose_lowest
from runtime.jobs.store_records import StoreFolder
from runtime.jobs.tables import KEPT, FolderTables, Tables, shared_paths
from runtime.jobs.together import announce
from runtime.jobs.work import Finished
from runtime.spec.model import ModelSpec, fuse_specs
from runtime.spec.model_card import DEFAULT_SCORE
from runtime.two_streams import name_pair
from runtime.video.sources import NamedSource, list_sources

if TYPE_CHECKING:
    from pyarrow import Table
    from ray.data import Dataset


OVERWRITE = "choose another place for the results, or overwrite"
"""Advice where files of others are in the way."""


@dataclass(frozen=True)
class FleetDetections:
    """Holds the results of a job."""

    summary: FleetSummary
    """Counts, and the videos that failed."""
    folder: Path | StoreFolder | None = None
    """Folder of the results, with `detections.parquet`, `failures.parquet` and `detections.jsonl`; None: none."""
    _table: Table | None = None
    _videos: tuple[str, ...] | None = None
    """Names of the videos of the job, where the folder has others, too."""

    @property
    def dataset(self) -> Dataset:
        """Detections as a Ray Dataset, a row each, in the order of the videos, best first; see docs/ray.md."""
        ray = import_ray()
        if self.folder is None:
            return ray.data.from_arrow(self._table)
        if self._videos is None:
            return self._read(ROW_TABLES["parquet"])
        from ray.data.expressions import col

        return self._read(ROW_TABLES["parquet"]).filter(expr=col("video").is_in(list(self._videos)))

    @property
    def failures(self) -> Dataset:
        """Videos that failed as a Ray Dataset: video, path, error."""
        ray = import_ray()
        if self.folder is None:
            return ray.data.from_arrow(failure_table(self.summary.failures))
        return self._read(FAILURES)

    def _read(self, name: str) -> Dataset:
        """Return a table of the folder."""
        ray = import_ray()
        if isinstance(self.folder, StoreFolder):
            filesystem, top = open_filesystem(self.folder.url, f"reading {self.folder}")
            return ray.data.read_parquet(f"{top}/{name}", filesystem=filesystem)
        return ray.data.read_parquet(f"{self.folder}/{name}")


def detect_dataset(
    sources: Sequence[PathLike | Features],
    model: PathLike,
    *,
    out: PathLike | None = None,
    options: DetectorOptions | None = None,
    score: float | None = None,
    flow_engine: PathLike | None = None,
    backbones: Sequence[PathLike] = (),
    fps: float | None = None,
    formats: Sequence[str] = ("json",),
    engine: EngineOptions | None = None,
    fleet: FleetOptions | None = None,
    recursive: bool = False,
    fresh: bool = False,
    overwrite: bool = False,
    on_video: OnVideo | None = None,
) -> FleetDetections:
    """Find actions in many videos with a pool of actors on Ray, each of which holds one detector (docs/ray.md).

    With a folder the files are those of `afsd detect --out`, and so are the records of what is done: each skips what
    the other has done. Beside them lie tables of all videos, as Parquet and as JSON lines.

    Args:
        sources: files, patterns, folders, lists (@list.txt) and URLs, also of object stores; for a model on features
            feature files, the features.json of a set, or `Features`.
        model: engine file on this machine, from which others take what they do not have at this path; so it is with
            `flow_engine` and `backbones`.
        out: folder of the results, which every machine sees, or one of an object store, as s3://bucket/found; None:
            results are only returned, nothing is skipped.
        options: options of the detector; `min_score` is the lowest score of the results unless `score` is given.
        score: lowest score of the results; None: the model's own threshold, else 0.3, as for `afsd detect`.
        flow_engine: flow model beside an RGB one.
        backbones: engines that make the features of a model on features, in the order of its channels.
        fps: frames per second of the videos, in place of their time stamps.
        formats: formats of the files of each video, see `runtime.results.writers.FORMATS`.
        engine: how the engines run; each gets the threads, or the share of a GPU, that `fleet` gives an actor. None: as
            the commands run them.
        fleet: see `FleetOptions`.
        recursive: take the videos of all folders below a folder, too; they are named by their paths in it, "day1/cam1".
        fresh: do every video again, whatever the records say.
        overwrite: write over files that are no results of this project, too.
        on_video: called with each video, as it is named to people, when it is finished.

    Raises:
        InputError: no video, a live source, an option out of range, a file of others where results go, a folder that an
            actor does not see, a model that it cannot have, more failures than `fleet.max_errors`.
        EngineError, SpecError: the model is missing, or no model.
        MissingDependencyError: Ray is not installed.
        AfsdError: Ray lost the job.
    """
    options, fleet = options or DetectorOptions(), fleet or FleetOptions()
    spec = read_spec(model)
    if flow_engine is not None:
        spec = fuse_specs(spec, read_spec(flow_engine))
    jobs = plan_jobs(_list_sources(sources, spec, recursive=recursive))
    if score is None:
        own = DEFAULT_SCORE if spec.operating_point is None else spec.operating_point.threshold
        score = options.min_score or own
    settings = JobSettings(
        os.fspath(model),
        None if flow_engine is None else os.fspath(flow_engine),
        tuple(os.fspath(path) for path in backbones),
        replace(options, min_score=score),
        fps,
        engine_options=engine or EngineOptions(mode="throughput", cache=default_folder()),
    )
    lowest = choose_lowest(score, formats, settings.selects)
    require_finite(jobs)
    name = name_pair(settings.engine, settings.flow_engine or "")
    with ExitStack() as stack:
        place = None if out is None else stack.enter_context(open_place(place_of(out), (*KEPT, FAILURES)))
        several = len(jobs) > 1 if place is None else place.records.is_shared(jobs)
        tables = () if place is None else tuple(ROW_TABLES)
        indexed = "html" in formats and several
        files = FileOptions(tuple(formats), score, lowest, name, indexed=indexed, tables=tables)
        settings = replace(settings, options=replace(options, min_score=lowest), files=files)
        return run_detection(jobs, settings, place, fleet, fresh=fresh, overwrite=overwrite, on_video=on_video)


def read_spec(model: PathLike) -> ModelSpec:
    """Return the spec of a model; only of a checkpoint the network is opened for that, on the CPU.

    Raises:
        EngineError, SpecError: see `open_engine`.
    """
    path = Path(model)
    if path.suffix.lower() in READERS and path.is_file():
        return read_artifact(path, verify=False).spec
    with closing(open_engine(path, device="cpu")) as engine:
        return engine.spec


def _list_sources(
    sources: Sequence[PathLike | Features], spec: ModelSpec, *, recursive: bool
) -> list[Source | NamedSource]:
    found: list[Source | NamedSource] = []
    for given in sources:
        if isinstance(given, Features):
            found.append(given)
            continue
        for listed in list_sources([os.fspath(given)], recursive=recursive):
            source = listed.source
            if spec.features is not None and isinstance(source, str) and source.endswith(".json"):
                found += list_features([Path(source)], spec)
            else:
                found.append(listed)
    return found


def run_detection(
    jobs: Sequence[VideoJob],
    settings: JobSettings,
    place: ResultPlace | None,
    fleet: FleetOptions,
    *,
    fresh: bool = False,
    overwrite: bool = False,
    on_video: OnVideo | None = None,
) -> FleetDetections:
    """Do the videos of a job on Ray; see `detect_dataset`.

    Args:
        jobs: the videos, of which at least one.
        settings: settings of the job.
        place: place of the results, see `open_place`; None: they are only returned.
        fleet, fresh, overwrite, on_video: see `detect_dataset`.
    """
    recipe, target = make_recipe(settings), None if place is None else place.target
    plan = WorkerPlan(settings, target, recorded=place is not None, recipe=recipe, fresh=fresh, overwrite=overwrite)
    tally = FleetTally([(job.name, job.label) for job in jobs], on_video)
    if place is not None:
        return _detect_into(place, jobs, plan, fleet, tally)
    with closing(detect_on_actors(jobs, plan, fleet)) as outcomes:
        found = {
            outcome.key: outcome.work.content.found.above(settings.files.score)
            for outcome in tally.count(outcomes)
            if outcome.work.state != "failed"
        }
    return FleetDetections(tally.summary(), None, detection_table([found[key] for key in sorted(found)]))


def _detect_into(
    place: ResultPlace, jobs: Sequence[VideoJob], plan: WorkerPlan, fleet: FleetOptions, tally: FleetTally
) -> FleetDetections:
    """Do those videos that are not done by the records of a folder, and write what is of all videos.

    That is written also where the job ends early, for the videos that are done.
    """
    assert plan.recipe is not None
    settings, recipe, out = plan.settings, plan.recipe, place.folder
    files, records, failures = ResultFiles(out, settings.files, overwrite=plan.overwrite), place.records, place.failures
    if not plan.overwrite:
        with place.naming():
            require_own_tables(out, (*ROW_TABLES.values(), FAILURES), OVERWRITE)
            failures.require_own()
    with place.naming():
        prepare_places(out, jobs, settings.files.formats)
    place.require_free(files, jobs, shared_paths(out, settings.files.formats) if records.is_shared(jobs) else [])
    records.prepare()
    looked = [] if plan.fresh else look_at_all(jobs, records, recipe, settings.files)
    done = {key for key, (_, record) in enumerate(looked) if record is not None}
    waiting = [key for key in range(len(jobs)) if key not in done]
    skipped = (Outcome(key, Work("skipped")) for key in sorted(done))
    failed_before = failures.names()
    unrecorded: dict[str, Finished] = {}
    ended: AfsdError | None = None
    with ExitStack() as stack:
        worked: Iterator[Outcome] = iter(())
        if waiting:
            for other in () if place.is_store else stack.enter_context(announce(records.own, Shard())).others:
                text = f"{out}: another run is at work here, too ({other}); videos may be done twice"
                warnings.warn(text, VideoWarning, stacklevel=2)
            worked = stack.enter_context(closing(detect_on_actors([jobs[key] for key in waiting], plan, fleet)))
        numbered = (replace(outcome, key=waiting[outcome.key]) for outcome in worked)
        try:
            for outcome in tally.count(chain(skipped, numbered)):
                job, finished, failure = jobs[outcome.key], outcome.work.content, outcome.work.failure
                if isinstance(finished, Finished) and not finished.recorded:
                    unrecorded[finished.name] = finished
                if failure is not None or job.name in failed_before:
                    _note(failures, job, failure)
        except AfsdError as error:  # too many failures; no actor can work; Ray lost the job
            ended = error
    summary = tally.summary()

    def write() -> Tables:
        write_failures(out, summary.failures)
        return FolderTables(records, jobs, settings, recipe, files).write(unrecorded)

    written = place.write_shared(write)
    if written.renamed:
        warnings.warn(
            f"{counted(len(written.renamed), 'video')} of the job with results under another name in {place.target}, "
            f"too: {some(written.renamed)}; remove the files of that name and its record in .afsd, or choose another "
            "out",
            VideoWarning,
            stacklevel=2,
        )
    if ended is not None:
        raise ended
    return FleetDetections(summary, place.target, _videos=tuple(job.name for job in jobs) if written.others else None)


def _note(failures: FailureFile, job: VideoJob, failure: Failure | None) -> None:
    """Keep the line of a video in the file of failures true; that it cannot be written ends no job."""
    try:
        if failure is None:
            failures.settle(job.name)
        else:
            failures.add(job, failure)
    except (InputError, OSError) as error:
        warnings.warn(one_line(describe_error(error)), VideoWarning, stacklevel=2)
