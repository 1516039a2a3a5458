"""Write the result files of a video."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.common.files import written_digests
from runtime.common.names import VIDEO_NAME, path_in
from runtime.common.text import quote
from runtime.errors import AfsdError, InputError
from runtime.jobs.plan import VideoJob
from runtime.jobs.records import OWN_FOLDER, ResultFile
from runtime.jobs.settings import FileOptions
from runtime.report.media import Media, require_embeddable
from runtime.report.options import ReportOptions
from runtime.report.video_page import index_above, judge, write_video_page
from runtime.results.detections import Detections
from runtime.results.writers import require_ours


@dataclass
class Written:
    """Holds what was written of a video."""

    paths: list[str] = field(default_factory=list)
    files: dict[str, ResultFile] = field(default_factory=dict)
    """What a record says of the files, by their names in the folder."""
    failure: AfsdError | OSError | None = None
    """First error of a file that could not be written; the others were."""


class ResultFiles:
    """Writes the result files of videos into a folder."""

    def __init__(self, folder: Path, options: FileOptions, *, overwrite: bool = False, staged: bool = False) -> None:
        """Take the folder; nothing is written yet.

        Args:
            folder: folder of the files.
            options: which files there shall be, and what they hold.
            overwrite: write over files that are no results of this project, too.
            staged: the files go on to another place, from which no video is reached by its path: pages link to none.
        """
        self.folder, self.options, self._overwrite, self._staged = folder, options, overwrite, staged

    @property
    def report_options(self) -> ReportOptions:
        """Options of the pages."""
        options = self.options
        return ReportOptions(threshold=options.score, embed=options.embed, model=Path(options.model).name)

    def path_of(self, job: VideoJob, suffix: str) -> Path:
        """Return the path of a video's file of a format (InputError: the name is none that a file can have)."""
        if job.name.partition("/")[0].casefold() == OWN_FOLDER:
            raise InputError(f"{VIDEO_NAME} is {quote(job.name)}, in the folder of the job's own records; rename it")
        return path_in(self.folder, job.stem_for(suffix), f".{suffix}", deep=True)

    def paths_of(self, job: VideoJob) -> list[Path]:
        """Return the paths of all files of a video; see `path_of`."""
        return [self.path_of(job, suffix) for suffix in self.options.formats]

    def require_free(
        self,
        jobs: Iterable[VideoJob],
        shared: Sequence[Path] = (),
        ours: Callable[[str], Container[str]] = lambda _: (),
    ) -> None:
        """Check, before any work, that no file of others is where results will be.

        Args:
            jobs: the videos.
            shared: paths of the files of all videos.
            ours: function that returns, for the name of a video, the names of its files that an earlier run wrote.

        Raises:
            InputError: a file of others is there, and it shall not be written over; a video is too large for its page.
        """
        self.check(shared)
        for job in jobs:
            if self.options.embed and (video := job.file) is not None:
                require_embeddable(video)
            try:
                paths = self.paths_of(job)
            except InputError:  # a name that no file can have: said when it is the video's turn
                continue
            self.check(paths, ours(job.name))

    def check(self, paths: Sequence[Path], ours: Container[str] = ()) -> None:
        """Raise an InputError if a file of others is at one of the paths, and it shall not be written over.

        What is named in `ours` was written by an earlier run, even if it is damaged since.
        """
        if not self._overwrite:
            for path in paths:
                if self._name(path) not in ours:
                    require_ours(path)

    def write(
        self,
        job: VideoJob,
        whole: Detections,
        seconds: float,
        formats: Sequence[str] | None = None,
        ours: Container[str] = (),
    ) -> Written:
        """Write the files of a video.

        Args:
            job: the video.
            whole: its detections, best first, with facts; those below `FileOptions.lowest` are left out.
            seconds: length of the video in seconds.
            formats: formats to write; None: all of the options.
            ours: names of files of the video that an earlier run wrote.
        """
        written = Written()
        chosen = self.options.formats if formats is None else formats
        try:
            paths = [self.path_of(job, suffix) for suffix in chosen]
            self.check(paths, ours)
        except (InputError, OSError) as error:
            written.failure = error
            return written
        for path, suffix in zip(paths, chosen, strict=True):
            try:
                with written_digests() as digests:
                    self._write(path, suffix, job, whole, seconds)
                written.files[self._name(path)] = ResultFile(digests[path], self.options.describe(suffix))
                written.paths.append(str(path))
            except (AfsdError, OSError) as error:  # the other formats may fit
                written.failure = written.failure or error
        return written

    def _name(self, path: Path) -> str:
        """Return the name that a record gives a file: its path in the folder, with "/"."""
        return path.relative_to(self.folder).as_posix()

    def _write(self, path: Path, suffix: str, job: VideoJob, whole: Detections, seconds: float) -> None:
        if suffix == "html":
            judged = judge(whole.above(self.options.lowest), None, seconds or None, self.report_options)
            index = index_above(job.name) if self.options.indexed else ""
            media = Media() if self._staged and not self.options.embed else None
            write_video_page(path, judged, self.report_options, job.file, index=index, media=media)
            return
        found = whole.above(self.options.score)
        if suffix == "csv":
            found.to_csv(path, bom=self.options.bom)
        else:
            found.save(path, duration_s=seconds)
