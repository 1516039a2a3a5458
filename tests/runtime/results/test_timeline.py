"""The timeline: what is drawn where."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.annotations.activitynet import Instance, VideoAnnotation
from runtime.errors import InputError
from runtime.results.canvas import Canvas, blend, readable_on
from runtime.results.detections import Detections
from runtime.results.timeline import PALETTE, TRUTH, assign_lanes, draw_timeline, format_time, save_image

CLASSES = ("jump", "throw")


def some(score: float = 1.0) -> Detections:
    return Detections(np.array([[5.0, 7.5]]), np.array([1], np.int32), np.array([score]), CLASSES, "v")


def columns_of(image: NDArray[np.uint8], colour: tuple[int, int, int], top: int = 80) -> NDArray[np.intp]:
    """Columns in which at least four pixels below the header have the colour."""
    return np.flatnonzero((image[top:] == np.array(colour, np.uint8)).all(axis=2).sum(axis=0) >= 4)


def test_empty() -> None:
    image = draw_timeline(Detections.empty(CLASSES, "v"))
    assert image.shape[1:] == (1600, 3)
    assert image.dtype == np.uint8
    assert not len(columns_of(image, PALETTE[0]))


def test_a_bar_spans_its_time() -> None:
    """Columns of [5, 7.5] of 10 s: from the middle of the axis to three quarters of it."""
    image = draw_timeline(some(), duration_s=10)
    bar = columns_of(image, PALETTE[1])
    label = Canvas(1, 1).text_width("throw", 14)
    left, right = 28 + label + 18, 1600 - 28
    assert abs(bar[0] - (left + 0.5 * (right - left))) <= 1.5
    assert abs(bar[-1] - (left + 0.75 * (right - left))) <= 1.5


def test_a_class_keeps_its_colour_where_it_is_the_only_one() -> None:
    alone = draw_timeline(some(), duration_s=10)
    both = Detections(np.array([[5.0, 7.5], [0, 1]]), np.array([1, 0], np.int32), np.ones(2), CLASSES, "v")
    assert len(columns_of(alone, PALETTE[1])) == len(columns_of(draw_timeline(both, duration_s=10), PALETTE[1])) > 300
    assert not len(columns_of(alone, PALETTE[0]))


def test_the_score_is_the_strength_of_the_colour() -> None:
    def fill(score: float) -> int:
        image = draw_timeline(some(score), duration_s=10)
        return int(image[95, 1000].astype(int).sum())

    assert fill(0.0) > fill(0.3) > fill(0.6) > fill(1.0)


def test_truth_is_drawn_and_its_classes_have_rows() -> None:
    annotation = VideoAnnotation("v", "test", 10.0, None, (Instance(0, 5, "jump"),))
    without, with_truth = draw_timeline(some(), duration_s=10), draw_timeline(some(), truth=annotation)
    assert len(with_truth) > len(without)
    marks = columns_of(with_truth, TRUTH)
    bar = columns_of(with_truth, PALETTE[1])
    assert abs(int(marks[-1]) - int(bar[0])) <= 2


def test_lanes() -> None:
    segments = np.array([[0, 4], [1, 3], [3, 6], [5, 7], [0, 9]], np.float64)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.1])
    assert assign_lanes(segments, scores, 2).tolist() == [0, 1, 1, 0, -1]
    assert assign_lanes(np.empty((0, 2)), np.empty(0), 2).tolist() == []


def test_height_is_bounded_and_hidden_detections_are_counted() -> None:
    def crowd(count: int) -> Detections:
        return Detections(np.tile([[0.0, 9.0]], (count, 1)), np.zeros(count, np.int32), np.full(count, 0.5), CLASSES)

    assert len(draw_timeline(crowd(500))) == len(draw_timeline(crowd(7))) > len(draw_timeline(crowd(2)))
    first_bar = [columns_of(draw_timeline(crowd(n)), blend(PALETTE[0], 0.78))[0] for n in (6, 7, 500)]
    assert first_bar[0] < first_bar[1] < first_bar[2]  # the label grows by "+1" and by "+494"


@pytest.mark.parametrize("name", ["x", "a class with a long name", "a class with a name that never ends " * 6])
def test_labels_are_never_clipped(name: str) -> None:
    detections = Detections(np.array([[5.0, 7.5]]), np.zeros(1, np.int32), np.ones(1), (name,), "v")
    image = draw_timeline(detections, duration_s=10, width=800).astype(int)
    row = image[79:110, :20]
    assert (row == row[0, 0]).all()  # the margin is left free


def test_thumbnails_are_shown() -> None:
    red = np.zeros((90, 160, 3), np.uint8)
    red[..., 0] = 255
    image = draw_timeline(some(), duration_s=10, thumbnails=[red] * 40)
    assert len(columns_of(image, (255, 0, 0), top=0)) > 1000
    tall = np.zeros((2000, 3, 3), np.uint8)
    draw_timeline(some(), thumbnails=[tall, np.zeros((3, 20000, 3), np.uint8)])


@pytest.mark.parametrize(
    ("seconds", "step", "text"),
    [
        (0.5, 0.1, "0.5 s"),
        (40, 5, "40 s"),
        (30, 30, "0:30"),
        (80, 5, "1:20"),
        (3600, 600, "1:00:00"),
        (7325, 60, "2:02:05"),
    ],
)
def test_format_time(seconds: float, step: float, text: str) -> None:
    assert format_time(seconds, step) == text


def test_written_whole(tmp_path: Path) -> None:
    image = draw_timeline(some())
    save_image(image, tmp_path / "t.png")
    np.testing.assert_array_equal(np.asarray(cv2.imread(str(tmp_path / "t.png")))[..., ::-1], image)
    with pytest.raises(InputError, match=r"use \.png"):
        save_image(image, tmp_path / "t.xyz")
    assert [p.name for p in tmp_path.iterdir()] == ["t.png"]


@pytest.mark.parametrize("arguments", [{"width": 100}, {"duration_s": 0.0}, {"thumbnails": [np.zeros((4, 4))]}])
def test_bad_arguments(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError):
        draw_timeline(some(), **arguments)  # type: ignore[arg-type]


def test_colours() -> None:
    assert blend((10, 20, 30), 0) == (255, 255, 255)
    assert blend((10, 20, 30), 1) == (10, 20, 30)
    assert readable_on((0, 0, 0)) == (255, 255, 255)
    assert readable_on((255, 255, 255)) != (255, 255, 255)
