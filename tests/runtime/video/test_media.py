"""Video files of every kind: the frame taken for every moment is the one that a player shows then."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.errors import VideoError, VideoWarning
from runtime.video.readers.choice import ReaderName
from runtime.video.sampling import FrameTiming, open_frames
from tests.media import MEDIA, ODD_NAMES, RATES, STRIP, Media, Truth, decode_rgb, read_number

MakeMedia = Callable[[str], Media]

JUST = Fraction(1, 10**6)
"""Seconds before a moment that count as just before it."""
TICK = Fraction(1, 1000)
"""Seconds to which Matroska, WebM, FLV and WMV round their stamps."""

BROKEN = tuple(name for name in MEDIA if name.startswith(("cut", "damaged")))
SHOWN = [name for name, recipe in MEDIA.items() if recipe.shown and name not in BROKEN and name[:6] != "coded_"]
"""Complete files with a picture that is upright when shown."""

OPENCV_FAULTS = {
    **dict.fromkeys(
        ("picture_later.mkv", "picture_later.mp4", "picture_later.ts"), "its clock starts with the picture"
    ),
    **dict.fromkeys(("fragments.mp4", "starts_at_4.mkv"), "its clock or its length starts elsewhere"),
    "trimmed_both_ends.mp4": "it declares the frames that the edit list leaves out",
    "container.avi": "its stamps of H.264 in AVI are not in the order shown",
    **dict.fromkeys(("h264_interlaced.ts", "mpeg2_interlaced.ts"), "it cannot convert interlaced pictures"),
    **dict.fromkeys(("mirrored.mp4", "rotated_90_mirrored.mp4"), "it turns pictures, but does not mirror them"),
    **dict.fromkeys(("av1.mp4", "av1.webm"), "its wheels decode no AV1"),
    "tuned_in.ts": "its clock starts with the picture",
    "thumbnail_first.mkv": "it reads the first stream",
}
"""Kinds that OpenCV itself reads wrongly or not at all, each with what it does."""


def by_reader(names: Sequence[str]) -> list[Any]:
    """Return each name with each reader that reads the kind rightly; those of OpenCV are thorough tests."""
    sound = [name for name in names if name not in OPENCV_FAULTS]
    return [
        *(pytest.param(name, "pyav") for name in names),
        *(pytest.param(name, "opencv", marks=pytest.mark.thorough) for name in sound),
    ]


CONSTANT = [
    *(f"rate_{rate}.mp4" for rate in RATES),
    *(f"container.{suffix}" for suffix in ("mov", "mkv", "ts", "avi", "flv")),
    *("mpeg4_b_frames.avi", "vp9.webm", "animation.gif", "mpeg2_interlaced.ts", "hevc.mp4", "piped.mkv"),
]

TURNED = ("rotated_90.mp4", "rotated_180.mp4", "rotated_270.mp4", "mirrored.mp4", "rotated_90_mirrored.mp4")
COLOURED = (
    *("rate_30.mp4", "full_range.mp4", "full_range_yuvj.mp4", "full_range.webm", "limited_range.mp4", "bt709.mp4"),
    "bt2020.mp4",
    *("not_square.mp4", "h264_10_bit.mp4", "hevc_10_bit.mkv", "h264_444.mp4", "prores.mov", "ffv1.mkv", "mjpeg.avi"),
    *("alpha.webm", "alpha_prores.mov", "alpha_png.mov", "mpeg2_interlaced.ts", "h264_interlaced.ts", "animation.gif"),
)
GREY = ("grey.mp4", "grey.mkv", "grey_10_bit.mkv", "grey_16_bit.mov")

NO_VIDEOS = {
    **dict.fromkeys(("sound.m4a", "sound.mp3", "sound.wav"), "holds sound, no video; expected a video"),
    **dict.fromkeys(("sound_with_cover.mp3", "sound_with_cover.m4a"), "holds sound and a cover picture, no video"),
    **dict.fromkeys(("text.mp4", "noise.mp4", "cut_index_last.mp4"), r"not a video that FFmpeg can open \(unknown"),
    **dict.fromkeys(("image.png", "image.jpg"), "a single image, or images without a container, no video"),
    "text.txt": "a text, no video",
    "empty.mp4": "the file is empty",
}
"""What is said of files without a picture."""


def truth_of(media: Media) -> Truth:
    assert media.truth is not None
    return media.truth


def expect(truth: Truth, sample_fps: Fraction) -> list[int]:
    """Return the numbers of the frames on screen just before every multiple of 1 / sample_fps."""
    count = int((truth.end + JUST) * sample_fps)
    return [truth.on_screen((k + 1) / sample_fps - JUST) for k in range(count)]


def sample(
    path: Path | str,
    sample_fps: float = 10.0,
    *,
    reader: ReaderName = "pyav",
    timing: FrameTiming = "presented",
    allow_truncated: bool = False,
) -> list[int]:
    """Return the numbers of the sampled frames; −1 for a frame that cannot be read."""
    numbers = []
    with open_frames(path, sample_fps, reader=reader, timing=timing, allow_truncated=allow_truncated) as frames:
        for frame in frames:
            try:
                numbers.append(read_number(frame))
            except ValueError:
                numbers.append(-1)
    return numbers


@pytest.mark.parametrize("rate", RATES)
def test_ffmpeg_shows_constant_rates_as_they_were_made(media: MakeMedia, rate: str) -> None:
    truth = truth_of(media(f"rate_{rate}.mp4"))
    assert truth.numbers == tuple(range(len(truth.numbers)))
    assert truth.times == tuple(k / Fraction(RATES[rate]) for k in truth.numbers)
    assert truth.end == len(truth.numbers) / Fraction(RATES[rate])


@pytest.mark.parametrize(("name", "reader"), by_reader(SHOWN))
def test_samples_are_the_frames_on_screen(media: MakeMedia, name: str, reader: ReaderName) -> None:
    made = media(name)
    truth = truth_of(made)
    assert min(truth.numbers) >= 0
    assert sample(made.path, reader=reader) == expect(truth, Fraction(10))


@pytest.mark.thorough
@pytest.mark.parametrize("sample_fps", [7, *(pytest.param(fps, marks=pytest.mark.slow) for fps in (24, 30))])
@pytest.mark.parametrize("name", SHOWN)
def test_samples_at_other_rates(media: MakeMedia, name: str, sample_fps: int) -> None:
    made = media(name)
    truth, taken = truth_of(made), sample(made.path, sample_fps)
    assert int((truth.end - TICK) * sample_fps) <= len(taken) <= int((truth.end + TICK) * sample_fps)
    for k, number in enumerate(taken):
        moment = Fraction(k + 1, sample_fps)
        assert truth.on_screen(moment - TICK) <= number <= truth.on_screen(moment + TICK)


@pytest.mark.parametrize("sample_fps", [10, 30])
@pytest.mark.parametrize(("name", "reader"), by_reader(CONSTANT))
def test_constant_rates_are_sampled_as_if_counted(
    media: MakeMedia, name: str, sample_fps: int, reader: ReaderName
) -> None:
    path = media(name).path
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counted = sample(path, sample_fps, reader=reader, timing="counted")
        assert counted == sample(path, sample_fps, reader=reader)


@pytest.mark.parametrize(
    "name",
    [
        *("rate_30.mp4", "variable_hold.mp4", "gap.mkv", "piped.mkv", "trimmed.mp4", "picture_later.mkv"),
        *("starts_at_10_hours.ts", "mpeg4_b_frames.avi"),
    ],
)
def test_a_whole_video_is_divided_by_its_true_length(media: MakeMedia, name: str) -> None:
    made = media(name)
    truth = truth_of(made)
    with open_frames(made.path, 10.0, max_frames=16, reader="pyav") as frames:
        taken = [read_number(frame) for frame in frames]
        assert frames.duration == pytest.approx(float(truth.end), abs=1e-3)
    assert taken == [truth.on_screen((k + 1) * truth.end / 16 - JUST) for k in range(16)]


@pytest.mark.parametrize("name", [*COLOURED, *TURNED, *GREY])
def test_pixels_are_those_that_ffmpeg_shows_and_that_were_drawn(media: MakeMedia, name: str) -> None:
    made = media(name)
    with open_frames(made.path, 10.0, reader="pyav") as frames:
        taken = list(frames)
    shown = decode_rgb(made.path, taken[0].shape[:2])
    for frame in taken:
        assert np.abs(frame.astype(int) - shown[read_number(frame)]).mean() < 2.5
    colours = np.array(STRIP, float)
    if name in GREY:
        colours = np.repeat(colours @ [[0.299], [0.587], [0.114]], 3, axis=1)
    np.testing.assert_allclose(strip_of(taken[0]), colours, atol=4)


def strip_of(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean colours in the middle of a frame's columns, RGB [CELLS,3]."""
    height, width = frame.shape[:2]
    cell, middle = width // len(STRIP), height // 2
    patches = [frame[middle - 3 : middle + 3, c * cell + 5 : (c + 1) * cell - 5] for c in range(len(STRIP))]
    return np.array([patch.mean(axis=(0, 1)) for patch in patches])


def test_frames_have_the_size_of_the_moment(media: MakeMedia) -> None:
    with open_frames(media("size_changes.ts").path, 10.0, reader="pyav") as frames:
        assert [frame.shape for frame in frames] == [(48, 192, 3)] * 10 + [(72, 288, 3)] * 10


@pytest.mark.parametrize("name", ["joined.ts", "joined_later_first.ts"])
def test_recordings_joined_end_to_end_go_on(media: MakeMedia, name: str) -> None:
    path = media(name).path
    assert sample(path) == list(range(2, 120, 3))
    with open_frames(path, 10.0, max_frames=8, reader="pyav") as frames:
        assert [read_number(frame) for frame in frames] == list(range(14, 120, 15))


@pytest.mark.parametrize("name", NO_VIDEOS)
def test_files_without_a_picture_are_one_line(media: MakeMedia, name: str) -> None:
    path = media(name).path
    with pytest.raises(VideoError, match=NO_VIDEOS[name]) as raised:
        open_frames(path, 10.0, reader="pyav")
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)
    if name not in ("text.txt", "image.png", "image.jpg"):  # OpenCV makes videos of them
        with pytest.raises(VideoError):
            sample(path, reader="opencv")


@pytest.mark.parametrize("name", ["cut.mkv", "cut_index_first.mp4"])
def test_files_cut_off_are_refused_or_read_as_far_as_they_go(media: MakeMedia, name: str) -> None:
    made = media(name)
    with pytest.raises(VideoError, match=r"ends after 1\.\d s of the 3\.0 s .* cut off or damaged \(use allow_trunc"):
        sample(made.path)
    with pytest.warns(VideoWarning, match="cut off or damaged"):
        taken = sample(made.path, allow_truncated=True)
    want = expect(truth_of(made), Fraction(10))
    assert taken in (want, want[:-1])  # PyAV loses the frames that come with the error of half a packet
    with pytest.raises(VideoError, match="cut off or damaged"):
        sample(made.path, reader="opencv")


def test_a_transport_stream_cut_off_is_a_shorter_one(media: MakeMedia) -> None:
    made = media("cut.ts")
    assert sample(made.path) == expect(truth_of(made), Fraction(10))


@pytest.mark.parametrize("name", ["damaged.mp4", "damaged.mkv", "damaged.ts"])
def test_damaged_files_keep_the_time_of_what_is_left(media: MakeMedia, name: str) -> None:
    made = media(name)
    taken = sample(made.path, allow_truncated=True)
    whole = expect(truth_of(media("rate_30.mp4")), Fraction(10))
    assert len(taken) == len(whole)
    assert sum(one == other for one, other in zip(taken, whole, strict=True)) >= 15
    assert taken[-5:] == whole[-5:]


@pytest.mark.parametrize("reader", ["pyav", "opencv"])
@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_that_programs_take_for_something_else(
    media: MakeMedia, name: bytes, reader: ReaderName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = media("rate_10.mp4")
    monkeypatch.chdir(tmp_path)
    try:
        shutil.copyfile(made.path, os.fsdecode(name))
    except OSError:
        pytest.skip("needs a file system that takes any bytes as names")
    expected = list(range(30))
    assert sample(os.fsdecode(name), reader=reader) == expected
    assert sample(tmp_path / os.fsdecode(name), reader=reader) == expected


def largest_error(truth: Truth, numbers: list[int], sample_fps: Fraction) -> float:
    """Return the most seconds by which a sample's moment lies outside the time when its frame is on screen."""
    worst = Fraction(0)
    for k, number in enumerate(numbers):
        moment = (k + 1) / sample_fps
        if number not in truth.numbers:
            return float("inf")
        at = truth.numbers.index(number)
        begin = truth.times[at] if at else Fraction(0)
        end = truth.times[at + 1] if at + 1 < len(truth.times) else truth.end
        worst = max(worst, begin - moment, moment - end)
    return float(worst)


@pytest.mark.thorough
def test_largest_errors_in_seconds(media: MakeMedia, capsys: pytest.CaptureFixture[str]) -> None:
    """Print how far 50 samples of every kind are off, by this reader and as OpenCV counts (pytest -n 0 shows it)."""
    lines = []
    for name in SHOWN:
        made = media(name)
        truth = truth_of(made)
        sample_fps = 50 / truth.end
        ours = largest_error(truth, sample(made.path, float(sample_fps)), sample_fps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                counted = sample(made.path, float(sample_fps), reader="opencv", timing="counted", allow_truncated=True)
                theirs = f"{largest_error(truth, counted, sample_fps):8.3f}  {len(counted):3}"
            except VideoError as error:
                theirs = str(error).removeprefix(f"{made.path}: ")[:60]
        lines.append(f"{name:26} {ours:8.3f}  {theirs}")
        assert ours <= 0.002, name
    with capsys.disabled():
        print("", f"{'largest error in seconds':26} {'PyAV':>8}  OpenCV, counted; samples of 50", *lines, sep="\n")


def test_a_codec_that_nobody_knows_is_named(media: MakeMedia, tmp_path: Path) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(media("rate_30.mp4").path.read_bytes().replace(b"avc1", b"zqzq"))
    with pytest.raises(VideoError, match=r"secret.mp4: its codec \(zqzq\) is none that FFmpeg's build knows; convert"):
        sample(path)


def test_a_key_frame_that_is_destroyed_takes_others_with_it(media: MakeMedia, tmp_path: Path) -> None:
    """Decoders leave out what depends on it without an error; in MP4 the sizes of all frames are known."""
    path = tmp_path / "damaged.mp4"
    content = bytearray(media("rate_30.mp4").path.read_bytes())
    start = content.index(b"mdat") + 4
    content[start : start + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"cannot be decoded.*the file is (empty or )?damaged"):
        sample(path)
