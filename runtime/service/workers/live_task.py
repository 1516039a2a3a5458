"""Run one live input in a worker: frames, encoded images, or a container that is still being written."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.common.text import quote
from runtime.detector import Detector
from runtime.errors import InputError, VideoError
from runtime.service.job_options import JobOptions
from runtime.service.workers.task import make_detector, make_report, say_found
from runtime.service.workers.worker import CancelledTaskError, Engines, Line, Message
from runtime.suppression.policies import SETTLE_WINDOWS
from runtime.video.readers.base import require_pixels
from runtime.video.readers.image_size import image_size
from runtime.video.readers.pyav import PyAVReader
from runtime.video.sources import STDIN

ENCODED = ("jpeg", "png")
"""Formats of which a message is one image."""
RAW = "rgb24"
"""Format of which a message is one or more frames, uint8 [T,H,W,3]."""
CONTAINER = "container"
"""Format of which messages are pieces of a file, such as MPEG-TS."""


def run_live(task: Message, engines: Engines, line: Line) -> None:
    """Run a live input and say what is final.

    Args:
        task: "format", "width", "height", "fps", "score", "settle_s" (None: four windows, as of a camera), "name".
        engines: the engines.
        line: line to the service. Of frames it brings "data" before each message of bytes, then "end" or "cancel".

    Raises:
        VideoError, InputError: a message is no frame, the container is no video, nothing came; the line is clean.
        AfsdError: anything else; what the client sent may still be on the line, which then cannot be used again.
        CancelledTaskError: the service asked for it.
    """
    try:
        seconds = _detect(task, engines, line)
    except (VideoError, InputError) as error:
        if line.in_input:
            line.say("broken", reason=str(error))
            _drop_rest(line)
        raise
    line.say("ended", video_seconds=seconds)


def _detect(task: Message, engines: Engines, line: Line) -> float:
    """Detect in a live input and return the seconds of video."""
    spec = engines.spec
    if spec.sampling == "whole_video":
        raise InputError("the model sees whole videos, and a live input has no end; send a file to /v1/jobs")
    settle_s = task["settle_s"] or SETTLE_WINDOWS * spec.window_length / spec.sample_fps
    options = JobOptions(**task["options"])
    detector = make_detector(engines, options, task["score"], settle_seconds=settle_s)
    return (_run_container if task["format"] == CONTAINER else _run_frames)(task, detector, line)


class _Busy:
    """Speaks with a service whose messages somebody else reads."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.cancelled = False

    def say(self, event: str, **data: Any) -> None:
        """See `Line`."""
        self._line.say(event, **data)

    def check(self) -> None:
        """See `Line`."""
        if self.cancelled:
            raise CancelledTaskError


def _run_frames(task: Message, detector: Detector, line: Line) -> float:
    """Detect in frames and return the seconds of video."""
    report = make_report(_Busy(line), task)
    frames = _frames(task, line)
    with closing(detector.stream(frames, fps=task["fps"], on_progress=report)) as found:  # type: ignore[type-var]
        for part in found:
            say_found(line, part)
    return detector.timing.video_seconds


def _drop_rest(line: Line) -> None:
    """Read on until the service knows that nothing more is wanted."""
    while (heard := line.hear())["do"] == "data":
        line.hear_bytes()
    if heard["do"] == "cancel":
        raise CancelledTaskError


def _frames(task: Message, line: Line) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a client, in chunks as it sends them."""
    number = 0
    while True:
        heard = line.hear()
        if heard["do"] == "cancel":
            raise CancelledTaskError
        if heard["do"] == "end":
            return
        data = line.hear_bytes()
        yield _decode(data, task, number)
        number += 1


def _decode(data: bytes, task: Message, number: int) -> NDArray[np.uint8]:
    """Return the frames in a message, [T,H,W,3] or [H,W,3] (VideoError: there are none in it)."""
    height, width = task["height"], task["width"]
    if task["format"] == RAW:
        size = height * width * 3
        if not data or len(data) % size:
            raise VideoError(
                f"message {number}: got {len(data):,} bytes, expected a multiple of {size:,} "
                f"({height} × {width} × 3); send whole frames"
            )
        return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)
    declared = image_size(data)
    if declared is None:
        raise VideoError(f"message {number}: no JPEG or PNG; send one encoded image in each message")
    require_pixels(*declared, f"message {number}")
    decoded: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise VideoError(f"message {number}: an image that is damaged or cut off; send it whole")
    if decoded.shape[:2] != (height, width):
        raise VideoError(
            f"message {number}: got {decoded.shape[1]} × {decoded.shape[0]} pixels, expected {width} × {height}, as "
            "the first message says"
        )
    return decoded[..., ::-1]


def _run_container(task: Message, detector: Detector, line: Line) -> float:
    """Detect in a container that comes through a pipe, FFmpeg's standard input; return the seconds of video."""
    reading, writing = os.pipe()
    os.dup2(reading, 0)
    os.close(reading)
    feeder = _Feeder(line, writing)
    feeder.start()
    failure: VideoError | InputError | None = None
    try:
        with closing(PyAVReader(STDIN, contained=True, known_as=task["name"])) as reader:
            opened = detector.open(reader, fps=task["fps"])  # type: ignore[arg-type]  # an open reader
            with closing(detector.find(opened, make_report(feeder, task))) as found:  # type: ignore[type-var]
                for part in found:
                    say_found(feeder, part)
    except (VideoError, InputError) as error:
        failure = error
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # whoever writes into the pipe sees that nobody reads it
    os.close(nothing)
    if failure is not None and not feeder.cancelled:
        line.say("broken", reason=str(failure))
    feeder.join()
    feeder.check()
    if failure is not None:
        raise failure
    return detector.timing.video_seconds


class _Feeder(_Busy, threading.Thread):
    """Copies what a client sends into a pipe, until it says that this is the end."""

    def __init__(self, line: Line, pipe: int) -> None:
        _Busy.__init__(self, line)
        threading.Thread.__init__(self, name="afsd-feeder", daemon=True)
        self._pipe = pipe

    def run(self) -> None:
        """Copy (the thread's body); what nobody reads any more is dropped."""
        broken = False
        while (heard := self._line.hear())["do"] == "data":
            data = memoryview(self._line.hear_bytes())
            while data and not broken:
                try:
                    data = data[os.write(self._pipe, data) :]
                except OSError:
                    broken = True
        self.cancelled = heard["do"] == "cancel"
        os.close(self._pipe)


def require_format(value: object) -> str:
    """Return the format of a WebSocket's frames (VideoError: it is none)."""
    if value not in (RAW, *ENCODED):
        raise VideoError(f"format: got {quote(value)}, expected one of {', '.join((RAW, *ENCODED))}")
    return str(value)
