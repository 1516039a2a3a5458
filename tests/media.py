"""Make small files of every kind that people keep videos in, and say what FFmpeg shows of each, and when.

Every frame carries its own number, so a test can say which frame it was given. The truth beside a file comes from the
`ffmpeg` program itself, not from a Python library that the project reads videos with.
"""

from __future__ import annotations

import functools
import json
import random
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

WIDTH, HEIGHT = 192, 48
CELLS = 12
"""Columns of a frame: one light, one that reads 1, `BITS` of the number, one dark."""
BITS = CELLS - 3
LIGHT, DARK = (255, 240, 200), (40, 0, 60)
STRIP = (
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)),
    *((255, 128, 0), (0, 0, 0), (64, 64, 64), (128, 128, 128), (192, 192, 192), (255, 255, 255)),
)
"""Colours of the middle third, RGB, a column each: errors of range, matrix and channel order change them."""


@dataclass(frozen=True)
class Recipe:
    """The way to make one file."""

    commands: tuple[str, ...]
    """Arguments of ffmpeg, a run each; the file is what all runs write, joined. In them {frames} stands for the file of
    raw frames, {of} for the file that `of` names, {out} for the output; a run that ends in "-" writes to a pipe."""
    of: str = ""
    """Key of the recipe whose file is read as {of}."""
    change: Callable[[bytes], bytes] = bytes
    """Function from the bytes that ffmpeg wrote to those of the file."""
    stream: str = "V:0"
    """The stream that a player shows, as ffmpeg writes it: the first that is not a cover."""
    shown: bool = True
    """Whether ffmpeg says what is shown when: not of files without frames, nor of joined ones, whose stamps restart."""


@dataclass(frozen=True)
class Truth:
    """What ffmpeg shows of a file; times are in seconds after the first moment of picture or sound."""

    times: tuple[Fraction, ...]
    """Time stamp of every frame, in the order shown."""
    numbers: tuple[int, ...]
    """Number that every frame carries; −1 where it cannot be read."""
    end: Fraction
    """Time at which the last frame goes, by the duration that the file states; its stamp if it states none."""
    start: Fraction
    """Time stamp, in the file, of the first moment of picture or sound."""

    def on_screen(self, time: Fraction) -> int:
        """Return the number of the frame on screen just before `time`; before the picture begins, the first one's."""
        shown = [number for stamp, number in zip(self.times, self.numbers, strict=True) if stamp < time]
        return shown[-1] if shown else self.numbers[0]


@dataclass(frozen=True)
class Media:
    """A file and what ffmpeg shows of it."""

    path: Path
    truth: Truth | None
    """None where ffmpeg does not say it (see `Recipe.shown`)."""


def draw(number: int) -> NDArray[np.uint8]:
    """Return a frame, RGB [HEIGHT,WIDTH,3], that carries a number: 1 is light over dark, 0 is dark over light."""
    upper = [LIGHT, LIGHT, *(LIGHT if number >> bit & 1 else DARK for bit in range(BITS)), DARK]
    lower = [LIGHT, DARK, *(DARK if number >> bit & 1 else LIGHT for bit in range(BITS)), DARK]
    return np.array([upper, STRIP, lower], np.uint8).repeat(HEIGHT // 3, 0).repeat(WIDTH // CELLS, 1)


def read_number(image: NDArray[np.uint8]) -> int:
    """Return the number that a frame of any size carries, grey [H,W] or RGB [H,W,3].

    Raises:
        ValueError: the frame is turned, mirrored, or too damaged to read.
    """
    grey = image.astype(np.float64)
    grey = grey.mean(axis=2) if grey.ndim == 3 else grey
    height, width = grey.shape
    columns = [slice(round((c + 0.3) * width / CELLS), round((c + 0.7) * width / CELLS)) for c in range(CELLS)]
    rows = [slice(round(part * height), round((part + 0.16) * height)) for part in (0.08, 0.76)]
    upper, lower = ([float(grey[row, column].mean()) for column in columns] for row in rows)
    contrasts = [above - below for above, below in zip(upper, lower, strict=True)]
    light, dark = min(upper[0], lower[0]), max(upper[-1], lower[-1])
    if light - dark < 80 or min(map(abs, contrasts[1:-1])) < 60 or contrasts[1] < 0:
        raise ValueError("got a frame without a readable number, expected one of `draw`, upright and not mirrored")
    return sum((contrast > 0) << bit for bit, contrast in enumerate(contrasts[2:-1]))


def _raw(fps: str, first: float = 0) -> str:
    """Return the arguments that read the numbered frames at a rate, from `first` seconds on."""
    skip = f"-ss {first} " if first else ""
    return f"-f rawvideo -pixel_format rgb24 -video_size {WIDTH}x{HEIGHT} -framerate {fps} {skip}-i {{frames}}"


def _sound(seconds: float) -> str:
    return f"-f lavfi -i sine=440:sample_rate=44100:duration={seconds}"


H264 = "-c:v libx264 -preset veryfast -bf 2 -g 30 -crf 16 -pix_fmt yuv420p"
MPEG4 = "-c:v mpeg4 -q:v 3 -g 15 -pix_fmt yuv420p"
VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -crf 20 -b:v 0"
SHOWN = "-fps_mode passthrough -enc_time_base 1:90000"
"""Every frame at the stamp that a filter gave it."""
R30 = _raw("30")
TS_PACKET = 188
"""Bytes of a packet of an MPEG transport stream."""
COVER = f"-t 1 {_raw('1', 400)}"
"""One frame that is not part of the video."""


def _one(arguments: str, **options: object) -> Recipe:
    return Recipe((f"{arguments} {{out}}",), **options)  # type: ignore[arg-type]


def _copy(of: str, before: str = "", after: str = "", **options: object) -> Recipe:
    """Return the recipe that copies the packets of another file."""
    return _one(f"{before} -i {{of}} -c copy {after}", of=of, **options)


def _stamped(expression: str, count: int, after: str = H264) -> Recipe:
    """Return the recipe of a file whose frame N is shown at a time in seconds."""
    return _one(f"{R30} -vf \"settb=1/90000,setpts='floor(({expression})/TB+0.5)'\" {SHOWN} {after} -frames:v {count}")


def _cut(data: bytes) -> bytes:
    """Keep the first 60 %, as a copy that was broken off does."""
    return data[: len(data) * 6 // 10]


def _tune_in(data: bytes) -> bytes:
    """Leave out the first quarter of a transport stream, as a recording that starts in the middle of a broadcast."""
    return data[len(data) // 4 // TS_PACKET * TS_PACKET :]


def _damage(data: bytes) -> bytes:
    """Overwrite a tenth of the file, in its middle, with noise."""
    at, length = len(data) * 45 // 100, len(data) // 10
    return data[:at] + random.Random(0).randbytes(length) + data[at + length :]


RATES = {
    **{"1": "1", "10": "10", "23.976": "24000/1001", "25": "25", "29.97": "30000/1001", "30": "30"},
    **{"59.94": "60000/1001", "120": "120"},
}

MEDIA: dict[str, Recipe] = {
    # Constant rates, three seconds each; at 1 fps five.
    **{
        f"rate_{name}.mp4": _one(f"{_raw(rate)} {H264} -frames:v {max(round(3 * float(Fraction(rate))), 5)}")
        for name, rate in RATES.items()
    },
    # Variable rates.
    "variable_30_then_10.mp4": _stamped("if(lt(N,45),N/30,1.5+(N-45)/10)", 60),
    "variable_10_then_30.mkv": _stamped("if(lt(N,15),N/10,1.5+(N-15)/30)", 60),
    "variable_jitter.mkv": _stamped("(N+0.9*random(0))/30", 90),
    "variable_jitter.mp4": _stamped("(N+0.9*random(0))/30", 90),
    "variable_hold.mp4": _stamped("N/30+if(gt(N,20),2,0)", 60),
    "variable_hold_late.mp4": _stamped("N/30+if(gt(N,57),2,0)", 60),
    "variable_hold_late.mkv": _stamped("N/30+if(gt(N,57),2,0)", 60),
    "variable_hold_late.ts": _stamped("N/30+if(gt(N,57),2,0)", 60),
    "variable_webm.webm": _stamped("(N+0.9*random(0))/30", 60, VP9),
    # First stamps that are not 0.
    "starts_at_4.mkv": _one(f"{R30} {H264} -frames:v 75 -output_ts_offset 4"),
    "starts_at_1.4.ts": _one(f"{R30} {_sound(2.5)} {H264} -c:a aac -frames:v 75"),
    "starts_at_10_hours.ts": _one(f"{R30} {H264} -frames:v 75 -output_ts_offset 36000"),
    "stamps_wrap.ts": _one(f"{R30} {H264} -frames:v 75 -output_ts_offset 95441"),
    "starts_below_0.mkv": _one(f"{R30} {MPEG4} -frames:v 75 -output_ts_offset -0.5 -avoid_negative_ts disabled"),
    "starts_below_0.mp4": _one(f"{R30} {MPEG4} -frames:v 75 -output_ts_offset -0.5 -avoid_negative_ts disabled"),
    # Recording paused for five seconds, and frames that share their stamps.
    "gap.ts": _stamped("N/30+if(gte(N,30),5,0)", 60),
    "gap.mkv": _stamped("N/30+if(gte(N,30),5,0)", 60),
    "gap_of_20_s.ts": _stamped("N/30+if(gte(N,30),20,0)", 60),
    "same_stamps.mkv": _copy("rate_mjpeg.mkv", after="-bsf:v setts=ts='floor(N/3)*0.1/TB'"),
    "rate_mjpeg.mkv": _one(f"{R30} -c:v mjpeg -q:v 3 -pix_fmt yuvj420p -frames:v 60"),
    # Edit lists: cut without coding anew, between key frames.
    "long.mp4": _one(f"{R30} {_sound(5)} {H264} -g 60 -c:a aac -frames:v 150"),
    "trimmed.mp4": _copy("long.mp4", before="-ss 2.5"),
    "trimmed.mov": _copy("long.mp4", before="-ss 2.5"),
    "trimmed_both_ends.mp4": _copy("long.mp4", before="-ss 1.37", after="-t 2.2"),
    "trimmed_picture_only.mp4": _copy("long.mp4", before="-ss 2.5", after="-an"),
    # Pictures and sounds that begin or end apart.
    "picture_later.mkv": _one(f"-itsoffset 1.03 {R30} {_sound(3)} {H264} -c:a aac -frames:v 60"),
    "picture_later.mp4": _one(f"-itsoffset 1.03 {R30} {_sound(3)} {H264} -c:a aac -frames:v 60"),
    "picture_later.ts": _one(f"-itsoffset 1.03 {R30} {_sound(3)} {H264} -c:a aac -frames:v 60"),
    **{f"sound_longer.{s}": _one(f"{R30} {_sound(4)} {H264} -c:a aac -frames:v 60") for s in ("mkv", "ts", "mp4")},
    "sound_later.mkv": _one(f"{R30} -itsoffset 1 {_sound(2)} {H264} -c:a aac -frames:v 60"),
    "sound_later.mp4": _one(f"{R30} -itsoffset 1 {_sound(2)} {H264} -c:a aac -frames:v 60"),
    "sound_first_stream.mp4": _one(f"{R30} {_sound(2)} -map 1 -map 0 {H264} -c:a aac -frames:v 60"),
    # Containers.
    **{f"container.{suffix}": _one(f"{R30} {H264} -frames:v 60") for suffix in ("mov", "mkv", "ts", "avi", "flv")},
    "mpeg4.mp4": _one(f"{R30} {MPEG4} -bf 2 -frames:v 60"),
    "mpeg4_b_frames.avi": _one(f"{R30} {MPEG4} -bf 2 -vtag XVID -frames:v 60"),
    "mpeg4_sound.avi": _one(f"{R30} {_sound(2)} {MPEG4} -c:a libmp3lame -frames:v 60"),
    "opus.webm": _one(f"{R30} {_sound(2)} {VP9} -c:a libopus -frames:v 60"),
    "opus.mkv": _one(f"{R30} {_sound(2)} {H264} -c:a libopus -frames:v 60"),
    "animation.gif": _one(f"{_raw('20')} -frames:v 40"),
    "flash.flv": _one(f"{R30} {_sound(2)} -c:v flv -q:v 3 -frames:v 60"),
    "mp3.mkv": _one(f"{R30} {_sound(2)} {H264} -c:a libmp3lame -frames:v 60"),
    "timecode.mov": _one(f"{R30} {_sound(2)} -map 1 -map 0 {H264} -c:a aac -timecode 01:00:00:00 -frames:v 60"),
    "windows.wmv": _one(f"{R30} {_sound(2)} -c:v wmv2 -q:v 3 -c:a libmp3lame -frames:v 60"),
    "program.mpg": _one(f"{R30} {_sound(2)} -c:v mpeg2video -q:v 3 -bf 2 -g 12 -frames:v 60"),
    # Codecs, and pictures of other sizes: above 640×480 pixels several threads decode.
    "large.mp4": _one(f"{R30} -vf scale=1152:288:flags=neighbor {H264} -frames:v 30"),
    "odd_size.mkv": _one(f"{R30} -vf scale=191:47 -c:v ffv1 -pix_fmt yuv420p -frames:v 30"),
    "hevc.mp4": _one(f"{R30} -c:v libx265 -preset ultrafast -crf 16 -pix_fmt yuv420p -frames:v 30"),
    "hevc_10_bit.mkv": _one(f"{R30} -c:v libx265 -preset ultrafast -crf 16 -pix_fmt yuv420p10 -frames:v 30"),
    "h264_10_bit.mp4": _one(f"{R30} {H264} -pix_fmt yuv420p10 -frames:v 30"),
    "h264_444.mp4": _one(f"{R30} {H264} -pix_fmt yuv444p -frames:v 30"),
    "h264_interlaced.ts": _one(f"{_raw('25')} {H264} -flags +ilme+ildct -frames:v 50"),
    "vp8.webm": _one(f"{R30} -c:v libvpx -deadline realtime -cpu-used 8 -crf 10 -b:v 1M -frames:v 60"),
    "vp9.webm": _one(f"{R30} {VP9} -frames:v 60"),
    "av1.mp4": _one(f"{R30} -c:v libsvtav1 -preset 8 -crf 10 -pix_fmt yuv420p -frames:v 40"),
    "av1.webm": _one(f"{R30} -c:v libsvtav1 -preset 8 -crf 10 -pix_fmt yuv420p -frames:v 40"),
    "mpeg2_interlaced.ts": _one(f"{_raw('25')} -c:v mpeg2video -q:v 2 -bf 2 -g 12 -flags +ilme+ildct -frames:v 50"),
    "mjpeg.avi": _one(f"{R30} -c:v mjpeg -q:v 3 -pix_fmt yuvj420p -frames:v 60"),
    "prores.mov": _one(f"{R30} -c:v prores_ks -profile:v 1 -frames:v 30"),
    "ffv1.mkv": _one(f"{R30} -c:v ffv1 -pix_fmt bgr0 -frames:v 30"),
    # Pictures that a player turns, mirrors or stretches: coded turned, so that they are upright when shown.
    **{
        f"{stem}.mp4": _copy(f"coded_{stem}.mp4", before=f"-display_rotation {angle} {mirror}")
        for stem, angle, mirror in [
            *(("rotated_90", 90, ""), ("rotated_180", 180, ""), ("rotated_270", 270, "")),
            *(("mirrored", 0, "-display_hflip"), ("rotated_90_mirrored", 90, "-display_hflip")),
        ]
    },
    "coded_rotated_90.mp4": _one(f"{R30} {H264} -vf transpose=clock -frames:v 30"),
    "coded_rotated_180.mp4": _one(f"{R30} {H264} -vf hflip,vflip -frames:v 30"),
    "coded_rotated_270.mp4": _one(f"{R30} {H264} -vf transpose=cclock -frames:v 30"),
    "coded_mirrored.mp4": _one(f"{R30} {H264} -vf hflip -frames:v 30"),
    "coded_rotated_90_mirrored.mp4": _one(f"{R30} {H264} -vf transpose=clock,vflip -frames:v 30"),
    "not_square.mp4": _one(f"{R30} {H264} -vf setsar=4/3 -frames:v 30"),
    # Colours.
    "grey.mp4": _one(f"{R30} {H264} -pix_fmt gray -frames:v 30"),
    "grey.mkv": _one(f"{R30} -c:v ffv1 -pix_fmt gray -frames:v 30"),
    "grey_10_bit.mkv": _one(f"{R30} -c:v ffv1 -pix_fmt gray10 -frames:v 30"),
    "grey_16_bit.mov": _one(f"{R30} -c:v png -pix_fmt gray16be -frames:v 30"),
    "alpha.webm": _one(f"{R30} -vf format=yuva420p,lut=a=val/2 {VP9} -pix_fmt yuva420p -frames:v 30"),
    "alpha_prores.mov": _one(
        f"{R30} -vf format=yuva444p10,lut=a=val/2 -c:v prores_ks -profile:v 4 -pix_fmt yuva444p10le -frames:v 30"
    ),
    "alpha_png.mov": _one(f"{R30} -vf format=rgba,lut=a=val/2 -c:v png -pix_fmt rgba -frames:v 30"),
    "full_range.mp4": _one(f"{R30} -vf scale=out_range=full {H264} -color_range pc -frames:v 30"),
    "full_range_yuvj.mp4": _one(f"{R30} {H264} -pix_fmt yuvj420p -frames:v 30"),
    "full_range.webm": _one(f"{R30} -vf scale=out_range=full {VP9} -pix_fmt yuv420p -color_range pc -frames:v 30"),
    "limited_range.mp4": _one(f"{R30} -vf scale=out_range=limited {H264} -color_range tv -frames:v 30"),
    "bt709.mp4": _one(
        f"{R30} -vf scale=out_color_matrix=bt709:out_range=limited {H264} "
        "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv -frames:v 30"
    ),
    "bt2020.mp4": _one(
        f"{R30} -vf scale=out_color_matrix=bt2020:out_range=limited {H264} -pix_fmt yuv420p10 "
        "-colorspace bt2020nc -color_primaries bt2020 -color_trc bt2020-10 -color_range tv -frames:v 30"
    ),
    # Pictures that change midway.
    "size_changes.ts": Recipe(
        (
            f"{R30} {H264} -frames:v 30 -f mpegts {{out}}",
            f"{_raw('30', 1)} {H264} -vf scale=288:72 -frames:v 30 -output_ts_offset 1.0666667 -f mpegts {{out}}",
        )
    ),
    "format_changes.ts": Recipe(
        (
            f"{R30} {H264} -frames:v 30 -f mpegts {{out}}",
            f"{_raw('30', 1)} {H264} -pix_fmt yuv444p -frames:v 30 -output_ts_offset 1.0666667 -f mpegts {{out}}",
        )
    ),
    # Recordings joined end to end, and one that was tuned in between key frames.
    "joined.ts": Recipe(
        (
            f"{R30} {H264} -frames:v 60 -f mpegts {{out}}",
            f"{_raw('30', 2)} {H264} -frames:v 60 -f mpegts {{out}}",
        ),
        shown=False,
    ),
    "joined_later_first.ts": Recipe(
        (
            f"{R30} {H264} -frames:v 60 -output_ts_offset 5000 -f mpegts {{out}}",
            f"{_raw('30', 2)} {H264} -frames:v 60 -f mpegts {{out}}",
        ),
        shown=False,
    ),
    "tuned_in.ts": _one(f"{R30} {_sound(5)} {H264} -g 60 -c:a mp2 -frames:v 150", change=_tune_in),
    # Covers and thumbnails beside the video.
    "cover.mp4": _one(
        f"{R30} {COVER} {_sound(2)} -map 0 -map 1 -map 2 -c:v:0 libx264 -pix_fmt:v:0 yuv420p -c:v:1 mjpeg "
        "-pix_fmt:v:1 yuvj420p -disposition:v:1 attached_pic -frames:v:0 60"
    ),
    "cover_first.mp4": _one(
        f"{R30} {COVER} {_sound(2)} -map 1 -map 0 -map 2 -c:v:1 libx264 -pix_fmt:v:1 yuv420p -c:v:0 mjpeg "
        "-pix_fmt:v:0 yuvj420p -disposition:v:0 attached_pic -frames:v:1 60"
    ),
    "thumbnail_first.mkv": _one(
        f"{R30} {COVER} -map 1 -map 0 -c:v:1 libx264 -pix_fmt:v:1 yuv420p -c:v:0 mjpeg -pix_fmt:v:0 yuvj420p "
        "-frames:v:1 60",
        stream="v:1",
    ),
    "attached_cover.mkv": _one(
        f"{R30} {H264} -frames:v 60 -attach {{of}} -metadata:s:t mimetype=image/png", of="image.png"
    ),
    **{f"image.{suffix}": _one(f"{COVER} -update 1 -frames:v 1", shown=False) for suffix in ("png", "jpg")},
    # Sound alone, with and without a cover.
    **{f"sound.{suffix}": _one(_sound(1), shown=False) for suffix in ("m4a", "mp3", "wav")},
    **{
        f"sound_with_cover.{suffix}": _one(
            f"{_sound(1)} {_raw('1')} -map 0 -map 1 -c:v mjpeg -pix_fmt yuvj420p -frames:v 1 "
            f"-disposition:v attached_pic {options}",
            shown=False,
        )
        for suffix, options in (("mp3", "-id3v2_version 3"), ("m4a", "-f ipod"))
    },
    # Headers that state no length.
    "piped.mkv": Recipe((f"{R30} {H264} -frames:v 60 -f matroska -",)),
    "live.webm": Recipe((f"{R30} {VP9} -frames:v 60 -f webm -live 1 -",)),
    "fragments.mp4": _one(f"{R30} {_sound(2)} {H264} -c:a aac -frames:v 60 -movflags +frag_keyframe+empty_moov"),
    "fragments_piped.mp4": Recipe((f"{R30} {H264} -frames:v 60 -f mp4 -movflags +frag_keyframe+empty_moov -",)),
    "elementary.h264": _one(f"{_raw('25')} {H264} -frames:v 60"),
    "elementary.m4v": _one(f"{_raw('25')} {MPEG4} -bf 2 -frames:v 60"),
    # Files cut off at 60 %, damaged, or no videos at all.
    "cut.mkv": _copy("rate_30.mp4", change=_cut),
    "cut.ts": _copy("rate_30.mp4", change=_cut),
    "cut_index_first.mp4": _copy("rate_30.mp4", after="-movflags +faststart", change=_cut),
    "cut_index_last.mp4": _copy("rate_30.mp4", change=_cut, shown=False),
    "damaged.mp4": _copy("rate_30.mp4", after="-movflags +faststart", change=_damage),
    "damaged.mkv": _copy("rate_30.mp4", change=_damage),
    "damaged.ts": _copy("rate_30.mp4", change=_damage),
    "text.mp4": Recipe((), change=lambda _: b"this is no video\n" * 100, shown=False),
    "text.txt": Recipe((), change=lambda _: b"this is no video\n" * 100, shown=False),
    "noise.mp4": Recipe((), change=lambda _: random.Random(1).randbytes(20_000), shown=False),
    "empty.mp4": Recipe((), shown=False),
}
"""Recipe of every kind, by the name of its file."""

ODD_NAMES = (b"10:30:00.mp4", b"-y.mp4", b"frame%05d.mp4", b"caf\xe9.mp4", "日本 語.mp4".encode(), b"a|b?#.mp4")
"""Names that programs take for something else, or that are not UTF-8."""


@functools.cache
def find_ffmpeg() -> str:
    """Return the path of the ffmpeg of the package imageio-ffmpeg; skip the test where it is missing or cannot run."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg, which brings ffmpeg")
    try:
        path: str = imageio_ffmpeg.get_ffmpeg_exe()
        subprocess.run([path, "-version"], check=True, capture_output=True, timeout=60)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"needs the ffmpeg of imageio-ffmpeg, which cannot run here: {error}")
    return path


def write_frames(path: Path) -> None:
    """Write the raw frames that the recipes read, numbers 0 to 2^BITS − 1."""
    with path.open("wb") as file:
        for number in range(2**BITS):
            file.write(draw(number).tobytes())


def make_media(name: str, frames: Path, folder: Path, of: Path | None = None) -> None:
    """Write the file of a recipe and its truth into a folder.

    Args:
        name: key of the recipe in `MEDIA`.
        frames: file of raw frames (see `write_frames`).
        folder: folder to write into.
        of: file of the recipe that this one reads.
    """
    recipe, path, joined = MEDIA[name], folder / name, b""
    for command in recipe.commands:
        arguments = shlex.split(command.format(frames=frames, of=of, out=path))
        ffmpeg = [find_ffmpeg(), "-nostdin", "-loglevel", "error", "-y", *arguments[:-1], "-threads", "1"]
        written = subprocess.run([*ffmpeg, arguments[-1]], check=False, capture_output=True)
        assert written.returncode == 0, f"{name}: {written.stderr.decode(errors='replace')}"
        joined += written.stdout if arguments[-1] == "-" else path.read_bytes()
    path.write_bytes(recipe.change(joined))
    if recipe.shown:
        truth = read_truth(path, recipe.stream)
        stored = {
            "times": [str(time) for time in truth.times],
            "numbers": truth.numbers,
            "end": str(truth.end),
            "start": str(truth.start),
        }
        (folder / "truth.json").write_text(json.dumps(stored), encoding="utf-8")


def load_media(folder: Path, name: str) -> Media:
    """Return what `make_media` wrote into a folder."""
    if not (folder / "truth.json").exists():
        return Media(folder / name, None)
    stored = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    times = tuple(Fraction(time) for time in stored["times"])
    return Media(
        folder / name, Truth(times, tuple(stored["numbers"]), Fraction(stored["end"]), Fraction(stored["start"]))
    )


def read_truth(path: Path, stream: str = "V:0") -> Truth:
    """Decode a file with ffmpeg and return which frame it shows when.

    The stamps are in the file's own time base, with edit lists applied and nothing repeated or dropped. Time 0 is the
    first decoded moment of picture or sound. A list of ffmpeg's frames is left beside the file.
    """
    listing = path.with_name("frames.txt")
    picture = f"-map 0:{stream} -fps_mode passthrough -enc_time_base:v demux"
    listed = f"{picture} -map 0:a? -c:v rawvideo -f framecrc"
    pixels = _decode(path, f"{picture} -vf scale={WIDTH}:{HEIGHT},format=gray -f rawvideo pipe:1 {listed}", listing)
    bases: dict[int, Fraction] = {}
    moments: list[list[tuple[Fraction, Fraction]]] = [[], []]
    for line in listing.read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"#tb (\d+): (\d+)/(\d+)", line):
            bases[int(found[1])] = Fraction(int(found[2]), int(found[3]))
        elif not line.startswith("#"):
            index, _, stamp, duration, *_ = (int(part, 0) for part in line.split(",")[:6])
            moments[min(index, 1)].append((stamp * bases[index], duration * bases[index]))
    shown = moments[0]
    images = np.frombuffer(pixels, np.uint8).reshape(-1, HEIGHT, WIDTH)
    assert len(images) == len(shown) > 0, f"{path.name}: {len(images)} pictures, {len(shown)} stamps"
    start = min(stamp for stamp, _ in shown + moments[1])
    times = tuple(stamp - start for stamp, _ in shown)
    return Truth(times, tuple(_number_or_none(image) for image in images), times[-1] + shown[-1][1], start)


def decode_rgb(path: Path, size: tuple[int, int], stream: str = "V:0") -> NDArray[np.uint8]:
    """Return every frame as ffmpeg shows it, RGB [T,H,W,3]; `size` is (H,W) as shown."""
    pixels = _decode(path, f"-map 0:{stream} -fps_mode passthrough -f rawvideo -pix_fmt rgb24", "pipe:1")
    return np.frombuffer(pixels, np.uint8).reshape(-1, *size, 3)


def _decode(path: Path, outputs: str, last: Path | str) -> bytes:
    arguments = [find_ffmpeg(), "-nostdin", "-loglevel", "quiet", "-y", "-copyts", "-threads", "1", "-i", str(path)]
    return subprocess.run([*arguments, *shlex.split(outputs), str(last)], check=False, capture_output=True).stdout


def _number_or_none(image: NDArray[np.uint8]) -> int:
    try:
        return read_number(image)
    except ValueError:
        return -1
