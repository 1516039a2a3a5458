"""Read video files, URLs and cameras through OpenCV."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from typing import Any

from runtime.errors import SourceLostError, VideoError
from runtime.video.readers.base import CUT_SECONDS, Frame, Picture, is_cut, require_pixels
from runtime.video.readers.clock import Clocked, StreamClock
from runtime.video.sources import is_live, is_url, name_of, url_for_ffmpeg

MILLISECOND = 0.001
"""Seconds per unit of OpenCV's time stamps, and the coarsest tick of the containers."""
MAX_DENOMINATOR = 1001
"""Largest denominator of a frame rate, that of 30000/1001; OpenCV gives rates as floats."""


class OpenCVReader(Clocked):
    """Reads a video file, URL or camera through OpenCV.

    Time stamps count from the first picture; those of a camera are the times of arrival. OpenCV converts only the frame
    that it has just decoded, so `hold` converts at once.
    """

    background = True
    timed = True
    duration: float | None = None

    def __init__(self, source: str | int) -> None:
        """Open the source; VideoError if it is none that OpenCV can open."""
        import cv2

        self.name, self.label = name_of(source)
        self._source = source
        self._cv2 = cv2
        with _quiet(cv2):
            try:
                self._capture = (
                    cv2.VideoCapture(source)
                    if isinstance(source, int)
                    else cv2.VideoCapture(_file_name(source), cv2.CAP_FFMPEG)
                )
            except (cv2.error, OverflowError):
                reason = (
                    "got a number that no camera has"
                    if isinstance(source, int)
                    else f"OpenCV {cv2.__version__} takes no name that is not UTF-8; rename the file"
                )
                raise VideoError(f"{self.label}: {reason}") from None
        if not self._capture.isOpened():
            raise VideoError(f"{self.label}: {_explain_failure(source)}")
        width, height = self._capture.get(cv2.CAP_PROP_FRAME_WIDTH), self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        require_pixels(int(width), int(height), self.label)
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if fps > 0 else None
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(count) if isinstance(source, str) and count >= 1 else None
        if self.count is not None and self.fps is not None:
            self.duration = self.count / self.fps
        self._codec = self._capture.get(cv2.CAP_PROP_FOURCC)
        self.endless: bool | None = is_live(source)
        self._camera = isinstance(source, int)
        self._started = time.monotonic()
        self._grabbed = 0
        self._first_stamp = 0.0
        rate = Fraction(fps).limit_denominator(MAX_DENOMINATOR) if fps > 0 else None
        self._clock = StreamClock(MILLISECOND, rate, 0.0)

    def grab(self) -> bool:
        """See `Reader`."""
        if not self._capture.grab():
            if self.endless and self._grabbed:
                raise SourceLostError(f"{self.label}: the stream ended or broke off; a live source has no end")
            return False
        if self._camera:
            now = time.monotonic()
            self._started = self._started if self._grabbed else now
            self._clock.advance((now - self._started) / MILLISECOND, None)
        else:
            stamp = self._capture.get(self._cv2.CAP_PROP_POS_MSEC)
            if not self._grabbed:
                self._first_stamp = stamp
            known = stamp > 0 or not self._grabbed  # a container without time stamps stays at 0
            self._clock.advance(stamp - self._first_stamp if known else None, None)
        self._grabbed += 1
        return True

    def hold(self) -> Picture:
        """See `Reader`.

        Raises:
            VideoError: the frame is damaged.
        """
        decoded, image = self._capture.retrieve()
        if not decoded:
            raise VideoError(f"{self.label}: a frame could not be decoded; the file is damaged")

        def convert() -> Frame:
            rgb: Frame = self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB)
            return rgb

        return convert

    def scan(self) -> tuple[int, float] | None:
        """See `Reader`; decodes every frame."""
        if self.endless:
            return None
        with closing(OpenCVReader(self._source)) as again:
            while again.grab():
                pass
            return again._grabbed, again.end

    def shortfall(self) -> str | None:
        """See `Reader`.

        OpenCV's number of frames is an estimate where sound is longer than the picture; `PyAVReader` knows better.
        """
        if self._grabbed == 0:
            codec = int(self._codec).to_bytes(4, "little").decode("ascii", "replace").strip("\0 ") or "unknown"
            return f"no frame could be decoded; the file is damaged, or OpenCV lacks its codec ({codec}): try PyAV"
        rate, count = self.fps or 1.0, self.count or 0
        if not is_cut((count - self._grabbed) / rate, count / rate):
            return None
        if self.duration is not None and self.duration - self.end <= CUT_SECONDS:
            return None  # the number is an estimate by the highest rate, or there is a gap
        return f"holds {self._grabbed} of the {self.count} frames that it declares; the file is cut off or damaged"

    def close(self) -> None:
        """See `Reader`."""
        self._capture.release()


def _file_name(source: str) -> Any:
    """Return a source as OpenCV takes it, as text; a name that is not UTF-8 as bytes, which 4.11 refuses."""
    name = url_for_ffmpeg(source)
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name)
    return name


def _explain_failure(source: str | int) -> str:
    if isinstance(source, int):
        return "camera not found, or in use by another program"
    if is_url(source):
        return "cannot be opened; check the address and that the server runs"
    return "not a video that OpenCV can open (unknown format, or cut off); try to play it, or convert it with ffmpeg"


@contextmanager
def _quiet(cv2: Any) -> Iterator[None]:
    """Silence OpenCV's and FFmpeg's own messages while a capture is opened.

    FFmpeg reads its log level once, from an environment variable, when the process opens its first video; a value set
    by the user is kept. (Otherwise damaged files print a line per lost block during decoding.)
    """
    variable = "OPENCV_FFMPEG_LOGLEVEL"
    unset = variable not in os.environ
    logging = getattr(getattr(cv2, "utils", None), "logging", None)
    level = logging.getLogLevel() if logging else None
    if unset:
        os.environ[variable] = "-8"  # AV_LOG_QUIET
    if logging:
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        if unset:
            os.environ.pop(variable, None)
        if logging:
            logging.setLogLevel(level)
