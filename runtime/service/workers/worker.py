"""Work in a process of its own: hold an engine, and run one job or live input after the other on it.

What a hostile video does to the decoder it does to this process alone. Messages are JSON in both directions, frames of
live inputs are plain bytes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.common.children import end_with_parent
from runtime.common.text import one_line, without_secrets
from runtime.engines import open_engine
from runtime.errors import AfsdError, ArtifactWarning, InputError, VideoWarning
from runtime.spec.model_card import DEFAULT_SCORE

if TYPE_CHECKING:
    from runtime.engines.base import Engine
    from runtime.spec.model import ModelSpec

PROGRESS_S = 0.25
"""Least seconds between two messages of progress."""
LARGEST_MESSAGE = 64 << 20
"""Largest message in bytes, beside those of frames."""
Message = dict[str, Any]


@dataclass(frozen=True)
class Models:
    """Names the engines of a worker, and how they are opened."""

    engine: str
    flow_engine: str | None = None
    backbones: tuple[str, ...] = ()
    """Backbones on RGB and on flow that make the features of a model on features."""
    batch_size: int = 1
    opening: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `open_engine`."""
    devices: tuple[str, ...] = ()
    """Devices among which workers are spread; empty: that of `opening`."""
    open: Callable[..., Engine] = open_engine
    """Function that opens an engine; one that another process can import."""

    def for_worker(self, number: int) -> Models:
        """Return the models of one of several workers, on the device that is its own."""
        if not self.devices:
            return self
        device = self.devices[number % len(self.devices)]
        return replace(self, opening={**self.opening, "device": device}, devices=())


class CancelledTaskError(Exception):
    """Is raised where a job stops because the service asks for it."""


class Line:
    """Speaks with the service: a line of messages in both directions."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.in_input = False
        """Whether more of a live input follows what was heard last."""

    def say(self, event: str, **data: Any) -> None:
        """Send a message; a service that is gone ends the process."""
        try:
            self._connection.send_bytes(json.dumps({"event": event, **data}).encode())
        except OSError:
            os._exit(1)

    def hear(self) -> Message:
        """Wait for a message; a service that is gone ends the process."""
        try:
            heard: Message = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(1)
        self.in_input = heard["do"] in ("live", "data")
        return heard

    def hear_bytes(self) -> bytes:
        """Wait for the bytes that a message has announced."""
        try:
            return self._connection.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)

    def check(self) -> None:
        """Return at once unless the service wants the job to stop (CancelledTaskError)."""
        while self._connection.poll():
            if self.hear()["do"] == "cancel":
                raise CancelledTaskError


@dataclass
class Engines:
    """Holds the engines of a worker, which stay open from job to job."""

    engine: Engine
    flow: Engine | None
    backbones: list[Engine]
    batch_size: int
    name: str
    """File name of the model, for results."""
    spec: ModelSpec


def run_worker(connection: Connection, models: Models, memory: int) -> None:
    """Open the engines, then do what the service says until it goes away (the body of a process).

    Args:
        connection: line to the service.
        models: the engines.
        memory: bytes that may be taken beyond those of the loaded engines; 0: any.
    """
    end_with_parent()
    for name in ("SIGTERM", "SIGHUP"):  # sent to the whole group; the service decides when its workers end
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
    line = Line(connection)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", ArtifactWarning)
            engines = open_engines(models)
    except AfsdError as error:
        line.say("unusable", reason=one_line(error), foreseen=True)
        return
    except Exception as error:
        line.say("unusable", reason=one_line(f"{type(error).__name__}: {error}"), foreseen=False)
        return
    limit_memory(memory)
    notes = [one_line(one.message) for one in caught if issubclass(one.category, ArtifactWarning)]
    line.say("ready", warnings=notes, **describe(engines))
    while True:
        task = line.hear()
        if task["do"] in ("job", "live"):
            _run(task, engines, line)


def open_engines(models: Models) -> Engines:
    """Open the engines (AfsdError: one cannot be, or they do not fit together)."""
    from runtime.detector import Detector, DetectorOptions
    from runtime.families import family_of
    from runtime.spec.model import fuse_specs

    def opened(path: str, **changes: Any) -> Engine:
        return models.open(path, **{**models.opening, **changes})

    engine = opened(models.engine)
    flow = opened(models.flow_engine) if models.flow_engine else None
    alone = {"mode": "latency"} if "mode" in models.opening else {}
    backbones = [opened(path, **alone) for path in models.backbones]
    spec = fuse_specs(engine.spec, flow.spec) if flow else engine.spec
    family_of(spec)
    if spec.features is not None and not backbones:
        raise InputError(
            f"{models.engine}: the model sees features, and clients send videos; give --backbone, which makes features"
        )
    options = DetectorOptions(batch_size=models.batch_size)
    Detector(engine, flow_engine=flow, backbone=backbones or None, options=options)  # refuses what does not fit
    return Engines(engine, flow, backbones, models.batch_size, Path(models.engine).name, spec)


def describe(engines: Engines) -> Message:
    """Return what the service tells of the model."""
    spec, point = engines.spec, engines.spec.operating_point
    return {
        "model": engines.name,
        "classes": list(spec.classes),
        "threshold": DEFAULT_SCORE if point is None else point.threshold,
        "own_threshold": point is not None,
        "demonstration": spec.card.demonstration,
        "fps": spec.sample_fps,
        "window_s": spec.window_length / spec.sample_fps,
        "live": spec.sampling != "whole_video",
        "library": engines.engine.library,
        "device": engines.engine.device,
        "precision": engines.engine.precision,
        "pid": os.getpid(),
    }


def limit_memory(memory: int) -> None:
    """Limit the memory of this process to what it has and so many bytes more; where the system can, as on Linux."""
    if not memory or sys.platform != "linux":
        return
    import resource

    with suppress(OSError, ValueError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        taken = next(int(row.split()[1]) << 10 for row in status.splitlines() if row.startswith("VmData:"))
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        wanted = taken + memory if hard == resource.RLIM_INFINITY else min(taken + memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _run(task: Message, engines: Engines, line: Line) -> None:
    """Run one task, and say how it ended; after what nobody foresaw the process is not used again."""
    from runtime.service.workers.live_task import run_live
    from runtime.service.workers.task import run_job

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", VideoWarning)
        warnings.showwarning = lambda message, *_, **__: line.say("warning", reason=_public(message, task))
        try:
            (run_job if task["do"] == "job" else run_live)(task, engines, line)
        except CancelledTaskError:
            line.say("cancelled")
        except AfsdError as error:
            spent = line.in_input  # what is left of the input would be taken for messages
            line.say("failed", reason=_public(error, task), spent=spent)
        except OSError as error:  # such as a full disk
            reason = f"the files of the job cannot be written ({error.strerror or type(error).__name__})"
            line.say("failed", reason=reason, spent=line.in_input)
        except MemoryError:
            line.say("failed", reason="the video needs more memory than the service gives a job", spent=True)
        except Exception as error:
            print(without_secrets(traceback.format_exc()), file=sys.stderr, flush=True)
            reason = f"unforeseen {type(error).__name__}; the service's own log has more"
            line.say("failed", reason=reason, spent=True)


def _public(message: object, task: Message) -> str:
    """Return a message as one line, with the video's own name in place of the path that it has here."""
    text = str(message)
    for hidden in (task.get("video"), task.get("folder")):
        if hidden:
            text = text.replace(hidden, task.get("name", "video"))
    return one_line(text)
