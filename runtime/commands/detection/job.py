"""Run `afsd detect` over a list of videos: skip what is done, do the rest, report failures, sum up."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext, suppress
from pathlib import Path

from runtime.commands.detection.output import Output
from runtime.common.console import EXIT_ERROR, FULL, ProgressLine, drop_output, print_error, print_note, print_warning
from runtime.common.log import LOGGER
from runtime.common.stops import GIVE_OUT_S, LONGEST_SAVE_S, give_out_at_stop, shield
from runtime.common.temporaries import temporary_file
from runtime.common.text import counted, printable, some
from runtime.errors import AfsdError, InputError
from runtime.fleet.options import FleetOptions
from runtime.fleet.pool import RayPool
from runtime.jobs.failures import Failure
from runtime.jobs.looking import look_at_all
from runtime.jobs.places import prepare_places
from runtime.jobs.plan import Shard, VideoJob
from runtime.jobs.progress import JobProgress
from runtime.jobs.recipe import make_recipe
from runtime.jobs.result_files import ResultFiles
from runtime.jobs.result_place import ResultPlace
from runtime.jobs.row_tables import ROW_TABLES, require_own_tables
from runtime.jobs.running import Here, Listener, VideoOutcome, WorkerPlan
from runtime.jobs.settings import JobSettings
from runtime.jobs.summary import Tally
from runtime.jobs.tables import BESIDE, FolderTables, Tables, entries_of, shared_paths, write_tables
from runtime.jobs.together import announce
from runtime.jobs.work import Finished, VideoWorker, finished_before
from runtime.jobs.worker_count import choose_workers, is_heavy, runs_on_gpu, share_devices, share_threads
from runtime.jobs.workers import PATIENCE_S, WorkerPool

OpenHere = Callable[[WorkerPlan], AbstractContextManager[VideoWorker]]
"""Function that opens what does the videos in this process."""

LOOKED_AT_ONCE = 50
"""Number of records between two changes of the line that says how far the look at them is."""


class DetectJob:
    """Does the videos of a list, or of a shard of it, and gives out what is of all of them."""

    def __init__(
        self,
        flags: argparse.Namespace,
        settings: JobSettings,
        jobs: Sequence[VideoJob],
        chosen: Sequence[VideoJob],
        output: Output,
        place: ResultPlace | None,
        shard: Shard,
    ) -> None:
        """Look at the folder of the results; nothing is written yet.

        Args:
            flags: the flags of the command.
            settings: settings of the job.
            jobs: all videos of the list.
            chosen: those that this process is to do.
            output: what prints the results.
            place: place of the results, with records; None: files are written here, without records.
            shard: part of the list that `chosen` is.

        Raises:
            InputError, OSError: the folder cannot be used.
            EngineError, SpecError: a model is missing, or no model.
        """
        self._flags, self._settings, self._jobs, self._chosen, self._output = flags, settings, jobs, chosen, output
        self._shard = shard
        self._began = time.monotonic()
        self._place = place
        options, folder = settings.files, Path() if place is None else place.folder
        wanted = options.formats or options.tables
        self._files = ResultFiles(folder, options, overwrite=flags.overwrite) if wanted else None
        self._kept: dict[str, Finished] = {}
        """Videos that the shared files have from here, since they have no record."""
        self._failed_before: set[str] = set()
        self._tally = Tally()
        self._records = self._recipe = self._failures = self._tables = None
        if place is not None and self._files is not None:
            self._records, self._failures = place.records, place.failures
            self._recipe = make_recipe(settings)
            if not flags.overwrite:
                with place.naming():
                    self._failures.require_own()
            self._failed_before = self._failures.names()
            self._tables = FolderTables(self._records, jobs, settings, self._recipe, self._files)
        self._shared_given = self._shared_failed = False
        self._removed: list[str] = []
        """Names of files of older results that were removed."""
        self._marks: tuple[Path, tuple[int, int] | None] = Path(), None
        """File of this run in the folder of the results, and number of the folder, by which it is known to be there."""
        self._broken: AfsdError | None = None
        """What ends the job: the folder of the results can take no more."""

    def run(
        self,
        runs: int | None,
        devices: Sequence[str],
        threads: int | None,
        open_here: OpenHere,
        fleet: FleetOptions | None = None,
    ) -> int:
        """Do the videos and return the exit status, 2 if any failed.

        Args:
            runs: number of worker processes, 0 for none; None: what suits the number of videos that are left.
            devices: devices that the workers share.
            threads: CPU threads of each worker's engine; None: the cores are divided.
            open_here: opens what does the videos in this process.
            fleet: does the videos on Ray, whatever the other arguments say; None: does not.
        """
        with give_out_at_stop(self._say_stopped), ProgressLine() as line:
            todo = self._skip(line)
        self._require_free(todo)
        with ExitStack() as stack:
            stack.enter_context(give_out_at_stop(self._stop))
            if todo and self._records is not None and not self._is_in_store:
                announced = stack.enter_context(announce(self._records.own, self._shard))
                self._marks = announced.file, folder_id(self._records.out)
                self._say_others(announced.others)
            progress = stack.enter_context(closing(JobProgress(todo, self._tally.skipped)))
            plan = self._plan(progress.is_shown)
            if todo and fleet is not None:
                self._run(RayPool(plan, fleet), todo, progress)
            elif todo:
                patience = self._flags.patience
                count = choose_workers(
                    todo,
                    runs,
                    devices,
                    on_gpu=runs_on_gpu(self._settings),
                    heavy=is_heavy(self._settings),
                    least=0 if patience is None else 1,
                )
                if count:
                    threads = threads or share_threads(self._settings, count)
                    self._run(
                        WorkerPool(plan, share_devices(devices, count), threads, patience=patience or PATIENCE_S),
                        todo,
                        progress,
                    )
                else:
                    self._run(Here(stack.enter_context(open_here(plan))), todo, progress)
            progress.clear()
            with shield(LONGEST_SAVE_S if self._is_in_store else GIVE_OUT_S):
                self._give_out()
        return self._sum_up()

    def _skip(self, line: ProgressLine) -> list[VideoJob]:
        """Leave out, and give out as far as they are wanted, the videos that are done; return the others."""
        if self._records is None or self._recipe is None or self._flags.fresh:
            return list(self._chosen)
        todo = []
        looked = look_at_all(self._chosen, self._records, self._recipe, self._settings.files)
        for number, (job, record) in enumerate(looked):
            if number % LOOKED_AT_ONCE == 0:
                line.show(f"records: {number} of {len(self._chosen)} videos")
            if record is None:
                todo.append(job)
                continue
            self._tally.skipped += 1
            self._tally.known_s += record.seconds
            self._settle(job)
            if self._output.needs_skipped:
                line.clear()
                finished = finished_before(job, record, self._settings, "done")
                self._print(lambda finished=finished: self._output.video(finished))  # type: ignore[misc]
        if self._tally.skipped and not self._flags.quiet_log:
            line.clear()
            count = "1 video is" if self._tally.skipped == 1 else f"{self._tally.skipped} videos are"
            print_note(f"afsd: {count} done already, by the records in {self._records.place}; --fresh does all again")
        return todo

    def _require_free(self, todo: Sequence[VideoJob]) -> None:
        """Check, before any work, that no file of others, and none of another video, is where results will be."""
        if self._files is not None:
            options, folder = self._files.options, self._files.folder
            with nullcontext() if self._place is None else self._place.naming():
                prepare_places(folder, self._jobs, options.formats)
                if not self._flags.overwrite:
                    require_own_tables(folder, [ROW_TABLES[name] for name in options.tables])
            shared = shared_paths(folder, options.formats) if self._is_shared else []
            if self._place is None:
                self._files.require_free(todo, shared)
            else:
                self._place.require_free(self._files, todo, shared)
        if self._records is not None:
            self._records.prepare()

    @property
    def _is_shared(self) -> bool:
        """Whether there will be files of all videos."""
        return len(self._jobs) > 1 if self._records is None else self._records.is_shared(self._jobs)

    @property
    def _is_in_store(self) -> bool:
        return self._place is not None and self._place.is_store

    def _plan(self, progress: bool = False) -> WorkerPlan:
        folder = self._place.target if self._place is not None else None if self._files is None else self._files.folder
        return WorkerPlan(
            self._settings,
            folder,
            recorded=self._records is not None,
            recipe=self._recipe,
            fresh=self._flags.fresh,
            overwrite=self._flags.overwrite,
            profile=self._flags.profile,
            progress=progress,
            log_level=LOGGER.getEffectiveLevel(),
        )

    def _run(self, runner: WorkerPool | RayPool | Here, todo: Sequence[VideoJob], progress: JobProgress) -> None:
        def said(level: int, text: str) -> None:
            progress.clear()
            (print_warning if level >= logging.WARNING else print_note)(text)

        most, ended = self._flags.max_errors, 0
        with closing(runner.run(todo, Listener(progressed=progress.advance, said=said))) as outcomes:  # type: ignore[type-var]
            for outcome in outcomes:
                ended += 1
                progress.end(outcome.job, None if outcome.finished is None else outcome.finished.seconds)
                progress.clear()
                self._take(outcome)
                if (most is not None and len(self._tally.failed) > most) or self._is_broken(outcome):
                    runner.stop()
        self._tally.not_done = len(todo) - ended

    def _take(self, outcome: VideoOutcome) -> None:
        """Give out what became of a video."""
        job, finished, failure = outcome.job, outcome.finished, outcome.failure
        self._removed += outcome.removed
        if finished is not None:
            self._print(lambda: self._output.video(finished))
            if finished.standing == "new":
                self._tally.video_s += finished.seconds
            else:
                self._tally.known_s += finished.seconds
            if not finished.recorded and self._files is not None:
                self._kept[job.name] = finished
        if failure is not None:
            print_error(failure.message)
            self._print(lambda: self._output.failure(job, failure))
            self._tally.failed.append(job.name)
            self._note(job, failure)
            return
        self._settle(job)
        if finished is not None and finished.standing == "new":
            self._tally.done += 1
        elif finished is not None and finished.standing == "files":
            self._tally.rewritten += 1
        else:  # another process has done it meanwhile
            self._tally.skipped += 1

    def _note(self, job: VideoJob, failure: Failure) -> None:
        """Write the line of a video that failed; that it cannot be written ends nothing, it was printed."""
        if self._failures is not None and self._broken is None:
            self._failed_before.add(job.name)
            try:
                self._failures.add(job, failure)
            except (AfsdError, OSError) as error:
                print_error(error)

    def _settle(self, job: VideoJob) -> None:
        """Remove the line of a video that failed before and has succeeded."""
        if self._failures is not None and job.name in self._failed_before:
            self._failed_before.discard(job.name)
            try:
                self._failures.settle(job.name)
            except (AfsdError, OSError) as error:
                print_error(error)
                self._shared_failed = True

    def _print(self, output: Callable[[], None]) -> None:
        """Print something on stdout; where its reader has gone, go on if the results are in a folder all the same.

        Raises:
            BrokenPipeError: the reader has gone, and nothing else has the results.
        """
        try:
            output()
            sys.stdout.flush()
        except BrokenPipeError:
            if self._records is None:
                raise
            drop_output()
            print_warning(f"nobody reads the standard output any more; the work goes on, for {self._flags.out}")

    def _is_broken(self, outcome: VideoOutcome) -> bool:
        """Return whether the folder of the results can take no more, so that further work would be lost."""
        if self._records is None or self._is_in_store or self._broken is not None:
            return self._broken is not None
        folder, (mark, number) = self._records.out, self._marks
        if not mark.exists() and folder_id(folder) != number:  # some drives change numbers, some lack locks
            self._broken = InputError(
                f"{folder}: is gone, or another folder than at the start, as where a drive was taken away; bring it "
                "back and start again"
            )
        elif outcome.failure is not None:
            try:
                with temporary_file(folder):
                    pass
            except OSError as error:
                if error.errno not in FULL:  # others may make room in the night; a drive does not come back by itself
                    self._broken = InputError(
                        f"{folder}: cannot be written to any more ({error.strerror}); start again"
                    )
        return self._broken is not None

    def _say_others(self, others: Sequence[str]) -> None:
        """Say that other runs are at work in the folder: whoever started two by mistake pays for both."""
        if others:
            runs = f"{counted(len(others), 'other run')} {'is' if len(others) == 1 else 'are'} at work here, too"
            print_warning(
                f"{self._flags.out}: {runs} ({some(others)}); all files will be whole, but videos may be done twice; "
                "--shard shares a list out"
            )

    def _stop(self) -> None:
        """Say, at a signal, how far the job is, and give out what is final."""
        self._say_stopped()
        if self._is_in_store:  # which takes longer than a stop
            self._print(self._output.finish)
        else:
            self._give_out()

    def _say_stopped(self) -> None:
        """Say, at a signal, how far the job is, and how to go on."""
        tally = self._tally
        total, ready = len(self._chosen), tally.done + tally.rewritten + tally.skipped
        rest = total - ready - len(tally.failed)
        if self._records is not None and total > 1 and rest and not self._flags.quiet_log:
            failed = f", {len(tally.failed)} failed" if tally.failed else ""
            print_note(
                f"afsd: stopped: of {total} videos {ready} are done{failed}, {rest} are not; start again to go on"
            )

    def _give_out(self) -> None:
        """Give out, once, what is of all videos: JSON, the table, the index of the pages."""
        self._print(self._output.finish)
        if self._shared_given or self._files is None or self._broken is not None:
            return
        self._shared_given = True
        try:
            self._say_shared(self._write_shared(self._files))
        except (AfsdError, OSError) as error:
            print_error(error)
            self._shared_failed = True

    def _write_shared(self, files: ResultFiles) -> Tables:
        """Write the table and the index as far as there are any."""
        if self._place is not None and self._tables is not None:
            tables = self._tables
            return self._place.write_shared(lambda: tables.write(self._kept))
        options, several = files.options, len(self._jobs) > 1
        formats = [*options.tables, *(suffix for suffix in BESIDE if several and suffix in options.formats)]
        return write_tables(entries_of(self._jobs, self._kept, files.folder), files, formats) if formats else Tables()

    def _say_shared(self, tables: Tables) -> None:
        lines = []
        if not self._flags.json and not self._flags.jsonl:
            videos = _videos(tables.videos)
            if tables.others:
                videos += f", {tables.others} of them not of this list"
            said = [(tables.table, f"the table of {videos}")]
            said += [(path, f"the detections of {videos}") for path in tables.rows]
            said.append((tables.index, f"the index of {tables.pages} page{_s(tables.pages)}"))
            for path, what in said:
                if path is not None:
                    name = path if self._place is None else self._place.name_of(path)
                    lines.append(f"written: {name}, {what}")
        for line in lines:
            self._print(lambda line=line: print(printable(line)))  # type: ignore[misc]
        self._removed += tables.removed
        if tables.left_out and not self._flags.quiet_log:
            print_note(
                f"afsd: {_videos(tables.left_out)} in {self._flags.out} of another model, or with other options, "
                f"{'is' if tables.left_out == 1 else 'are'} left out of what is of all videos"
            )
        if tables.renamed and not self._flags.quiet_log:
            print_note(
                f"afsd: {_videos(len(tables.renamed))} of the list with results under another name in "
                f"{self._flags.out}, too: {some(tables.renamed)}; remove the files of that name and its record in "
                ".afsd, or choose another --out"
            )

    def _sum_up(self) -> int:
        """Print the summary and return the exit status."""
        tally = self._tally
        tally.wall_s = time.monotonic() - self._began
        if self._broken is not None:
            print_error(self._broken)
        elif tally.not_done:
            print_error(
                InputError(
                    f"ended after {counted(len(tally.failed), 'failure')}, more than --max-errors "
                    f"{self._flags.max_errors}; {tally.not_done} not done"
                )
            )
        if not self._flags.quiet_log:
            self._say_removed()
            if tally.total > 1:
                print_note(f"afsd: {tally.line()}")
            self._say_failed_elsewhere()
        if line := tally.failed_line():
            print_note(f"afsd: {line}")
        return EXIT_ERROR if tally.failed or self._shared_failed or self._broken is not None else 0

    def _say_removed(self) -> None:
        """Say which files of older results were removed: nobody asked for that in so many words."""
        if self._removed:
            gone = "is gone, since it" if len(self._removed) == 1 else "are gone, since they"
            print_note(
                f"afsd: {counted(len(self._removed), 'file')} of older results {gone} held no longer and this run was "
                f"not asked for more: {some(self._removed)}"
            )

    def _say_failed_elsewhere(self) -> None:
        """Say which lines of the file of failures are of videos that the list does not have."""
        if self._failures is not None and (path := self._failures.path).exists():
            with suppress(OSError):
                others = self._failures.names() - {job.name for job in self._jobs}
                if others:
                    print_note(
                        f"afsd: {path} also has {_videos(len(others))} that this list has not: "
                        f"{some(sorted(others))}; a line stays until its video succeeds, or you remove it"
                    )


def folder_id(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from another one of its name; None: there is none."""
    try:
        state = folder.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _videos(count: int) -> str:
    return f"{count} video{_s(count)}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
