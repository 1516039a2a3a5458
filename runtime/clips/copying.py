"""Copy parts of a video without encoding anew: from the key frame before the start, with all sound.

Decoding can begin at key frames alone, so a copied part begins at the last one before its start. It ends with the last
frame that appears before its end; frames behind, on which those depend, are kept, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

from runtime.errors import VideoError
from runtime.video.readers.clock import LONGEST_GAP_SECONDS, RESTART_SECONDS
from runtime.video.readers.pyav import SLOTTED, PyAVReader, import_av
from runtime.video.sources import url_for_ffmpeg

CONTAINERS = {".mp4": ".mp4", ".m4v": ".mp4", ".mov": ".mov", ".webm": ".webm"}
"""Suffix of a clip by that of its video; .mkv for others, since it holds every codec and the mark, as TS does not."""
NEAR_S = 0.002
"""Seconds by which a time may lie beside the frame that is meant: tools round to milliseconds."""
AHEAD_S = 2.0
"""Seconds by which sound may lie before its picture in a file, or behind."""
CANNOT = "so its packets cannot be cut as they are; give --exact"


@dataclass(frozen=True)
class KeyFrame:
    """Holds a frame at which decoding can begin."""

    time_s: float
    """Time in seconds from the start of the video."""
    stamp: int
    """Time stamp in the file, in ticks of its stream."""


@dataclass(frozen=True)
class PacketIndex:
    """Holds where a video can be cut, from one reading of its packets."""

    path: Path
    start_stamp_s: float
    """Time stamp, in seconds, of the start of the video."""
    stream: int
    """Index of the stream of the picture."""
    keys: tuple[KeyFrame, ...]
    end_s: float
    """Time at which the last frame disappears."""

    @property
    def suffix(self) -> str:
        """Suffix of its clips."""
        return CONTAINERS.get(self.path.suffix.lower(), ".mkv")

    def key_before(self, time_s: float) -> KeyFrame:
        """Return the last key frame at or before a time; before the first one, that."""
        before = [key for key in self.keys if key.time_s <= time_s + NEAR_S]
        return before[-1] if before else self.keys[0]


def index_packets(path: Path) -> PacketIndex:
    """Read the packets of a video and return where it can be cut.

    Raises:
        VideoError: the video cannot be read, has no time stamps of presentation, or they begin anew in it.
    """
    av = import_av()
    with closing(PyAVReader(str(path))) as reader:
        start, stream_index = reader.start_stamp, reader.stream_index
    keys: list[KeyFrame] = []
    latest = end = -1.0
    with av.open(url_for_ffmpeg(str(path)), metadata_errors="replace") as container:
        stream = container.streams[stream_index]
        tick = float(stream.time_base)
        if container.format.name in SLOTTED and stream.codec_context.has_b_frames:
            raise VideoError(f"{path}: has no time stamps of presentation, {CANNOT}")
        usual = 1 / float(stream.average_rate) if stream.average_rate else 0.0
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                if packet.pts is None:
                    raise VideoError(f"{path}: has no time stamps of presentation, {CANNOT}")
                time = packet.pts * tick - start
                if latest >= 0 and not -RESTART_SECONDS <= time - latest <= LONGEST_GAP_SECONDS:
                    raise VideoError(f"{path}: its time stamps begin anew at {latest:.1f} s, {CANNOT}")
                latest = max(latest, time)
                end = max(end, time + (packet.duration * tick if packet.duration else usual))
                if packet.is_keyframe:
                    keys.append(KeyFrame(time, packet.pts))
        except av.error.FFmpegError as error:
            if not keys:
                raise VideoError(f"{path}: cannot be read ({error.strerror})") from None
    if not keys:
        raise VideoError(f"{path}: has no key frame, {CANNOT}")
    return PacketIndex(path, start, stream_index, tuple(sorted(keys, key=lambda key: key.time_s)), end)


class CopyWriter:
    """Writes parts of one video, or of several with the same codecs, one behind the other into a file."""

    def __init__(self, target: Path, metadata: Mapping[str, str]) -> None:
        """Open the file, whose format is that of its suffix."""
        self._av = import_av()
        self._target = target
        options = {"movflags": "+faststart"} if target.suffix in (".mp4", ".mov") else {}
        self._output = self._av.open(f"file:{target}", "w", options=options)
        self._output.metadata.update(metadata)
        self._streams: list[Any] = []
        self._made_of: list[tuple[Any, ...]] = []
        self._position = Fraction(0)
        self._latest: dict[int, Fraction] = {}

    def add(self, index: PacketIndex, start_s: float, end_s: float) -> float:
        """Copy a part and return by how many seconds it begins before `start_s`.

        Raises:
            VideoError: the video cannot be read, its codecs are none that the format holds, or differ from those of the
                parts before.
        """
        key = index.key_before(start_s)
        errors = self._av.error
        try:
            with self._av.open(url_for_ffmpeg(str(index.path)), metadata_errors="replace") as container:
                picture = container.streams[index.stream]
                streams = [picture, *container.streams.audio]
                self._prepare(streams, index.path)
                self._copy(container, streams, index, key, end_s)
        except (errors.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise VideoError(
                f"{index.path}: cannot be copied to {self._target.suffix} ({reason}); give --exact"
            ) from None
        return max(start_s - key.time_s, 0.0)

    def _prepare(self, streams: list[Any], path: Path) -> None:
        """Make the streams of the file after those of the first part; check that those of others are alike."""
        made_of = [_describe(stream) for stream in streams]
        if not self._streams:
            self._streams = [self._output.add_stream_from_template(stream, opaque=True) for stream in streams]
            self._made_of = made_of
        elif made_of != self._made_of:
            raise VideoError(f"{path}: is coded otherwise than the videos before it in the reel; give --exact")

    def _copy(self, container: Any, streams: list[Any], index: PacketIndex, key: KeyFrame, end_s: float) -> None:
        """Copy the packets from a key frame to a time, shifted to where the file ends now."""
        picture = streams[0]
        tick = Fraction(picture.time_base)
        key_s = key.stamp * tick
        end = Fraction(index.start_stamp_s + end_s - NEAR_S)
        shift: Fraction | None = None
        early: list[Any] = []
        finish = self._position
        for packet in self._packets(container, streams, index, key, end):
            if shift is None:
                if packet.stream.index != picture.index:
                    early.append(packet)
                    continue
                delay = (packet.pts - packet.dts) * tick if packet.dts is not None else Fraction(0)
                behind = self._latest.get(0)  # time stamps of decoding must rise
                begin = self._position if behind is None else max(self._position, behind + delay + tick)
                shift = key_s - begin
                for sound in early:
                    finish = max(finish, self._write(sound, streams, shift, key_s, end))
            finish = max(finish, self._write(packet, streams, shift, key_s, end))
        self._position = finish

    def _write(self, packet: Any, streams: list[Any], shift: Fraction, begin: Fraction, end: Fraction) -> Fraction:
        """Write a packet and return the time at which it ends in the file; sound outside the part is left out."""
        number = next(n for n, stream in enumerate(streams) if stream.index == packet.stream.index)
        tick = Fraction(packet.time_base)
        stamp = packet.pts if packet.pts is not None else packet.dts
        if number and (stamp is None or not begin <= stamp * tick < end):
            return Fraction(0)
        ticks = round(shift / tick)
        packet.pts = stamp - ticks
        packet.dts = None if packet.dts is None else packet.dts - ticks
        decode = (packet.pts if packet.dts is None else packet.dts) * tick
        if number and decode <= self._latest.get(number, decode - 1):
            return Fraction(0)
        self._latest[number] = decode
        finish: Fraction = (packet.pts + (packet.duration or 0)) * tick if not number else Fraction(0)
        packet.stream = self._streams[number]
        self._output.mux(packet)
        return finish

    def _packets(
        self, container: Any, streams: list[Any], index: PacketIndex, key: KeyFrame, end: Fraction
    ) -> Iterator[Any]:
        """Yield the packets of a part in the order of the file, those of the picture from its key frame on.

        Frames that are shown before the key frame and stand behind it depend on frames before it and are left out.
        """
        picture = streams[0]
        behind: list[Any] = []
        begun, done = False, set[int]()
        for packet in self._after_seek(container, streams, index, key):
            if not packet.size:
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            moment = None if stamp is None else stamp * Fraction(packet.time_base)
            decode = moment if packet.dts is None else packet.dts * Fraction(packet.time_base)
            if packet.stream.index != picture.index:
                if moment is not None and moment >= end:
                    done.add(packet.stream.index)
                else:
                    yield packet
            else:
                begun = begun or (packet.pts == key.stamp and packet.is_keyframe)
                if not begun or packet.pts is None or packet.pts < key.stamp:
                    continue
                assert moment is not None
                assert decode is not None
                if decode >= end:
                    done.add(packet.stream.index)
                elif moment >= end:
                    behind.append(packet)
                else:
                    yield from behind
                    behind = []
                    yield packet
                if decode >= end + Fraction(AHEAD_S):
                    return
            if len(done) == len(streams):
                return

    def _after_seek(self, container: Any, streams: list[Any], index: PacketIndex, key: KeyFrame) -> Iterator[Any]:
        """Yield packets from before a key frame on; from the start of the file where it cannot be jumped into."""
        picture = streams[0]
        before = key.stamp - round(Fraction(AHEAD_S) / Fraction(picture.time_base))
        try:
            container.seek(before, stream=picture, backward=True)
            ahead = []
            for packet in (packets := container.demux(streams)):
                ahead.append(packet)
                if packet.size and packet.stream.index == picture.index:
                    break
            if ahead and (ahead[-1].pts is None or ahead[-1].pts <= key.stamp):
                yield from ahead
                yield from packets
                return
        except (self._av.error.FFmpegError, OSError):
            pass
        with self._av.open(url_for_ffmpeg(str(index.path)), metadata_errors="replace") as again:
            yield from again.demux([again.streams[stream.index] for stream in streams])

    def __enter__(self) -> CopyWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file (VideoError: it cannot be finished)."""
        try:
            self._output.close()
        except (self._av.error.FFmpegError, ValueError) as problem:
            if error is None:
                raise VideoError(f"{self._target}: cannot be written ({problem})") from None


def _describe(stream: Any) -> tuple[Any, ...]:
    """Return what must be alike in streams that are joined."""
    context = stream.codec_context
    if context is None:
        return (stream.type, None)
    shape = (
        (context.width, context.height, context.pix_fmt)
        if stream.type == "video"
        else (context.sample_rate, context.channels)
    )
    return (stream.type, context.name, *shape, bytes(context.extradata or b""))
