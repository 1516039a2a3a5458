"""Look which videos of a list are done, several at once: object stores and servers answer slowly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from runtime.jobs.plan import VideoJob
from runtime.jobs.recipe import Recipe
from runtime.jobs.records import Record, RecordFolder
from runtime.jobs.settings import FileOptions

LOOKS = 32
"""Videos that are looked at side by side: stores answer in a tenth of a second, a server that hangs in ten."""
AT_ONCE = 8 * LOOKS
"""Videos whose records are held in memory at once."""


def look_at_all(
    jobs: Sequence[VideoJob], records: RecordFolder, recipe: Recipe, options: FileOptions
) -> Iterator[tuple[VideoJob, Record | None]]:
    """Yield each video, in order, with its record if it is done, as far as that is known without reading the video.

    Whoever does the video reads one that looks changed, and compares its content (see `RecordFolder.look`).
    """

    def look(job: VideoJob) -> Record | None:
        try:
            standing, record = records.look(job, recipe, options, job.path, read=False)
        except OSError:  # said when it is the video's turn
            return None
        return record if standing == "done" else None

    pool = ThreadPoolExecutor(LOOKS, thread_name_prefix="afsd-look")
    try:
        for start in range(0, len(jobs), AT_ONCE):
            some = jobs[start : start + AT_ONCE]
            yield from zip(some, pool.map(look, some), strict=True)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
