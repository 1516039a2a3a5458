"""Find actions in many videos on Ray, as `afsd detect --out` does: the same files, the same records."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.common.console import describe_error
from runtime.common.files import PathLike, require_writable_folder
from runtime.common.text import counted, one_line, some
from runtime.detector import DetectorOptions
from runtime.engines import EngineOptions, open_engine
from runtime.engines.artifact import READERS, read_artifact
from runtime.engines.openvino.cache import default_folder
from runtime.errors import InputError, VideoWarning
from runtime.features.feature_set import list_features
from runtime.features.video_features import Features
from runtime.fleet.options import FleetOptions
from runtime.fleet.outcome import Outcome, Work
from runtime.fleet.pool import detect_on_actors
from runtime.fleet.running import import_ray
from runtime.fleet.summary import FleetSummary, OnVideo, Tally
from runtime.fleet.tables import DETECTIONS, FAILURES, FleetTables, detection_table, failure_table
from runtime.fleet.videos import require_finite
from runtime.jobs.failures import Failure, FailureFile
from runtime.jobs.looking import look_at_all
from runtime.jobs.places import prepare_places
from runtime.jobs.plan import Source, VideoJob, plan_jobs
from runtime.jobs.recipe import Recipe, make_recipe
from runtime.jobs.records import RecordFolder
from runtime.jobs.result_files import ResultFiles
from runtime.jobs.settings import FileOptions, JobSettings, choose_lowest
from runtime.jobs.tables import FolderTables, shared_paths
from runtime.jobs.work import Finished, finished_before
from runtime.jobs.workers import WorkerPlan
from runtime.results.detections import Detections
from runtime.spec.model import ModelSpec, fuse_specs
from runtime.spec.model_card import DEFAULT_SCORE
from runtime.two_streams import name_pair
from runtime.video.sources import NamedSource, list_sources

if TYPE_CHECKING:
    from pyarrow import Table
    from ray.data import Dataset


@dataclass(frozen=True)
class FleetDetections:
    """Holds the results of a job."""

    summary: FleetSummary
    """Counts, and the videos that failed."""
    folder: Path | None = None
    """Folder of the results, with `detections.parquet`, `failures.parquet` and `detections.jsonl`; None: none."""
    _table: Table | None = None

    @property
    def dataset(self) -> Dataset:
        """Detections as a Ray Dataset, a row each, in the order of the videos, best first; see docs/ray.md."""
        ray = import_ray()
        if self.folder is not None:
            return ray.data.read_parquet(str(self.folder / DETECTIONS))
        return ray.data.from_arrow(self._table)

    @property
    def failures(self) -> Dataset:
        """Videos that failed as a Ray Dataset: video, path, error."""
        ray = import_ray()
        if self.folder is not None:
            return ray.data.read_parquet(str(self.folder / FAILURES))
        return ray.data.from_arrow(failure_table(self.summary.failures))


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
        model: engine file, at a path that every machine sees.
        out: folder of the results, which every machine sees; None: results are only returned, nothing is skipped.
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
        InputError: no video, a live source, an option out of range, a file of others where results go, a folder or a
            model that an actor does not see, more failures than `fleet.max_errors`.
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
    folder = None if out is None else Path(out)
    several = len(jobs) > 1 if folder is None else RecordFolder(folder).is_shared(jobs)
    name = name_pair(settings.engine, settings.flow_engine or "")
    files = FileOptions(tuple(formats), score, lowest, name, indexed="html" in formats and several)
    settings = replace(settings, options=replace(options, min_score=lowest), files=files)
    return run_detection(jobs, settings, folder, fleet, fresh=fresh, overwrite=overwrite, on_video=on_video)


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
    out: Path | None,
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
        out, fleet, fresh, overwrite, on_video: see `detect_dataset`.
    """
    require_finite(jobs)
    recipe = make_recipe(settings)
    plan = WorkerPlan(settings, out, recorded=out is not None, recipe=recipe, fresh=fresh, overwrite=overwrite)
    tally = Tally([(job.name, job.label) for job in jobs], on_video)
    if out is not None:
        return _detect_into(out, jobs, plan, fleet, tally)
    with closing(detect_on_actors(jobs, plan, fleet)) as outcomes:
        found = {
            outcome.key: outcome.work.content.found.above(settings.files.score)
            for outcome in tally.count(outcomes)
            if outcome.work.state != "failed"
        }
    return FleetDetections(tally.summary(), None, detection_table([found[key] for key in sorted(found)]))


def _detect_into(
    out: Path, jobs: Sequence[VideoJob], plan: WorkerPlan, fleet: FleetOptions, tally: Tally
) -> FleetDetections:
    """Do those videos that are not done by the records of a folder, and write what is of all videos."""
    assert plan.recipe is not None
    settings, recipe = plan.settings, plan.recipe
    require_writable_folder(out, "choose another out")
    files, records = ResultFiles(out, settings.files, overwrite=plan.overwrite), RecordFolder(out)
    failures, tables = FailureFile(out), FleetTables(out, overwrite=plan.overwrite)
    tables.require_free()
    if not plan.overwrite:
        failures.require_own()
    shared = shared_paths(out, settings.files.formats) if records.is_shared(jobs) else []
    prepare_places(out, jobs, settings.files.formats)
    files.require_free(jobs, shared, records.files_of)
    records.prepare()
    looked = [] if plan.fresh else look_at_all(jobs, records, recipe, settings.files)
    done = {key for key, (_, record) in enumerate(looked) if record is not None}
    waiting = [key for key in range(len(jobs)) if key not in done]
    skipped = (Outcome(key, Work("skipped")) for key in sorted(done))
    failed_before = failures.names()
    unrecorded: dict[str, Finished] = {}
    with ExitStack() as stack:
        worked: Iterator[Outcome] = iter(())
        if waiting:
            worked = stack.enter_context(closing(detect_on_actors([jobs[key] for key in waiting], plan, fleet)))
        numbered = (replace(outcome, key=waiting[outcome.key]) for outcome in worked)
        for outcome in tally.count(chain(skipped, numbered)):
            job, finished, failure = jobs[outcome.key], outcome.work.content, outcome.work.failure
            if isinstance(finished, Finished) and not finished.recorded:
                unrecorded[finished.name] = finished
            if failure is not None or job.name in failed_before:
                _note(failures, job, failure)
    summary = tally.summary()
    renamed = FolderTables(records, jobs, settings, recipe, files).write(unrecorded).renamed
    if renamed:
        warnings.warn(
            f"{counted(len(renamed), 'video')} of the job with results under another name in {out}, too: "
            f"{some(renamed)}; remove the files of that name and its record in .afsd, or choose another out",
            VideoWarning,
            stacklevel=2,
        )
    tables.write(_read_found(jobs, records, recipe, settings, unrecorded), summary.failures)
    return FleetDetections(summary, out)


def _note(failures: FailureFile, job: VideoJob, failure: Failure | None) -> None:
    """Keep the line of a video in the file of failures true; that it cannot be written ends no job."""
    try:
        if failure is None:
            failures.settle(job.name)
        else:
            failures.add(job, failure)
    except (InputError, OSError) as error:
        warnings.warn(one_line(describe_error(error)), VideoWarning, stacklevel=2)


def _read_found(
    jobs: Sequence[VideoJob],
    records: RecordFolder,
    recipe: Recipe,
    settings: JobSettings,
    unrecorded: Mapping[str, Finished],
) -> Iterator[Detections]:
    """Yield the detections of the videos that are done, in the order of the videos, from their records if they have."""
    for job in jobs:
        if job.name in unrecorded:
            yield unrecorded[job.name].found.above(settings.files.score)
            continue
        record = records.load(job.name)
        if record is not None and record.recipe.covers(recipe):
            yield finished_before(job, record, settings, "done").found.above(settings.files.score)
