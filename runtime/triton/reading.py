"""Read a video of a stranger: nothing that it names, and within the limits of the server."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from runtime.common.files import is_folder
from runtime.detector import Detector
from runtime.errors import RequestCancelledError, VideoError
from runtime.features.files import FEATURE_SUFFIXES
from runtime.results.detections import Detections
from runtime.timing import Timing
from runtime.triton.settings import Settings
from runtime.video.readers.base import Reader, declared_seconds
from runtime.video.readers.choice import require_video_file
from runtime.video.readers.images import FolderReader
from runtime.video.readers.pyav import PyAVReader

ASK_EVERY_S = 0.2
"""Seconds between two questions to the server whether a request is cancelled; each is a message to its process."""


class Bounds:
    """Ends a video that is longer than the server takes, that takes longer than it allows, or that nobody waits for."""

    def __init__(self, label: str, settings: Settings, cancelled: Callable[[], bool]) -> None:
        """Start the time of one video.

        Args:
            label: its name in errors.
            settings: limits of the server.
            cancelled: function that says whether its request was cancelled.
        """
        self.label = label
        """Name of the video in errors."""
        self._longest_s, self._work_s = settings.max_video_s, settings.max_processing_s
        self._cancelled, self._begun, self._asked = cancelled, time.monotonic(), -math.inf

    def check(self, timing: Timing) -> None:
        """Check what has been looked at so far; errors as in `check_length` and `check_time`."""
        self.check_length(timing.video_seconds)
        self.check_time()

    def check_length(self, seconds: float | None) -> None:
        """Check a length of video (VideoError: it is too long); None: it is not known."""
        if seconds is not None and seconds > self._longest_s:
            raise VideoError(
                f"{self.label}: got {seconds:,.0f} s or more, expected at most {self._longest_s:,.0f} s of video; cut "
                "it in parts"
            )

    def check_time(self) -> None:
        """Check that there is time left, and somebody who waits.

        Raises:
            VideoError: the time that the server gives a video is over.
            RequestCancelledError: the request was cancelled.
        """
        now = time.monotonic()
        if now - self._begun > self._work_s:
            raise VideoError(
                f"{self.label}: took more than {self._work_s:g} s, the most that this server gives a video; cut it "
                "in parts"
            )
        if now - self._asked >= ASK_EVERY_S:
            self._asked = now
            if self._cancelled():
                raise RequestCancelledError(f"{self.label}: the request was cancelled")


class BoundedReader(PyAVReader):
    """Reads a video until the server's time for it is over, however slowly its frames come."""

    def __init__(self, source: str, bounds: Bounds, **options: Any) -> None:
        """Open the source; see `PyAVReader` for options and errors."""
        super().__init__(source, **options)
        self._bounds = bounds

    def grab(self) -> bool:
        """See `Reader`."""
        self._bounds.check_time()
        return super().grab()


def detect_file(detector: Detector, file: Path, bounds: Bounds, fps: float | None) -> Detections:
    """Detect actions in a file or folder of images of the server; nothing else that it names is opened.

    Args:
        detector: the detector.
        file: a video, a folder of images, or features for a model on features.
        bounds: those of the request, with the video's name in results and errors.
        fps: frames per second; None: as the video says.

    Raises:
        VideoError: no video, a playlist, or one that is longer than the server takes.
        RequestCancelledError: nobody waits for it any more.
        InputError: see `Detector.run`.
    """
    if detector.spec.features is not None and file.suffix.lower() in FEATURE_SUFFIXES:
        return detector.run(file, fps=fps, on_progress=bounds.check)
    if is_folder(file):
        return detect_frames(detector, FolderReader(file), bounds, fps)
    require_video_file(file)
    reader = BoundedReader(str(file), bounds, contained=True, known_as=bounds.label)
    return detect_frames(detector, reader, bounds, fps)


def detect_frames(detector: Detector, reader: Reader, bounds: Bounds, fps: float | None) -> Detections:
    """Detect actions in an open video within its bounds, and close it; errors as in `detect_file`."""
    with closing(reader):
        bounds.check_length(declared_seconds(reader, fps))
        return detector.run(reader, fps=fps, on_progress=bounds.check)  # type: ignore[arg-type]  # an open reader
