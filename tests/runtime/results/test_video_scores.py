"""Video-level scores: the file's form, labels for proposals, and what it refuses."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.errors import AnnotationError, InputError
from runtime.jobs.plan import plan_jobs
from runtime.jobs.work import named_for, require_labels
from runtime.results.detections import Detections
from runtime.results.video_scores import VideoScores, load_video_scores
from runtime.video.sources import NamedSource

CLASSES = ["Archery", "Ballet", "Bowling"]


def write(path: Path, results: Any, classes: Any = CLASSES) -> Path:
    path.write_text(json.dumps({"results": results, "class": classes}), encoding="utf-8")
    return path


def proposals(video: str) -> Detections:
    segments = np.array([[0.0, 2.0], [1.0, 4.0]])
    return Detections(segments, np.zeros(2, np.int32), np.array([0.9, 0.4]), ("action",), video)


@pytest.mark.parametrize("stored", ["abc", "v_abc"])
@pytest.mark.parametrize("asked", ["abc", "v_abc"])
def test_the_best_class_labels_every_proposal(tmp_path: Path, stored: str, asked: str) -> None:
    scores = load_video_scores(write(tmp_path / "scores.json", {stored: [0.1, 0.7, 0.2]}))
    assert asked in scores
    found = scores.label(proposals(asked))
    assert found.classes == tuple(CLASSES)
    assert found.video == "abc"
    assert [(one.label, one.start_s, one.end_s) for one in found] == [("Ballet", 0.0, 2.0), ("Ballet", 1.0, 4.0)]
    np.testing.assert_allclose(found.scores, [0.9 * 0.7, 0.4 * 0.7])


def test_more_classes_and_no_proposals(tmp_path: Path) -> None:
    scores = load_video_scores(write(tmp_path / "scores.json", {"abc": [0.1, 0.7, 0.2]}))
    found = scores.label(proposals("abc"), 2)
    assert [one.label for one in found] == ["Ballet", "Ballet", "Bowling", "Bowling"]
    np.testing.assert_allclose(found.scores, [0.63, 0.28, 0.18, 0.08])
    assert len(scores.label(Detections.empty(("action",), "abc"), 3)) == 0


def test_what_cannot_be_labelled(tmp_path: Path) -> None:
    scores = load_video_scores(write(tmp_path / "scores.json", {"abc": [0.1, 0.7, 0.2]}))
    with pytest.raises(InputError, match="none for the video 'xyz'; expected one of 1 ids such as 'abc'"):
        scores.label(proposals("xyz"))
    with pytest.raises(InputError, match="the model distinguishes 2 classes itself"):
        scores.label(Detections.empty(("jump", "throw"), "abc"))
    for top_k in (0, 4):
        with pytest.raises(InputError, match=f"top_k: got {top_k}, expected 1 … 3"):
            scores.label(proposals("abc"), top_k)


@pytest.mark.parametrize(
    ("results", "classes", "message"),
    [
        ([], CLASSES, 'expected the keys "results"'),
        ({}, None, 'expected the keys "results"'),
        ({}, [], '"class" must be a list of different names'),
        ({}, ["a", "a"], '"class" must be a list of different names'),
        ({"abc": [0.1, 0.9]}, CLASSES, "video 'abc' has 2 values, expected a list of 3 numbers"),
        ({"abc": 0.5}, CLASSES, "video 'abc' has float, expected a list of 3 numbers"),
        ({"abc": [0.1, "much", 0.2]}, CLASSES, "video 'abc' has 3 values, expected a list of 3 numbers"),
        ({"abc": [0.1, math.nan, 0.2]}, CLASSES, "video 'abc' has the score nan for class 1, expected finite"),
        ({"abc": [0.1, 0.2, math.inf]}, CLASSES, "the score inf for class 2"),
        ({"abc": [-0.1, 0.2, 0.3]}, CLASSES, "the score -0.1 for class 0"),
    ],
)
def test_files_it_refuses(tmp_path: Path, results: Any, classes: Any, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        load_video_scores(write(tmp_path / "scores.json", results, classes))


def test_a_video_named_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text('{"class": ["a"], "results": {"v": [0.1], "v": [0.9]}}')
    with pytest.raises(AnnotationError, match="'v' is there twice"):
        load_video_scores(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="expected a file of video-level scores"):
        load_video_scores(tmp_path / "nowhere.json")
    (tmp_path / "text.json").write_text("not json")
    with pytest.raises(AnnotationError, match="not JSON"):
        load_video_scores(tmp_path / "text.json")


def test_videos_of_a_tree_are_known_by_their_paths_or_their_files_names(tmp_path: Path) -> None:
    scores = {"day1/x": np.array([0.9, 0.1]), "x": np.array([0.2, 0.8]), "day3/v_y": np.array([0.5, 0.5])}
    labels = VideoScores(("jump", "throw"), scores)
    found = Detections(np.array([[1.0, 2.0]]), np.array([0], np.int32), np.array([0.5]), ("action",), "x")
    for name, label, called in (("day1/x", "jump", "day1/x"), ("day2/x", "throw", "x"), ("x", "throw", "x")):
        path = tmp_path / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        (job,) = plan_jobs([NamedSource(str(path), name)], labelled=True)
        require_labels(labels, job)
        labelled = labels.label(named_for(labels, job, found))
        assert ([one.label for one in labelled], labelled.video) == ([label], called)
    (tmp_path / "day1" / "z.mp4").touch()
    (job,) = plan_jobs([NamedSource(str(tmp_path / "day1" / "z.mp4"), "day1/z")], labelled=True)
    with pytest.raises(InputError, match="none for the video 'z'"):
        require_labels(labels, job)
    assert "day3/y" in labels
    assert labels.label(replace(found, video="day3/v_y")).video == "day3/y"
