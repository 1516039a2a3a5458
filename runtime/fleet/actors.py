"""Work on videos in the actors of a job: one worker an actor, one video at a time, and no failure that ends the job."""

from __future__ import annotations

import os
import pickle
import socket
import time
import warnings
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from runtime.common.console import describe_unforeseen
from runtime.common.text import one_line
from runtime.errors import AfsdError, ArtifactWarning, VideoWarning
from runtime.fleet.outcome import Outcome, Work
from runtime.fleet.patience import Watch
from runtime.jobs.failures import Failure

DIED = "ActorDied"
"""Kind of the failure of a video whose actors died."""
HUNG = "ActorHung"
"""Kind of the failure of a video that made no progress in its actor."""
ASK_S = 10.0
"""Longest wait in seconds for the actor that counts, before a process that hangs ends itself."""
ITEM, OUTCOME = "item", "outcome"
"""Columns of the Ray Datasets of what is to do and what was done: pickled, as Ray itself sends values."""


class Worker(Protocol):
    """Works on one video after the other in an actor. Its constructor opens what all videos need.

    One with an attribute `seen`, which changes as long as the work on a video goes on, is ended where it hangs; its
    method `allowance`, if it has one, returns how many seconds longer a video may be silent at its beginning.
    """

    def work(self, item: Any) -> Work:
        """Work on a video and return what that gave.

        Raises:
            AfsdError, OSError: of this video; the others go on.
        """


class Attempts:
    """Counts how often each video, and the opening of each worker, was begun; outlives the actors that work."""

    def __init__(self) -> None:
        self._begun: dict[int | str, int] = {}
        self._hung: dict[int, float] = {}

    def begin(self, key: int | str) -> int:
        """Count a beginning and return the number of earlier ones."""
        earlier = self._begun.get(key, 0)
        self._begun[key] = earlier + 1
        return earlier

    def hang(self, key: int, silence: float) -> None:
        """Take that a video has made no progress for so many seconds."""
        self._hung[key] = silence

    def silence(self, key: int) -> float:
        """Return the seconds for which a video made no progress, so that its actor ended itself; 0: it did not."""
        return self._hung.get(key, 0.0)

    def forget(self, key: int | str) -> None:
        """Count anew from 0."""
        self._begun.pop(key, None)

    def videos(self) -> int:
        """Return how many videos have been begun."""
        return sum(isinstance(key, int) for key in self._begun)


@dataclass(frozen=True)
class WorkingFolder:
    """Holds the folder in which a job was started, from which its relative paths count."""

    path: str
    relative: str = ""
    """A relative path of the job, for the error; empty: the job has none."""

    def enter(self) -> Failure | None:
        """Make the folder this process's own; return why it cannot be if the job has relative paths."""
        try:
            os.chdir(self.path)
        except OSError as error:
            if self.relative:
                return Failure(
                    "InputError",
                    f"{self.relative}: counts from {self.path}, in which the job was started, and this machine does "
                    f"not see that folder ({error.strerror}); give absolute paths that all machines see, or URLs",
                )
        return None


class VideoActor:
    """Is the callable that Ray Data makes in each actor of the pool: a row with a video in, its outcome out."""

    def __init__(
        self,
        worker: type[Any],
        arguments: Mapping[str, Any],
        folder: WorkingFolder,
        attempts: Any,
        retries: int,
        patience: float | None = None,
    ) -> None:
        """Make the worker; what keeps it from working is the outcome of every video.

        Args:
            worker: class of a `Worker`.
            arguments: arguments of its constructor.
            folder: working folder of the job. A machine that lacks it does no job that has relative paths.
            attempts: handle of the actor of `Attempts`.
            retries: number of times that a video is begun again after an actor died of it.
            patience: seconds without progress in a video after which this process ends itself; None: it does not.
        """
        self._attempts, self._retries = attempts, retries
        self._host, self._process = socket.gethostname(), os.getpid()
        self._refusal: Failure | None = None
        self._worker: Worker | None = None
        if (problem := folder.enter()) is not None:
            self._refuse(problem)
            return
        opening = f"opening of {self._name()}"  # Ray starts an actor that dies here again, without end
        if (earlier := self._begin(opening)) > retries:
            self._refuse(Failure(DIED, f"{_say_died('that opened the model', earlier)}; Ray's logs say more"))
            return
        try:
            self._worker = worker(**arguments)
        except (AfsdError, OSError) as error:
            self._refuse(Failure.of(error))
        self._forget(opening)
        self._watch: Watch | None = None
        if patience is not None and hasattr(self._worker, "seen"):
            self._watch = Watch(lambda: getattr(self._worker, "seen", None), patience, self._hang)

    def _refuse(self, failure: Failure) -> None:
        self._refusal = replace(failure, message=f"{self._host}: {failure.message}")

    def __call__(self, row: Mapping[str, Any]) -> dict[str, bytes]:
        """Work on the video of a row; whatever is wrong with it is its outcome."""
        key, item = pickle.loads(row[ITEM])
        return {OUTCOME: pickle.dumps(self._outcome(key, item))}

    def _outcome(self, key: int, item: Any) -> Outcome:
        if self._worker is None:
            return Outcome(key, Work("refused", failure=self._refusal), (), self._host, self._process)
        earlier = self._begin(key)
        if earlier and (silence := self._silence(key)):
            text = f"no progress for {silence:.0f} s, so its process was ended; --patience gives it longer"
            return Outcome(key, Work("failed", failure=Failure(HUNG, text)), (), self._host, self._process)
        if earlier > self._retries:
            failure = Failure(
                DIED, f"{_say_died('that worked on it', earlier)}, or crashed by the video; Ray's logs say more"
            )
            return Outcome(key, Work("failed", failure=failure), (), self._host, self._process)
        began = time.monotonic()
        with warnings.catch_warnings(record=True) as caught:
            for category in (VideoWarning, ArtifactWarning):
                warnings.simplefilter("always", category)
            with nullcontext() if self._watch is None else self._watch.over(key, self._allowance(item)):
                work = attempt(self._worker, item)
        said = [each.message for each in caught if issubclass(each.category, (VideoWarning, ArtifactWarning))]
        texts = tuple(dict.fromkeys(map(one_line, said)))
        return Outcome(key, work, texts, self._host, self._process, time.monotonic() - began)

    def _name(self) -> str:
        """Return the name of this actor, which it keeps when it is started again."""
        import ray

        return str(ray.get_runtime_context().get_actor_id())

    def _begin(self, key: int | str) -> int:
        """Return how often something was begun before; 0 where nobody knows."""
        import ray

        try:
            return int(ray.get(self._attempts.begin.remote(key)))
        except ray.exceptions.RayError:  # its machine is gone: the count begins anew
            return 0

    def _silence(self, key: int) -> float:
        """Return for how long a video made no progress before; 0 where it did, or nobody knows."""
        import ray

        try:
            return float(ray.get(self._attempts.silence.remote(key)))
        except ray.exceptions.RayError:
            return 0.0

    def _hang(self, key: int, silence: float) -> None:
        """Have it known, before this process ends, that a video hangs, so that it is not begun again."""
        import ray

        with suppress(Exception):  # this process ends in any case
            ray.get(self._attempts.hang.remote(key, silence), timeout=ASK_S)

    def _allowance(self, item: Any) -> float:
        allowance = getattr(self._worker, "allowance", None)
        return 0.0 if allowance is None else float(allowance(item))

    def _forget(self, key: str) -> None:
        self._attempts.forget.remote(key)


def _say_died(what: str, times: int) -> str:
    return f"the process {what} died {times} time{'' if times == 1 else 's'}: killed, out of memory"


def attempt(worker: Worker, item: Any) -> Work:
    """Work on a video; any failure is returned, since it is of one video, and the others go on."""
    try:
        return worker.work(item)
    except (AfsdError, OSError, MemoryError) as error:
        return Work("failed", failure=Failure.of(error))
    except Exception as error:
        return Work("failed", failure=Failure(type(error).__name__, describe_unforeseen(error)[0]))
