"""Read video files, streams and URLs through PyAV, with FFmpeg's time stamps and every codec of its build."""

from __future__ import annotations

import heapq
import re
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import PurePath
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from runtime.common.processors import limited_cores
from runtime.errors import SourceLostError, VideoError, import_failure
from runtime.video.prefetch import READING
from runtime.video.readers.base import CUT_SHARE, Frame, Picture, is_cut, require_pixels
from runtime.video.readers.clock import LONGEST_GAP_SECONDS, Clocked, StreamClock
from runtime.video.sources import STDIN, is_live, is_remote, is_url, name_of, scheme_of, url_for_ffmpeg
from runtime.video.stores import open_store

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

T = TypeVar("T")

PRIMING_SECONDS = 0.1
"""Longest lead of sound with negative time stamps that is an encoder's priming, which players cut off."""
MAX_UNDECODED = 1000
"""Most packets whose frames are waited for; more are not followed up."""
DISPOSABLE = frozenset({"h264", "mpeg2video", "mpeg4"})
"""Codecs whose frames, where no other depends on them, can be left out: those that follow are the same to the bit. HEVC
marks frames so on which frames of a higher layer may depend."""
AHEAD = 8
"""Packets read ahead of the decoder, from which it is known when a frame disappears."""
NEAR_SECONDS = 5.0
"""Furthest from the frame on screen that a frame is left out; stamps beyond may begin anew before."""
OPEN_SECONDS = 15.0
"""Longest wait until a URL opens."""
READ_SECONDS = 30.0
"""Longest wait for the next packet of a URL; a stream that is silent for longer is lost."""
VARIES = 0.02
"""Share by which the average rate differs from FFmpeg's guess of the rate if the rate varies; below, it is rounding."""
SLOTTED = frozenset({"avi"})
"""FFmpeg's formats without time stamps of presentation: frames appear in the order of their packets' places, and the
declared number of frames is that of the packets."""
SEEKS = "an MP4 whose index is at its end needs to be read out of order"
"""Reason why some files cannot be read from pipes and simple servers."""
OPTIONS = {
    "rtsp": {"rtsp_transport": "tcp"},
    "rtsps": {"rtsp_transport": "tcp"},
    "udp": {"overrun_nonfatal": "1", "fifo_size": "100000"},
    "http": {"reconnect": "1", "reconnect_delay_max": "5"},
    "https": {"reconnect": "1", "reconnect_delay_max": "5"},
}
"""FFmpeg's options by scheme of URL: RTSP over TCP loses no packets, UDP loses some where the machine is too slow and
goes on (19 MB of buffer), a file whose connection breaks is asked for again."""
CONTAINERS = (
    "3g2", "3gp", "asf", "avi", "dv", "flv", "gif", "h264", "hevc", "ivf", "m4a", "m4v", "matroska", "mj2", "mov",
    "mp4", "mpeg", "mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg", "rm", "webm",
)  # fmt: skip
"""FFmpeg's formats whose files hold all of their video. Playlists, lists and descriptions of sessions (hls, concat,
dash, sdp …) are none: they have FFmpeg open further files and addresses."""
CONTAINED = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file,pipe"}
"""FFmpeg's options for a file of a stranger."""
NO_VIDEOS = frozenset({"tty", "image2", "ffmetadata", "srt", "webvtt", "ass", "concat"})
"""FFmpeg's formats that are text or single images, which it would draw as a video."""


class PyAVReader(Clocked):
    """Reads a video file, stream or URL through PyAV.

    Of several video streams the best by FFmpeg's own rule is read; cover pictures are none. Sound is not decoded, but
    its time stamps give the start of the source and show whether a file is cut off.
    """

    background = True
    timed = True

    def __init__(
        self,
        source: str,
        *,
        read_seconds: float = READ_SECONDS,
        contained: bool = False,
        known_as: str | None = None,
    ) -> None:
        """Open the source.

        Args:
            source: path, URL, or "-" for standard input.
            read_seconds: longest wait for the next packet of a URL.
            contained: read a file or standard input alone, nothing that it names: for files of strangers.
            known_as: file name by which results and messages call the source; None: its own.

        Raises:
            VideoError: not found, no video in it, or a codec that FFmpeg lacks.
            MissingDependencyError: PyAV, or for object stores fsspec or the store's package, is not installed.
        """
        self._av = import_av()
        self.name, self.label = name_of(source) if known_as is None else (PurePath(known_as).stem, known_as)
        self._url = is_url(source)
        if contained and self._url:
            raise VideoError(f"{self.label}: an address, expected a file; fetch it first")
        self._contained = contained
        self._source = source
        self._file: Any = None
        self._read_seconds = read_seconds
        self._container = self._open(source, read_seconds)
        try:
            self._stream = self._choose_stream()
            size = self._stream.codec_context
            require_pixels(size.width, size.height, self.label)
        except VideoError:
            self._container.close()
            self._close_file()
            raise
        self.endless: bool | None = is_live(source) or self._is_broadcast() or (None if source == STDIN else False)
        self._codec = self._stream.codec_context
        self._codec.thread_type = "AUTO"
        if (cores := limited_cores()) is not None:  # FFmpeg counts those of the machine
            self._codec.thread_count = cores
        self._side_data = self._av.sidedata.sidedata.SideDataContainer
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        rate = self._stream.guessed_rate or self._stream.average_rate
        average = self._stream.average_rate
        varies = rate and average and abs(float(average / rate) - 1) > VARIES
        mean = average if varies else rate
        self.fps = float(mean) if mean else None
        self._start = self._start_seconds()
        self.duration = self._declared_seconds()
        self._declared = self._declared_length()
        self._tick: float = float(self._stream.time_base or Fraction(1, 1))
        restarts = bool(self._container.format.flags & self._av.format.Flags.ts_discont.value)
        self._tuned_in = restarts  # a broadcast may begin between key frames, a file begins with a picture
        self._new_clock = partial(StreamClock, self._tick, rate, self._start, restarts)
        self._clock = self._new_clock(now=time.monotonic if self.endless else None)
        count = self._stream.frames or (round(self.duration * self.fps) if self.duration and self.fps else 0)
        self.count: int | None = count or None
        self._decoded = self._refused = 0
        self._last_packet = -np.inf
        self._last_byte = 0
        self._demuxed = 0
        self._undecoded: list[int] = []
        self._latest: int | None = None
        self._skipped = 0.0
        self._slots: deque[int] = deque()
        self._has_slots = self._container.format.name in SLOTTED
        self._broken = ""
        self._frame: Any = None
        self._coming: Any = None
        self._left_out: deque[tuple[int, int | None]] = deque()
        self._unneeded: dict[int, int | None] = {}
        self._is_needed: Callable[[float, float], bool] | None = None
        self._leaving_out = False
        self._frames = self._decode()

    @property
    def start_stamp(self) -> float:
        """Time stamp, in seconds, of the moment in the file from which times count."""
        return self._start

    @property
    def stream_index(self) -> int:
        """Index in the file of the stream that is read."""
        return int(self._stream.index)

    @property
    def container_name(self) -> str:
        """FFmpeg's names of the container, such as "mov,mp4,m4a,3gp,3g2,mj2"."""
        return str(self._container.format.name)

    @property
    def restarts(self) -> int:
        """Number of times that the time stamps began anew, as those of a camera that restarts under one connection."""
        return self._clock.times_restarted

    def skip(self, is_needed: Callable[[float, float], bool]) -> None:
        """See `SkippingReader`; only files on disk are read ahead, and so know what can be left out."""
        on_disk = not self._url and self._source != STDIN and self.endless is False
        if on_disk and not self._has_slots and self._codec.name in DISPOSABLE:
            self._is_needed = is_needed

    def grab(self) -> bool:
        """See `Reader`."""
        if self._coming is None and not self._left_out:
            self._coming = next(self._frames, None)
            if self._coming is None:  # the end
                self._left_out.extend(sorted(self._unneeded.items()))
                self._unneeded.clear()
            else:
                stamp = self._slots.popleft() if self._slots else self._coming.pts
                self._note_skipped(stamp)
                self._coming = self._coming, stamp
        if self._left_out:
            self._decoded += 1
            self._clock.advance(*self._left_out.popleft())
            return True
        if self._coming is None:
            self._frame = None
            return False
        (self._frame, stamp), self._coming = self._coming, None
        self._decoded += 1
        self._clock.advance(stamp, self._frame.duration)
        if self._frame.interlaced_frame:  # its two halves may be packets of their own
            self._is_needed = None
        return True

    def _note_skipped(self, stamp: int | None) -> None:
        """Count the seconds between the last frame and this one as skipped if there were packets for them.

        Where a key frame is damaged, decoders leave out all frames that depend on it without an error. Frames that were
        left out on purpose are not counted, but given out before this one.
        """
        skipped = False
        while self._undecoded and (stamp is None or self._undecoded[0] <= stamp):
            found = heapq.heappop(self._undecoded)
            unneeded = found in self._unneeded
            duration = self._unneeded.pop(found, None)
            if found != stamp and unneeded:
                self._left_out.append((found, duration))
            skipped |= found != stamp and not unneeded
        if stamp is None:
            return
        if skipped and self._latest is not None:
            gap = (stamp - self._latest) * self._tick - 1 / (self.fps or 1.0)
            self._skipped += gap if 0 < gap <= LONGEST_GAP_SECONDS else 0.0
        self._latest = stamp

    def hold(self) -> Picture:
        """See `Reader`."""
        frame = self._frame
        return lambda: self._convert(frame)

    def shortfall(self) -> str | None:
        """See `Reader`."""
        if self._decoded == 0:
            if self._source == STDIN and self._broken and self._is_mp4():
                return f"no frame can be read ({SEEKS}); give the file itself, or write it with -movflags +faststart"
            return f"no frame could be decoded ({self._broken or self._codec.name}); the file is empty or damaged"
        if is_cut(self._skipped, self._clock.end):
            return f"frames of {self._skipped:.1f} s cannot be decoded; the file is damaged"
        rate = self.fps or 1.0
        if is_cut(self._refused / rate, (self._refused + self._decoded) / rate):
            return f"{self._refused} of {self._refused + self._decoded} frames cannot be decoded; the file is damaged"
        lost = self.count - self._demuxed if self.count and self._has_slots else 0
        if is_cut(lost / rate, (self.count or 0) / rate):
            return f"holds {self._demuxed} of the {self.count} frames that it declares; the file is cut off or damaged"
        if self._declared is None:
            return None
        declared, origin = self._declared
        missing = declared - (self._last_packet - origin)
        if not is_cut(missing, declared):
            return None
        return (
            f"ends after {declared - missing:.1f} s of the {declared:.1f} s that it declares; "
            "the file is cut off or damaged"
        )

    def close(self) -> None:
        """See `Reader`."""
        self._frames.close()
        self._container.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            with suppress(Exception):  # of the store, which has nothing more to give
                self._file.close()

    def scan(self) -> tuple[int, float] | None:
        """See `Reader`; reads the packets alone and decodes nothing."""
        if self._source == STDIN or self.endless or self._file is not None:
            return None
        count, clock = 0, self._new_clock()
        with self._open(self._source, READ_SECONDS) as container:
            stream = container.streams[self._stream.index]
            with suppress(self._av.error.FFmpegError):  # what can be read is what will be decoded
                for packet in container.demux(stream):
                    if packet.size and not packet.is_discard:
                        count += 1
                        unordered = self._has_slots or packet.pts is None
                        clock.advance(packet.dts if unordered else packet.pts, packet.duration)
        return count, clock.end

    def _open(self, source: str, read_seconds: float) -> InputContainer:
        errors = self._av.error
        target: Any = url_for_ffmpeg(source)
        options = CONTAINED if self._contained else OPTIONS.get(scheme_of(source), {}) if self._url else {}
        timeout = (OPEN_SECONDS, read_seconds) if self._url else None
        if is_remote(source):
            self._file = target = _open_remote(source, self.label)
            timeout = None
        try:
            container: InputContainer = _in_thread(
                partial(self._av.open, target, options=options, timeout=timeout, metadata_errors="replace")
            )
        except (errors.FFmpegError, ValueError, OSError) as error:
            raise VideoError(f"{self.label}: {self._explain(error)}") from None
        return container

    def _explain(self, error: Exception) -> str:
        if self._contained and isinstance(error, self._av.error.ArgumentError):
            return "a playlist, an image or another file that is no container of video; expected an MP4, WebM or MKV"
        if self._url and isinstance(error, self._av.error.InvalidDataError):
            return "the server answers with what is no video that FFmpeg can open; check the address"
        if self._url:
            silent = isinstance(error, self._av.error.ExitError)  # PyAV's own interrupt
            reason = f"no data for {OPEN_SECONDS:g} s" if silent else getattr(error, "strerror", None) or error
            return f"cannot be opened ({reason}); check the address and that the server runs"
        if isinstance(error, self._av.error.InvalidDataError):
            return "not a video that FFmpeg can open (unknown format, or cut off); try to play it, or convert it"
        return f"cannot be opened ({getattr(error, 'strerror', None) or error})"

    def _choose_stream(self) -> av.VideoStream:
        container = self._container
        form = container.format.name
        if form in NO_VIDEOS or form.endswith("_pipe"):
            what = (
                "a single image, or images without a container"
                if form.endswith("_pipe") or form == "image2"
                else "a text"
            )
            raise VideoError(
                f"{self.label}: {what}, no video; expected a video file, a folder of images, or @list.txt for a list"
            )
        no_video = self._av.stream.Disposition.attached_pic | self._av.stream.Disposition.timed_thumbnails
        moving = [stream for stream in container.streams.video if not stream.disposition & no_video]
        if not moving:
            pictures = " and a cover picture" if container.streams.video else ""
            found = f"sound{pictures}" if container.streams.audio else "no picture"
            raise VideoError(f"{self.label}: holds {found}, no video; expected a video")
        known = [stream for stream in moving if stream.codec_context is not None]
        if not known:
            tag = self._codec_tag()
            raise VideoError(
                f"{self.label}: its codec ({tag}) is none that FFmpeg's build knows; convert it with ffmpeg"
            )
        rich = [stream for stream in known if stream.frames != 1 and stream.codec_context.name not in ("mjpeg", "png")]
        best = container.streams.best("video")
        among = rich or known
        return best if best in among else max(among, key=lambda s: s.codec_context.width * s.codec_context.height)

    def _codec_tag(self) -> str:
        """Return the four letters by which the container calls a codec that FFmpeg does not know."""
        container: Any = self._container  # whose stubs lack the description
        level = self._av.logging.get_level()
        self._av.logging.set_level(self._av.logging.INFO)  # the description is a message
        try:
            named = re.search(r"Video: \S+ \((\S+)", container.dumps_format())
        finally:
            self._av.logging.set_level(level)
        return named[1] if named else "unnamed"

    def _is_mp4(self) -> bool:
        return "mp4" in self._container.format.name.split(",")

    def _is_broadcast(self) -> bool:
        """Return whether a web address declares neither seconds nor bytes, as a camera's does."""
        return (
            self._url
            and scheme_of(self._source).startswith("http")
            and not self._container.duration
            and not self._stream.duration
            and self._container.size <= 0
            and self._container.format.name != "hls"
        )

    def _start_seconds(self) -> float:
        """Return the time stamp, in seconds, of the moment that a player calls 0."""
        starts = [_seconds(self._stream, self._stream.start_time)]
        for stream in self._container.streams.audio:
            start = _seconds(stream, stream.start_time)
            starts.append(0.0 if start is not None and -PRIMING_SECONDS <= start < 0 else start)
        known = [start for start in starts if start is not None]
        return min(known, default=0.0)

    def _declared_seconds(self) -> float | None:
        """Return the declared end of the picture on a player's clock, or that of the container if it has none."""
        length = _seconds(self._stream, self._stream.duration)
        first = _seconds(self._stream, self._stream.start_time)
        if length is not None and first is not None:
            return first - self._start + length
        whole = self._declared_length()
        return None if whole is None else whole[0] + whole[1] - self._start

    def _declared_length(self) -> tuple[float, float] | None:
        """Return the declared length of the whole container in seconds and the stamp from which it counts."""
        if self.endless or not self._container.duration:
            return None
        from_zero = "matroska" in self._container.format.name
        origin = min(0.0, self._start) if from_zero else self._start
        return self._container.duration / float(self._av.time_base), origin

    def _decode(self) -> Generator[Any, None, None]:
        """Yield decoded frames; packets that cannot be decoded are left out and counted."""
        for packet, ahead in self._with_next():
            if packet.size:
                self._demuxed += 1
                self._choose(packet, ahead)
                if packet.pts is not None and not packet.is_discard and len(self._undecoded) < MAX_UNDECODED:
                    heapq.heappush(self._undecoded, packet.pts)
                    if self._demuxed == 1 and not self._tuned_in:
                        self._latest = packet.pts - round(1 / (self.fps or 1.0) / self._tick)
                if self._has_slots and packet.dts is not None:
                    self._slots.append(packet.dts)
            try:
                yield from packet.decode()
            except self._av.error.EOFError:  # an empty packet in mid-file has ended the decoding
                self._refused += bool(packet.size)
            except self._av.error.InvalidDataError as error:
                self._refused += 1
                if self._slots:
                    self._slots.pop()
                self._broken = str(error.strerror)
            except self._av.error.FFmpegError as error:
                raise VideoError(
                    f"{self.label}: cannot be decoded ({error.strerror}); convert it with ffmpeg"
                ) from None

    def _with_next(self) -> Iterator[tuple[Any, Sequence[Any]]]:
        """Yield each packet with those that follow it, as far as they were read; an error comes after its packets."""
        ahead: deque[Any] = deque()
        packets, failure = self._packets(), None
        more = True
        while more or ahead:
            while more and len(ahead) <= (AHEAD if self._is_needed is not None else 0):
                try:
                    ahead.append(next(packets))
                except StopIteration:
                    more = False
                except VideoError as error:
                    more, failure = False, error
            if ahead:
                packet = ahead.popleft()
                yield packet, ahead
        if failure is not None:
            raise failure

    def _choose(self, packet: Any, ahead: Sequence[Any]) -> None:
        """Have the decoder leave out the frame of a packet if it is not needed and no other frame depends on it.

        The frame is on screen at most until the next stamp that is known.
        """
        leave_out = False
        if self._is_needed is not None and packet.pts is not None and not packet.is_discard:
            later = [other.pts for other in ahead if other.pts is not None and other.pts > packet.pts]
            later += [stamp for stamp in self._undecoded if stamp > packet.pts]
            time = self._clock.foresee(packet.pts)
            until = self._clock.foresee(min(later)) if later else None
            if time is not None and until is not None and self._clock.time < time < until:
                near = until < self._clock.time + NEAR_SECONDS
                leave_out = near and not self._is_needed(time, until)
        if leave_out and len(self._undecoded) < MAX_UNDECODED:
            self._unneeded[packet.pts] = packet.duration
        if leave_out != self._leaving_out:
            self._leaving_out = leave_out
            self._codec.skip_frame = "NONREF" if leave_out else "DEFAULT"

    def _packets(self) -> Iterator[Any]:
        """Yield the packets of the video stream, the last one empty, and note where the streams end."""
        errors = self._av.error
        streams = [self._stream, *self._container.streams.audio]
        packets = self._container.demux(streams)
        while True:
            try:
                packet = next(packets, None)
            except (errors.FFmpegError, OSError) as error:
                if self._url and self._decoded and self._declared and self.shortfall() is None:
                    break  # a server that says nothing of the length ends with an error
                silent = isinstance(error, errors.ExitError)  # PyAV's own interrupt
                if not self._decoded and scheme_of(self._source).startswith("http") and self._is_mp4() and not silent:
                    raise VideoError(
                        f"{self.label}: cannot be read ({error.strerror or error}); {SEEKS}, and the server may "
                        "take no ranges; download the file, or have it written with -movflags +faststart"
                    ) from None
                if self._url:
                    reason = f"no data for {self._read_seconds:g} s" if silent else error.strerror or error
                    raise SourceLostError(f"{self.label}: the stream broke off ({reason})") from None
                self._broken = str(error.strerror)
                packet = None
            except IndexError:  # a stream that begins in mid-file, which PyAV does not know
                packets = self._container.demux(streams)
                continue
            except Exception as error:
                if self._file is None:
                    raise
                raise SourceLostError(f"{self.label}: cannot be read on ({_first_line(error)})") from None
            if packet is None:
                break
            stamp = packet.dts if packet.pts is None else packet.pts
            if stamp is not None:
                last = (stamp + (packet.duration or 0)) * float(packet.time_base)
                self._last_packet = max(self._last_packet, last)
            self._last_byte = max(self._last_byte, (packet.pos or 0) + packet.size)
            if packet.stream.index == self._stream.index:  # the empty packet has no stream_index
                yield packet
        if self.endless:
            raise SourceLostError(f"{self.label}: the stream ended or broke off; a live source has no end")
        size = self._container.size if self._url and self._container.format.name == "mpegts" else 0
        if self._last_byte < (1 - CUT_SHARE) * size:
            raise SourceLostError(f"{self.label}: the stream broke off after {self._last_byte} of {size} bytes")

    def _convert(self, frame: Any) -> Frame:
        """Convert a frame to RGB, turned as the display matrix says."""
        rgb: Frame = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        # `frame.side_data` keeps itself in the frame, and so hundreds of pictures until the garbage collector runs
        matrix = self._side_data(frame).get("DISPLAYMATRIX")
        return rgb if matrix is None else _turn(rgb, bytes(matrix))


def _in_thread(work: Callable[[], T]) -> T:
    """Return what a function returns or raises, from a thread, so that Ctrl-C need not wait for a silent server.

    Only the main thread gets Ctrl-C. In others the function runs as it is, since memory that a thread has taken for the
    buffers of a stream is kept for it when the stream is closed.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    done: Queue[tuple[T | None, BaseException | None]] = Queue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    threading.Thread(target=run, name=f"{READING}open", daemon=True).start()
    while True:
        with suppress(Empty):
            found, error = done.get(timeout=0.2)
            if error is not None:
                raise error
            return found  # type: ignore[return-value]  # None only beside an error


def import_av() -> Any:
    """Import PyAV with the modules of it that are used (MissingDependencyError: it is not installed)."""
    try:
        import av
        import av.logging
        import av.sidedata.sidedata
        import av.video.reformatter
    except ImportError as error:
        raise import_failure(error, "av", "", "reading videos through PyAV") from None
    return av


def _open_remote(source: str, label: str) -> Any:
    filesystem, path = open_store(source, f"reading {label}")
    try:
        return filesystem.open(path, "rb")
    except Exception as error:  # each store has errors of its own
        text = "not found" if isinstance(error, FileNotFoundError) else _first_line(error)
        raise VideoError(f"{label}: cannot be opened ({text}); check the address and the access") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _seconds(stream: Any, ticks: int | None) -> float | None:
    return None if ticks is None else ticks * float(stream.time_base)


def _turn(rgb: Frame, matrix: bytes) -> Frame:
    """Turn and mirror a frame by a display matrix, nine 16.16 numbers of which a, b, c, d rotate; to the next 90°."""
    a, b, _, c, d = (value / (1 << 16) for value in struct.unpack("=5i", matrix[:20]))
    if abs(a) + abs(d) < abs(b) + abs(c):
        rgb = rgb.swapaxes(0, 1)
        flip_x, flip_y = c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    rgb = rgb[:, ::-1] if flip_x else rgb
    rgb = rgb[::-1] if flip_y else rgb
    return np.ascontiguousarray(rgb)
