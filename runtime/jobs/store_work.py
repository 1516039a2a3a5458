"""Do the work of one video after another where the results go to an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime.detector import Detector
from runtime.inputs import Progress
from runtime.jobs.plan import VideoJob
from runtime.jobs.records import RecordFolder
from runtime.jobs.settings import JobSettings
from runtime.jobs.store_records import StoreRecords
from runtime.jobs.work import Finished, VideoWorker


class StoreWorker(VideoWorker):
    """Does videos as `VideoWorker` does, with the record and the files of one video on this machine at a time."""

    def __init__(self, detector: Detector, settings: JobSettings, *, records: RecordFolder | None, **rest: Any) -> None:
        """Take what a job consists of, as `VideoWorker` does; the records are those of the store."""
        assert isinstance(records, StoreRecords)
        super().__init__(detector, settings, records=records, **rest)
        self._store = records

    def do(self, job: VideoJob, on_progress: Progress | None = None) -> Finished:
        """Do what is to be done for one video; see `VideoWorker.do`. Files are named by their addresses.

        Raises:
            AfsdError, OSError: also if the store cannot be read or written to.
        """
        try:
            self._store.refresh_one(job.name)
            finished = super().do(job, on_progress)
            paths = [Path(path) for path in finished.written]
            if finished.failure is not None or not finished.recorded:  # else they were put with the record
                for path in paths:
                    self._store.put(path)
            finished.written = [self._store.store.address_of(self._store.name_of(path)) for path in paths]
            return finished
        finally:
            self._store.clear()
