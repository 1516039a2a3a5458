"""Work on videos in the actors of a job: one worker an actor, one video at a time, and no failure that ends the job."""

from __future__ import annotations

import os
import pickle
import socket
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from runtime.common.text import one_line
from runtime.errors import AfsdError, ArtifactWarning, VideoWarning
from runtime.fleet.outcome import Outcome, Work
from runtime.jobs.failures import Failure

ITEM, OUTCOME = "item", "outcome"
"""Columns of the Ray Datasets of what is to do and what was done: pickled, as Ray itself sends values."""


class Worker(Protocol):
    """Works on one video after the other in an actor. Its constructor opens what all videos need."""

    def work(self, item: Any) -> Work:
        """Work on a video and return what that gave.

        Raises:
            AfsdError, OSError: of this video; the others go on.
        """


class Attempts:
    """Counts how often the work on each video was begun: an actor of its own, which outlives those that work."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}

    def begin(self, key: int) -> int:
        """Count the beginning of the work on a video and return the number of earlier ones."""
        earlier = self._begun.get(key, 0)
        self._begun[key] = earlier + 1
        return earlier


class VideoActor:
    """Is the callable that Ray Data makes in each actor of the pool: a row with a video in, its outcome out."""

    def __init__(
        self, worker: type[Any], arguments: Mapping[str, Any], folder: str, attempts: Any, retries: int
    ) -> None:
        """Make the worker; what keeps it from working is the outcome of every video.

        Args:
            worker: class of a `Worker`.
            arguments: arguments of its constructor.
            folder: working folder of the job, from which paths are relative; where the machine lacks it, they are not.
            attempts: handle of the actor of `Attempts`.
            retries: number of times that a video is begun again after an actor died of it.
        """
        self._attempts, self._retries = attempts, retries
        self._host, self._process = socket.gethostname(), os.getpid()
        self._refusal: Failure | None = None
        with suppress(OSError):
            os.chdir(folder)
        self._worker: Worker | None = None
        try:
            self._worker = worker(**arguments)
        except (AfsdError, OSError) as error:
            failure = Failure.of(error)
            self._refusal = replace(failure, message=f"{self._host}: {failure.message}")

    def __call__(self, row: Mapping[str, Any]) -> dict[str, bytes]:
        """Work on the video of a row; whatever is wrong with it is its outcome."""
        key, item = pickle.loads(row[ITEM])
        return {OUTCOME: pickle.dumps(self._outcome(key, item))}

    def _outcome(self, key: int, item: Any) -> Outcome:
        if self._worker is None:
            return Outcome(key, Work("refused", failure=self._refusal), (), self._host, self._process)
        earlier = self._begin(key)
        if earlier > self._retries:
            died = f"the process that worked on it died {earlier} time{'' if earlier == 1 else 's'}"
            failure = Failure(
                "ActorDied", f"{died}: killed, out of memory, or crashed by the video; Ray's logs say more"
            )
            return Outcome(key, Work("failed", failure=failure), (), self._host, self._process)
        began = time.monotonic()
        with warnings.catch_warnings(record=True) as caught:
            for category in (VideoWarning, ArtifactWarning):
                warnings.simplefilter("always", category)
            work = attempt(self._worker, item)
        said = [each.message for each in caught if issubclass(each.category, (VideoWarning, ArtifactWarning))]
        texts = tuple(dict.fromkeys(map(one_line, said)))
        return Outcome(key, work, texts, self._host, self._process, time.monotonic() - began)

    def _begin(self, key: int) -> int:
        """Return how often the work on a video was begun before; 0 where nobody knows."""
        import ray

        try:
            return int(ray.get(self._attempts.begin.remote(key)))
        except ray.exceptions.RayError:  # its machine is gone: the count begins anew
            return 0


def attempt(worker: Worker, item: Any) -> Work:
    """Work on a video; any failure is returned, since it is of one video, and the others go on."""
    try:
        return worker.work(item)
    except (AfsdError, OSError, MemoryError) as error:
        return Work("failed", failure=Failure.of(error))
    except Exception as error:
        kind = type(error).__name__
        said = f"unforeseen {kind}{f': {one_line(error)}' if str(error) else ''}; please report this line"
        return Work("failed", failure=Failure(kind, said))
