"""Open what the work of a job needs: engines, a classifier's scores, the folder of the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path

from runtime.detector import Detector
from runtime.engines import open_engine
from runtime.engines.base import Engine
from runtime.engines.options import EngineOptions
from runtime.jobs.recipe import Recipe, make_recipe, require_same_models
from runtime.jobs.records import RecordFolder
from runtime.jobs.result_files import ResultFiles
from runtime.jobs.settings import JobSettings
from runtime.jobs.store_records import ADVICE, StoreFolder, StoreRecords, open_store_records
from runtime.jobs.store_work import StoreWorker
from runtime.jobs.work import VideoWorker
from runtime.results.video_scores import load_video_scores

OpenEngine = Callable[[str, EngineOptions], Engine]
"""Function that opens an engine file with options."""


def open_with_options(path: str, options: EngineOptions) -> Engine:
    """Open an engine file; errors are those of `open_engine`."""
    return open_engine(path, **{field.name: getattr(options, field.name) for field in fields(options)})


@contextmanager
def open_worker(
    settings: JobSettings,
    folder: Path | StoreFolder | None,
    *,
    recorded: bool = True,
    recipe: Recipe | None = None,
    fresh: bool = False,
    overwrite: bool = False,
    profile: bool = False,
    open_one: OpenEngine = open_with_options,
) -> Iterator[VideoWorker]:
    """Yield what does the videos of a job one after another; its engines are closed at the end.

    Args:
        settings: settings of the job.
        folder: folder of the result files, which may be one of an object store; None: none are written.
        recorded: keep records in the folder, and skip what is done by them.
        recipe: recipe of the job; None: it is made, which reads the models' files.
        fresh: do every video, whatever the records say.
        overwrite: write over files that are no results of this project, too.
        profile: measure where the time of each video goes.
        open_one: function that opens an engine.

    Raises:
        EngineError, SpecError, MissingDependencyError: see `Detector` and `open_engine`; for a store see
            `open_store_records`.
        InputError: see `Detector`; a model is another one than in the recipe.
        AnnotationError: the classifier's scores cannot be read.
        OSError: the folder cannot be written to.
    """
    options = settings.engine_options
    with ExitStack() as stack:

        def opened(path: str, options: EngineOptions) -> Engine:
            return stack.enter_context(closing(open_one(path, options)))

        labels = None if settings.video_scores is None else load_video_scores(settings.video_scores)
        engine = opened(settings.engine, options)
        flow = None if settings.flow_engine is None else opened(settings.flow_engine, options)
        # an extractor runs one batch after the other
        backbones = [opened(path, replace(options, mode="latency")) for path in settings.backbones]
        detector = Detector(engine, flow_engine=flow, backbone=backbones or None, options=settings.detector_options)
        if labels is not None:
            labels.check(detector.spec.classes, settings.labels_per_video)
        files, records = stack.enter_context(_open_results(folder, settings, recorded=recorded, overwrite=overwrite))
        if recipe is not None:  # after the opening, so that what was opened is what the records will name
            require_same_models(
                recipe, settings, "changed since the job began, which is of the model that was there; start again"
            )
        elif records is not None:
            recipe = make_recipe(settings)
        worker = StoreWorker if isinstance(records, StoreRecords) else VideoWorker
        yield worker(
            detector,
            settings,
            labels=labels,
            files=files,
            records=records,
            recipe=recipe,
            fresh=fresh,
            profile=profile,
        )


@contextmanager
def _open_results(
    folder: Path | StoreFolder | None, settings: JobSettings, *, recorded: bool, overwrite: bool
) -> Iterator[tuple[ResultFiles | None, RecordFolder | None]]:
    """Yield what writes the files of the videos, and their records; of a store through a folder of this machine."""
    if isinstance(folder, StoreFolder):
        with open_store_records(folder, ADVICE) as records:
            records.prepare()
            yield ResultFiles(records.out, settings.files, overwrite=overwrite, staged=True), records
        return
    plain = None
    if folder is not None and recorded:
        plain = RecordFolder(folder)
        plain.prepare()
    yield None if folder is None else ResultFiles(folder, settings.files, overwrite=overwrite), plain
