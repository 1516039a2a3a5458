"""Workers of a job on Ray whose process is killed in the midst of a video: of one video once, of another always."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.fleet import files as job_files
from runtime.fleet.features import FeatureWorker
from runtime.fleet.files import JobFile
from runtime.fleet.outcome import Work
from runtime.fleet.pool import DetectionWorker
from runtime.jobs.plan import VideoJob
from runtime.jobs.running import WorkerPlan
from runtime.jobs.store_records import StoreFolder
from runtime.video.sources import NamedSource

KILLED, DEADLY = "killed", "deadly"
"""Parts of the paths of videos at whose first progress the process is killed: once, and always."""


def is_armed(source: str, log: Path) -> bool:
    """Whether this process shall be killed in the midst of a video; then a line with the video is in the log."""
    before = log.read_text(encoding="utf-8") if log.exists() else ""
    armed = DEADLY in source or (KILLED in source and KILLED not in before)
    if armed:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{source} {os.getpid()}\n")
    return armed


def kill_this_process(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class HostileFeatureWorker(FeatureWorker):
    """Makes features, with the log beside their folder."""

    def __init__(self, out: Path, **arguments: Any) -> None:
        super().__init__(out=out, **arguments)
        self._log = out.parent / "kills.log"

    def work(self, item: NamedSource) -> Work:
        if is_armed(str(item.source), self._log):
            self._folder.add(item.source, kill_this_process, item.name)
        return super().work(item)


class HostileDetectionWorker(DetectionWorker):
    """Finds actions, with the log, and one of the engine's runs, beside the folder of the results."""

    def __init__(self, plan: WorkerPlan, mark: str, files: Sequence[JobFile]) -> None:
        super().__init__(plan, mark, files)
        place = plan.folder.url.partition("://")[2] if isinstance(plan.folder, StoreFolder) else plan.folder
        self._logs = Path() if place is None else Path(place).parent

    def work(self, item: VideoJob) -> Work:
        if is_armed(str(item.source), self._logs / "kills.log"):
            self._do(item, kill_this_process)
        work = super().work(item)
        if work.state == "done":
            with (self._logs / "runs.log").open("a", encoding="utf-8") as file:
                file.write(f"{item.name}\n")
        return work


class SlowDetectionWorker(DetectionWorker):
    """Finds actions, after a second, and writes beside the folder of the results which machine began which video."""

    def work(self, item: VideoJob) -> Work:
        import ray

        assert self._plan.folder is not None
        line = {"video": item.name, "machine": ray.get_runtime_context().get_node_id()}
        with (self._plan.folder.parent / "begun.log").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        time.sleep(1)
        return super().work(item)


class BlindDetectionWorker(DetectionWorker):
    """Finds actions on a machine that has none of the job's models but those that it has taken into its cache."""

    def __init__(self, plan: WorkerPlan, mark: str, files: Sequence[JobFile]) -> None:
        has = job_files._has_digest

        def has_in_cache(path: Path, file: JobFile, *, verify: bool) -> bool:
            return str(path) != file.path and has(path, file, verify=verify)

        job_files._has_digest = has_in_cache
        super().__init__(plan, mark, files)
        assert Path(self._plan.settings.engine) != Path(plan.settings.engine)


class SlowWorker:
    """Sleeps for so many seconds."""

    def work(self, item: float) -> Work:
        time.sleep(item)
        return Work("done")


class PlaceWorker:
    """Sleeps for so many seconds, and says on which machine of the cluster it is and which GPUs Ray shows it."""

    def work(self, item: float) -> Work:
        import ray

        time.sleep(item)
        return Work("done", (ray.get_runtime_context().get_node_id(), os.environ.get("CUDA_VISIBLE_DEVICES", "")))


class StillbornWorker:
    """Kills its process before it has opened anything."""

    def __init__(self) -> None:
        kill_this_process(None)
