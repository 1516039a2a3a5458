"""Do the work of one video after another with one detector: find, label, write the files, write the record."""

from __future__ import annotations

import warnings
from collections.abc import Container
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime.benchmark.profile import Profile, ThreadClock, make_profile
from runtime.common.stops import shield
from runtime.detector import Detector
from runtime.errors import AfsdError, VideoWarning
from runtime.inputs import Progress
from runtime.jobs.plan import VideoJob
from runtime.jobs.recipe import Recipe
from runtime.jobs.records import Record, RecordFolder, Standing
from runtime.jobs.result_files import ResultFiles, Written
from runtime.jobs.settings import JobSettings
from runtime.jobs.video_state import VideoState, files_of, look_at, state_of
from runtime.results.detections import Detections
from runtime.results.facts import VideoFacts, selection_facts
from runtime.results.video_scores import VideoScores


@dataclass
class Finished:
    """Holds the result of one video; can be sent to other processes."""

    name: str
    """Name of the video in all results."""
    label: str
    """The source, as it is named to people."""
    found: Detections
    """Detections, best first, with facts; also those below the score that is shown, where pages have them."""
    seconds: float
    """Length of the video in seconds, as it was sampled."""
    standing: Standing
    """What was to be done: see `Standing`."""
    timing: str = ""
    """Timing of the run in words; empty if the video was not read."""
    wall_s: float = 0.0
    """Seconds that it took."""
    profile: Profile | None = None
    written: list[str] = field(default_factory=list)
    """Paths of the files that were written."""
    failure: AfsdError | OSError | None = None
    """Error of a file that could not be written."""
    recorded: bool = False
    """Whether a record of the video is kept."""


class VideoWorker:
    """Does the videos of a job, one after another, in a folder that other processes may share."""

    def __init__(
        self,
        detector: Detector,
        settings: JobSettings,
        *,
        labels: VideoScores | None = None,
        files: ResultFiles | None = None,
        records: RecordFolder | None = None,
        recipe: Recipe | None = None,
        fresh: bool = False,
        profile: bool = False,
    ) -> None:
        """Take what a job consists of.

        Args:
            detector: detector with `settings.detector_options`.
            settings: settings of the job.
            labels: a classifier's scores that name the classes.
            files: writer of the result files; None: none are written.
            records: records of the folder of the files; None: none are kept, and every video is done.
            recipe: recipe of the job, needed with records.
            fresh: do every video, whatever the records say.
            profile: measure where the time goes.
        """
        self._detector, self._settings, self._labels = detector, settings, labels
        self._files, self._records, self._recipe = files, records, recipe
        self._fresh, self._profile = fresh, profile
        self.removed: tuple[str, ...] = ()
        """Names of files of an older result of the last video that were removed."""

    @property
    def seen(self) -> tuple[int, int]:
        """Frames and windows of the video in work that were seen so far; they change as long as it goes on."""
        timing = self._detector.timing
        return timing.frames, timing.windows

    def do(self, job: VideoJob, on_progress: Progress | None = None) -> Finished:
        """Do what is to be done for one video: nothing, its files, or everything.

        Raises:
            AfsdError, OSError: the video cannot be read, it is in a folder whose name no system takes, or the network
                failed. A file that cannot be written is in `Finished.failure`.
        """
        self.removed = ()
        if self._files is not None and "/" in job.name:
            self._files.paths_of(job)  # a folder gives all its videos such names: said before they are read
        if self._records is None or self._recipe is None:
            return self._do_new(job, None, None, on_progress, ())
        if not self._fresh:
            options = self._settings.files
            standing, record = self._records.look(job, self._recipe, options, job.path)
            if record is not None and standing == "done":
                known = self._records.load(job.name)
                if known is not None and known.state != record.state:  # so that the next start reads nothing
                    self._records.save(record)
                return finished_before(job, record, self._settings, standing)
            if record is not None:
                return self._do_files(job, record)
        old, state = self._records.load(job.name), state_of(job.source)
        ours = () if old is None else old.files
        if old is not None and state is not None and state.digest != old.state.digest:
            with shield():  # before the work: however that ends, results of what the video was would lie
                self._forget(old)
            old = None
        return self._do_new(job, old, state, on_progress, ours)

    def _do_new(
        self,
        job: VideoJob,
        old: Record | None,
        state: VideoState | None,
        on_progress: Progress | None,
        ours: Container[str],
    ) -> Finished:
        """Find the detections of a video and write its files, over those that are `ours` whatever they hold now."""
        detector, threads = self._detector, ThreadClock() if self._profile else None
        with threads or nullcontext():
            found = self._find(job, on_progress)
            timing = detector.timing
            with timing.writing():
                written = Written()
                if self._files is not None:
                    written = self._files.write(job, found, timing.video_seconds, ours=ours)
        if state is not None and files_of(job.source) and look_at(job.source) != state.quick:
            text = "it changed while it was read, so its results may be of both; the next start does it again"
            warnings.warn(f"{job.label}: {text}", VideoWarning, stacklevel=2)
        recorded = False
        if self._records is not None and self._recipe is not None and state is not None and written.failure is None:
            record = Record(
                job.name, state, self._recipe, written.files, found, timing.video_seconds, timing.frames, timing.windows
            )
            with shield():
                self._remove_files(old, record.files)
                self._records.save(record)
            recorded = True
        profile = None if threads is None else make_profile(timing, threads)
        return Finished(
            job.name, job.label, found, timing.video_seconds, "new", timing.summary(), timing.wall_seconds, profile,
            written.paths, written.failure, recorded,
        )  # fmt: skip

    def _find(self, job: VideoJob, on_progress: Progress | None) -> Detections:
        """Find and label the detections of a video; the best first, under its name in the results."""
        require_labels(self._labels, job)
        found = self._detector.run(job.source, fps=self._settings.fps, on_progress=on_progress)
        if self._labels is not None:
            found = named_for(self._labels, job, found)
        return name_found(label_found(found, self._labels, self._settings), job.name, self._settings)

    def _do_files(self, job: VideoJob, record: Record) -> Finished:
        """Write those files of a video whose detections are known that are missing, changed or wanted otherwise."""
        assert self._files is not None
        assert self._records is not None
        options, old = self._settings.files, self._records.load(job.name)
        finished = finished_before(job, record, self._settings, "files")
        missing = [suffix for suffix in options.formats if not self._records.has_file(record, job, suffix, options)]
        written = self._files.write(job, finished.found, record.seconds, missing, () if old is None else old.files)
        finished.written, finished.failure = written.paths, written.failure
        if written.failure is None:
            kept = {
                name: file
                for name, file in record.files.items()
                if options.still_holds(name.rpartition(".")[2], file.holds) and self._records.is_own_file(record, name)
            }
            found = replace(record.found, facts=finished.found.facts)
            changed = replace(record, files=kept | written.files, found=found)
            with shield():
                self._remove_files(old, changed.files)
                self._records.save(changed)
        return finished

    def _remove_files(self, old: Record | None, kept: Container[str] = ()) -> None:
        """Remove the files of an older record but those that are kept, and those that somebody changed."""
        assert self._records is not None
        for name in () if old is None else old.files:
            if old is not None and name not in kept and self._records.is_own_file(old, name):
                self._records.remove_file(name)
                self.removed += (name,)

    def _forget(self, old: Record) -> None:
        """Remove the record of a video that has changed, and its files unless somebody changed them."""
        assert self._records is not None
        self._remove_files(old)
        self._records.remove(old.name)


def require_labels(labels: VideoScores | None, job: VideoJob) -> None:
    """Check, before a video is read, that a classifier has scores for it (InputError: it has none)."""
    is_named = isinstance(job.source, str) and Path(job.source).is_file()
    if labels is not None and is_named and not _has_scores(labels, job):
        labels.require(Path(str(job.source)).stem)


def _has_scores(labels: VideoScores, job: VideoJob) -> bool:
    """Return whether a classifier's scores know a video by its path in the folder that was given, as in "day1/cam1"."""
    return "/" in job.name and job.name in labels


def named_for(labels: VideoScores, job: VideoJob, found: Detections) -> Detections:
    """Return the detections of a video under the name by which a classifier's scores know it."""
    return replace(found, video=job.name) if _has_scores(labels, job) else found


def label_found(found: Detections, labels: VideoScores | None, settings: JobSettings) -> Detections:
    """Return detections with the labels of a classifier's scores, and the selection among them (see `VideoScores`)."""
    if labels is None:
        return found
    found = labels.label(found, settings.labels_per_video).above(settings.options.min_score)
    return found.select(**settings.selection) if settings.selects else found


def name_found(found: Detections, name: str, settings: JobSettings, path: str = "") -> Detections:
    """Return the detections of a video best first, under its name in the results, with what its files say of them.

    Args:
        found: detections.
        name: name of the video.
        settings: settings of the job.
        path: the video as `VideoFacts.path` has it; empty: as the facts say.
    """
    known = found.facts or VideoFacts()
    facts = replace(
        known,
        path=path or known.path,
        model=settings.files.model,
        threshold=settings.files.score,
        **selection_facts(**settings.selection),
    )
    return replace(found, video=name, facts=facts).sorted("score")


def finished_before(job: VideoJob, record: Record, settings: JobSettings, standing: Standing) -> Finished:
    """Return the result of a video from its record, as this job would have it."""
    found = name_found(record.found.above(settings.files.lowest), job.name, settings, job.path)
    return Finished(job.name, job.label, found, record.seconds, standing, recorded=True)
