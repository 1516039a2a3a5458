"""Frames from every kind of source: which are kept, in which colours, and what a user is told when a source is bad."""

from __future__ import annotations

import csv
import threading
import time
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.common.natural_order import natural_key
from runtime.errors import InputError, VideoError, VideoWarning
from runtime.video.prefetch import Prefetch
from runtime.video.sampling import FrameCounter, open_frames
from tests.shared import shared

REAL_VIDEOS = {
    "carving_ice.mp4": (30.0, 200),
    "demo.mp4": (28.0, 280),
    "drink.avi": (30.0, 103),
    "street.mp4": (30000 / 1001, 300),
    "test.avi": (25.0, 164),
    "test.mp4": (30.0, 300),
}
"""Declared frames per second and number of frames."""


def write_video(path: Path, count: int, fps: float, size: tuple[int, int] = (48, 64)) -> Path:
    """A video whose frame t is grey level 2·t with a red left half edge: number and colour order can be read back."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), fps, size[::-1])
    for t in range(count):
        image = np.full((*size, 3), min(2 * t, 255), np.uint8)
        image[:, :16] = (0, 0, 255)  # red, as OpenCV orders it
        writer.write(image)
    writer.release()
    return path


def numbers(frames: Iterator[np.ndarray]) -> list[int]:
    """Frame numbers that `write_video` or `grey` put into the frames."""
    return [round(float(frame[:, 32:].mean()) / 2) for frame in frames]


def grey(count: int, channels: int = 3) -> np.ndarray:
    """[count,4,40,channels]: frame t is level 2·t."""
    levels = np.arange(0, 2 * count, 2, dtype=np.uint8).reshape(count, 1, 1, 1)
    return np.broadcast_to(levels, (count, 4, 40, channels)).copy()


def plain_counter(count: int, fps: float, sample_fps: float) -> list[int]:
    """The published script's sampling, as the specification words it."""
    step, counter, kept = fps / sample_fps, 0.0, []
    for index in range(count):
        counter += 1
        if counter >= step:
            counter -= step
            kept.append(index)
    return kept


@pytest.mark.parametrize("fps", [10.0, 24.0, 25.0, 29.97, 30000 / 1001, 30.0, 59.94, 60.0, 14.5])
def test_sampling_is_the_published_counter(fps: float) -> None:
    sampler = FrameCounter(fps, 10.0)
    kept = [index for index in range(20_000) if sampler.copies()]
    assert kept == plain_counter(20_000, fps, 10.0)


@pytest.mark.parametrize("part", ["val", "test"])
def test_sampling_gives_the_published_counts(part: str) -> None:
    with shared(f"data/thumos14/{part}_video_info.csv").open() as table:
        for row in csv.DictReader(table):
            sampler = FrameCounter(float(row["fps"]), float(row["sample_fps"]))
            kept = sum(sampler.copies() for _ in range(int(float(row["count"]))))
            assert kept == int(float(row["sample_count"])), row["video"]


def test_sampling_by_hand() -> None:
    sampler = FrameCounter(30.0, 10.0)
    assert [sampler.copies() for _ in range(9)] == [0, 0, 1] * 3
    slow = FrameCounter(4.0, 10.0)
    assert [slow.copies() for _ in range(6)] == [2, 3, 2, 3, 2, 3]
    for fps in (1.0, 3.0, 4.0, 7.0, 8.0, 9.99):
        sampler = FrameCounter(fps, 10.0)
        assert sum(sampler.copies() for _ in range(round(fps * 100))) == 1000


def test_empty_inputs() -> None:
    for nothing in ([], np.zeros((0, 4, 4, 3), np.uint8), iter(())):
        with pytest.raises(InputError, match="got none, expected at least one frame"):
            list(open_frames(nothing, 10.0))


def test_file_frames_are_sampled_and_rgb(tmp_path: Path) -> None:
    with open_frames(write_video(tmp_path / "clip.avi", 60, 30.0), 10.0) as frames:
        assert (frames.name, frames.fps, frames.expected) == ("clip", 30.0, 20)
        taken = list(frames)
    assert numbers(iter(taken)) == list(range(2, 60, 3))
    red = taken[0][:, :8].reshape(-1, 3).mean(axis=0)
    assert red[0] > 200
    assert red[2] < 60


def test_fps_of_the_file_can_be_overruled(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", 20, 30.0)
    assert numbers(open_frames(path, 10.0, fps=20.0)) == list(range(1, 20, 2))
    assert numbers(open_frames(str(path), 10.0, fps=5.0)) == [t for t in range(20) for _ in range(2)]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough) if name == "drink.avi" else name for name in REAL_VIDEOS]
)
def test_real_videos(name: str) -> None:
    fps, count = REAL_VIDEOS[name]
    path = shared("data/videos") / name
    capture = cv2.VideoCapture(str(path))
    decoded = [image[..., ::-1] for _, image in iter(capture.read, (False, None))]
    assert len(decoded) == count
    expected = plain_counter(count, fps, 10.0)
    with open_frames(path, 10.0, prepare=lambda frame: frame[::16, ::16].copy()) as frames:
        taken = list(frames)
    assert len(taken) == len(expected)
    for frame, index in zip(taken, expected, strict=True):
        np.testing.assert_array_equal(frame, decoded[index][::16, ::16])


def chunks() -> Iterator[np.ndarray]:
    video = grey(12)
    yield video[0]
    yield video[1:1]
    yield video[1:7]
    yield from video[7:10]
    yield video[10:]


@pytest.mark.parametrize("source", [grey(12), list(grey(12)), chunks(), [grey(12)]], ids=str.__class__.__name__.format)
def test_arrays_and_iterables_are_at_the_models_rate(source: object) -> None:
    assert numbers(open_frames(source, 10.0)) == list(range(12))  # type: ignore[arg-type]


def test_arrays_at_another_rate_and_flow() -> None:
    assert numbers(open_frames(grey(12), 10.0, fps=30.0)) == [2, 5, 8, 11]
    assert numbers(open_frames(grey(6, channels=2), 10.0, channels=2)) == list(range(6))


def test_folder_of_images_in_natural_order(tmp_path: Path) -> None:
    for t, image in enumerate(grey(12)):
        cv2.imwrite(str(tmp_path / f"frame{t}.png"), image)
    (tmp_path / "notes.txt").write_text("not an image")
    with open_frames(tmp_path, 10.0) as frames:
        assert (frames.name, frames.expected) == (tmp_path.name, 12)
        assert numbers(frames) == list(range(12))


def test_natural_key() -> None:
    names = ["a10", "a9", "B1", "a", "10", "9b"]
    assert sorted(names, key=natural_key) == ["9b", "10", "a", "a9", "a10", "B1"]


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), InputError, "got float32 .*expected uint8 0–255"),
        (np.zeros((4, 4), np.uint8), InputError, r"got shape \[4, 4\]"),
        (np.zeros((2, 4, 4, 1), np.uint8), InputError, r"expected uint8 0–255 \[H,W,3\] or \[T,H,W,3\]"),
        ([np.zeros((0, 4, 3), np.uint8)], InputError, r"got shape \[0, 4, 3\]"),
        (b"frames", InputError, "got bytes"),
        (3.5, InputError, "got float, expected a path"),
        ("nowhere.mp4", VideoError, "nowhere.mp4: file or folder not found"),
        ("http://127.0.0.1:9/clip.mp4?key=secret", VideoError, "http://127.0.0.1:9/clip.mp4: cannot be opened"),
    ],
)
def test_bad_sources(source: object, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        list(open_frames(source, 10.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_rates(rate: float) -> None:
    with pytest.raises(InputError, match=r"fps: got .*, expected .*frames per second"):
        open_frames(grey(3), 10.0, fps=rate)
    with pytest.raises(InputError, match="sample_fps: got"):
        open_frames(grey(3), rate)


@pytest.mark.parametrize("fps", [23.976, 25.0, 30.0])
def test_a_whole_source_gives_exactly_the_frames_wanted(fps: float) -> None:
    for count in [*range(1, 40), 769, 777, 1000, 1536, 3601]:
        most = 12 if count < 40 else 768
        array = np.zeros((count, 1, 1, 3), np.uint8)
        array[:, 0, 0, 0], array[:, 0, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
        frames = open_frames(array, fps, max_frames=most)
        taken = [int(frame[0, 0, 0]) + 256 * int(frame[0, 0, 1]) for frame in frames]
        share = min(Fraction(most, count), Fraction(1))
        assert taken == [i for i in range(count) if (i + 1) * share // 1 > i * share // 1]
        assert frames.sample_fps == fps * min(most / count, 1)
        assert frames.duration == count / fps


def test_flow_from_a_video_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a video holds no flow; expected precomputed flow"):
        open_frames(tmp_path / "clip.mp4", 10.0, channels=2)


def test_files_that_are_no_videos(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text, empty, folder = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "folder"
    text.write_text("this is no video")
    empty.touch()
    folder.mkdir()
    other, deep, flat = (tmp_path / name for name in ("other", "deep", "flat"))
    for path in (other / "notes.txt", deep / ".trash/v.mp4", deep / "day1/text.mp4", flat / "text.mp4"):
        path.parent.mkdir(parents=True)
        path.write_bytes(text.read_bytes())
    broken = tmp_path / "images" / "a.png"
    broken.parent.mkdir()
    broken.write_bytes(b"no png")
    for source, message in [
        (text, "not a video that FFmpeg can open"),
        (empty, "the file is empty"),
        (folder, r"folder: the folder is empty, expected videos \(.*\.mp4, .*\) or the images of one \(.*\.png, .*\)$"),
        (other, r"other: got a folder without videos and images, expected videos \("),
        (
            deep,
            r"deep: the folder holds videos only in its folders, as day1/text\.mp4; give --recursive \(recursive=Tr",
        ),
        (flat, r"flat: the folder holds videos, as text\.mp4, and is none itself; give the videos one by one"),
        (broken.parent, "a.png: not a readable image"),
    ]:
        with pytest.raises(VideoError, match=message):
            list(open_frames(source, 10.0))
    assert "VIDEOIO" not in capfd.readouterr().err


def test_a_video_shorter_than_one_sample(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", 2, 30.0)
    with pytest.raises(VideoError, match=r"2 frames in 0\.0667 s are less than one frame at the model's 10 fps"):
        list(open_frames(path, 10.0))


def cut_copy(tmp_path: Path, keep: float) -> Path:
    whole = write_video(tmp_path / "whole.avi", 100, 30.0)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * keep)])
    return cut


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    path = cut_copy(tmp_path, 0.5)
    taken = []
    with pytest.raises(VideoError, match=r"holds \d+ of the 100 frames that it declares"):
        taken.extend(open_frames(path, 10.0))
    with pytest.warns(VideoWarning, match=r"\d+ of the 100"):
        allowed = numbers(open_frames(path, 10.0, allow_truncated=True))
    assert allowed == list(range(2, 3 * len(allowed), 3))
    assert 5 < len(allowed) < 30


def test_a_header_that_is_a_little_wrong_is_no_error(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(open_frames(cut_copy(tmp_path, 0.93), 10.0))) >= 28


def test_errors_of_a_users_iterable_come_through() -> None:
    def failing() -> Iterator[np.ndarray]:
        yield grey(1)[0]
        raise RuntimeError("camera unplugged")

    frames = open_frames(failing(), 10.0)
    next(frames)
    with pytest.raises(RuntimeError, match="camera unplugged"):
        next(frames)


def frame_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "afsd-frames"]


def test_closing_early_ends_the_reading_thread(tmp_path: Path) -> None:
    frames = open_frames(write_video(tmp_path / "clip.avi", 100, 30.0), 30.0, read_ahead=2)
    next(frames)
    assert len(frame_threads()) == 1
    frames.close()
    frames.close()
    assert not frame_threads()
    unread = open_frames(tmp_path / "clip.avi", 30.0)
    unread.close()
    assert not frame_threads()


def test_prefetch_keeps_order_bound_and_errors() -> None:
    produced: list[int] = []

    def items() -> Iterator[int]:
        for value in range(50):
            produced.append(value)
            yield value
        raise ValueError("the end")

    ahead = Prefetch(items(), depth=3)  # type: ignore[arg-type]
    assert next(ahead) == 0
    time.sleep(0.05)
    assert len(produced) <= 1 + 3 + 1
    taken = []
    with pytest.raises(ValueError, match="the end"):
        taken.extend(ahead)
    assert produced == list(range(50))
    assert not frame_threads()


def test_preparation_runs_once_per_kept_frame_outside_the_main_thread(tmp_path: Path) -> None:
    seen: list[bool] = []

    def prepare(frame: np.ndarray) -> np.ndarray:
        seen.append(threading.current_thread() is threading.main_thread())
        return frame[:2, :2]

    path = write_video(tmp_path / "clip.avi", 30, 30.0)
    taken = list(open_frames(path, 10.0, prepare=prepare))
    assert [frame.shape for frame in taken] == [(2, 2, 3)] * 10
    assert seen == [False] * 10


def test_a_camera_of_negative_number_is_refused() -> None:
    with pytest.raises(InputError, match="camera -1: got a negative number, expected 0 for the first camera"):
        open_frames(-1, 10.0)
