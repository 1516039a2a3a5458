"""The plans of camera videos: what they promise about times, and that a seed gives one plan."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from training.camera.edit import CUT_LABEL_S, Edit, brightness, plan_edit, visible
from training.camera.moves import LABELS
from training.synthetic.scene import VideoSeed


@pytest.fixture(scope="module")
def edits() -> list[Edit]:
    return [plan_edit(VideoSeed(4, "training", i), shortest_s=30, longest_s=60) for i in range(60)]


def test_a_seed_gives_one_plan() -> None:
    def plan(seed: int, subset: str) -> list[object]:
        edit = plan_edit(VideoSeed(seed, subset, 0), shortest_s=20, longest_s=20)
        return [edit.fps, edit.frames, *edit.events()]

    assert plan(1, "training") == plan(1, "training")
    assert plan(1, "training") != plan(2, "training")
    assert plan(1, "training") != plan(1, "testing")


def test_all_classes_come_about_as_often(edits: list[Edit]) -> None:
    counts = Counter(event.label for edit in edits for event in edit.events())
    assert tuple(sorted(counts)) == LABELS
    assert min(counts.values()) > 0.25 * max(counts.values())


def test_events_lie_within_the_video_and_last(edits: list[Edit]) -> None:
    for edit in edits:
        assert edit.duration_s >= 30
        for event in edit.events():
            assert 0 <= event.start_s < event.end_s <= edit.duration_s
            assert event.end_s - event.start_s > 0.3
            if event.label == "cut" and 0.5 < event.start_s < edit.duration_s - 1.5:
                assert event.end_s - event.start_s == pytest.approx(CUT_LABEL_S)


def test_events_of_one_class_do_not_overlap(edits: list[Edit]) -> None:
    for edit in edits:
        for label in set(LABELS) - {"cut"}:  # cuts may follow each other within the length of their segments
            same = [event for event in edit.events() if event.label == label]
            assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(same))


def test_every_frame_shows_a_shot_and_its_shares_sum_to_one(edits: list[Edit]) -> None:
    for edit in edits[:10]:
        for k in range(edit.frames):
            assert sum(share for _, share in visible(edit, k)) == pytest.approx(1.0)


def test_a_fade_darkens_and_lights_up_within_its_segment_alone(edits: list[Edit]) -> None:
    seen = 0
    for edit in edits:
        share = np.array([brightness(edit, k)[0] for k in range(edit.frames)])
        for transition in (t for t in edit.transitions if t.label == "fade"):
            first, end = transition.span
            part = share[first:end]
            assert (part < 1).all()
            assert part.min() < 0.35
            lowest = int(part.argmin())
            assert (np.diff(part[: lowest + 1]) <= 0).all()
            assert (np.diff(part[lowest:]) >= 0).all()
            share[first:end] = 1.0
            seen += 1
        assert (share == 1).all()
    assert seen > 20
