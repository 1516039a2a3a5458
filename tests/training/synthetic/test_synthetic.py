"""The synthetic videos: reproducible, readable, and silent about their classes in any single frame."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.cli import main
from runtime.errors import AnnotationError, InputError
from training.synthetic.motion import ACTION_LABELS, AMPLITUDE, Action, compute_action_pose
from training.synthetic.render import render
from training.synthetic.scene import LONGEST_S, SHORTEST_S, Scene, VideoSeed, plan_scene
from training.synthetic.videos import VideoFormat, make_entry, make_synthetic

SHORT = VideoFormat(size=48, shortest_s=6.0, longest_s=9.0)


def scenes(count: int, subset: str = "train") -> list[Scene]:
    return [plan_scene(VideoSeed(1, subset, i), fps=30.0, shortest_s=20.0, longest_s=120.0) for i in range(count)]


def with_action(scene: Scene, *actions: Action) -> Scene:
    return dataclasses.replace(scene, actions=actions)


def decoded(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        good, frame = capture.read()
        if not good:
            return frames
        frames.append(frame[..., ::-1])


@pytest.mark.parametrize(
    "arguments", [{"videos": 0}, {"videos": 1, "seed": -1}, {"videos": 1, "subset": "a/b"}, {"videos": 1, "subset": ""}]
)
def test_bad_arguments_are_errors(tmp_path: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        make_synthetic(tmp_path, **{"seed": 1, "subset": "train", **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [{"size": 15}, {"size": 8}, {"fps": 0.0}, {"shortest_s": 5.0, "longest_s": 4.0}])
def test_bad_formats_are_errors(arguments: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        VideoFormat(**arguments)  # type: ignore[arg-type]


def test_files_agree_with_the_annotations_and_the_rendering(tmp_path: Path) -> None:
    path = make_synthetic(tmp_path, videos=2, seed=3, subset="train", video_format=SHORT, workers=1)
    document = json.loads(path.read_text())
    assert sorted(document["database"]) == ["train_0000", "train_0001"]
    assert sorted(p.name for p in (tmp_path / "videos").iterdir()) == ["train_0000.mp4", "train_0001.mp4"]
    for index, (name, entry) in enumerate(document["database"].items()):
        scene = plan_scene(VideoSeed(3, "train", index), fps=30.0, shortest_s=6.0, longest_s=9.0)
        assert entry == make_entry(scene)
        frames = decoded(tmp_path / "videos" / f"{name}.mp4")
        assert len(frames) == scene.frames == round(entry["duration"] * entry["fps"])
        for got, want in zip(frames, render(scene, 48), strict=True):
            assert np.abs(got.astype(int) - want).mean() < 12  # what the codec loses


def test_a_video_does_not_depend_on_count_or_workers(tmp_path: Path) -> None:
    one = make_synthetic(tmp_path / "a", videos=1, seed=3, subset="train", video_format=SHORT, workers=1)
    two = make_synthetic(tmp_path / "b", videos=2, seed=3, subset="train", video_format=SHORT, workers=2)
    entries = [json.loads(path.read_text())["database"]["train_0000"] for path in (one, two)]
    assert entries[0] == entries[1]
    videos = [(path.parent / "videos/train_0000.mp4").read_bytes() for path in (one, two)]
    assert videos[0] == videos[1]


def test_subsets_live_side_by_side_and_differ(tmp_path: Path) -> None:
    make_synthetic(tmp_path, videos=2, seed=3, subset="train", video_format=SHORT, workers=1)
    make_synthetic(tmp_path, videos=1, seed=3, subset="validation", video_format=SHORT, workers=1)
    path = make_synthetic(tmp_path, videos=2, seed=3, subset="train", video_format=SHORT, workers=1)
    database = json.loads(path.read_text())["database"]
    assert sorted(database) == ["train_0000", "train_0001", "validation_0000"]
    assert database["train_0000"]["duration"] != database["validation_0000"]["duration"]


def test_another_set_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["make-synthetic", str(tmp_path), "--size", "48", "--shortest", "2", "--longest", "3", "--workers", "1"]
    assert main([*command, "--videos", "2", "--seed", "3"]) == 0
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    holds = f"{tmp_path}/annotations.json: holds 2 videos of the subset training"
    capsys.readouterr()
    for flags, message in (
        (["--videos", "2", "--seed", "4"], f"{holds}, made with seed 3, not 4; choose another folder or --subset, or"),
        (["--videos", "2", "--seed", "3", "--longest", "4"], f"{holds}, made with longest_s 3.0, not 4.0; choose"),
        (["--videos", "1", "--seed", "3"], f"{holds}, and 1 are fewer; choose another folder"),
    ):
        assert main([*command, *flags]) == 2
        assert message in capsys.readouterr().err
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    assert main([*command, "--videos", "2", "--seed", "3"]) == 0  # the same set
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    assert main([*command, "--videos", "1", "--seed", "4", "--overwrite"]) == 0
    document = json.loads((tmp_path / "annotations.json").read_text())
    assert document["made"]["training"]["seed"] == 4
    assert sorted(document["database"]) == ["training_0000"]
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["training_0000.mp4"]
    del document["made"]  # as an older release wrote it
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    assert main([*command, "--videos", "1", "--seed", "4"]) == 2
    assert "holds 1 video of the subset training and does not say with which seed" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", '{"database": {}}', '{"version": "VERSION 1.3", "database": {}}'])
def test_a_foreign_annotation_file_is_not_overwritten(content: str, tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_text(content)
    with pytest.raises(AnnotationError, match="choose another folder"):
        make_synthetic(tmp_path, videos=1, seed=1, subset="train", video_format=SHORT, workers=1)
    assert (tmp_path / "annotations.json").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["annotations.json"]


def test_schedule_is_what_it_promises() -> None:
    actions, overlapping, seconds = [], 0, 0.0
    for scene in scenes(150):
        seconds += scene.duration_s
        for action in scene.actions:
            assert 0.5 <= action.start_s < action.end_s <= scene.duration_s - 0.5
            others = [o for o in scene.actions if o is not action]
            meeting = [o for o in others if o.start_s < action.end_s and action.start_s < o.end_s]
            assert all(o.actor != action.actor for o in meeting)
            overlapping += bool(meeting)
        actions += scene.actions
    lengths = np.array([a.end_s - a.start_s for a in actions])
    assert lengths.min() >= SHORTEST_S - 1e-3
    assert lengths.max() <= LONGEST_S + 1e-3
    assert 6 < seconds / len(actions) < 10
    assert 0.09 < overlapping / len(actions) < 0.19
    counts = [sum(a.label == label for a in actions) for label in ACTION_LABELS]
    assert min(counts) > 0.8 * max(counts)


@pytest.mark.parametrize("label", ACTION_LABELS)
def test_an_action_begins_and_ends_in_the_resting_pose(label: str) -> None:
    times = np.array([0.0, 1.999, 2.0, 2.1, 4.9999999, 5.0, 6.0])
    pose = compute_action_pose(Action(label, 2.0, 5.0, 0, AMPLITUDE[label][0], 3, 0.3), times)
    added = np.stack([pose.x, pose.y, pose.log_size, pose.angle])
    assert np.abs(added[:, [0, 1, 2, 4, 5, 6]]).max() < 1e-6
    assert np.abs(added[:, 3]).max() > 0.4 * AMPLITUDE[label][0]


@pytest.mark.parametrize("sense", [1, -1])
def test_circles_turn_and_diagonals_lean_by_their_sense(sense: int) -> None:
    times = np.linspace(0, 1, 50, endpoint=False)
    pose = compute_action_pose(Action("circle", 0.0, 1.0, 0, 0.1, 1, 0.7, sense), times)
    dx, dy = np.diff(pose.x), np.diff(pose.y)
    turning = dx[:-1] * dy[1:] - dy[:-1] * dx[1:]  # positive: to the right, as y points down
    assert (np.sign(turning) == sense).all()
    diagonal = compute_action_pose(Action("shake_diagonal", 0.0, 1.0, 0, 0.1, 1, 0.7, sense), times)
    np.testing.assert_allclose(diagonal.y, sense * diagonal.x)


def test_frames_without_an_action_are_the_same_whatever_the_class() -> None:
    """So neither the looks, the places nor the wandering can give the class away."""
    scene = plan_scene(VideoSeed(1, "train", 0), fps=10.0, shortest_s=6.0, longest_s=6.0)
    idle = list(render(with_action(scene), 48))
    for label in ACTION_LABELS:
        action = Action(label, 2.0, 4.0, 1, AMPLITUDE[label][0], 2, 0.2)
        acting = list(render(with_action(scene, action), 48))
        changed = {i for i in range(60) if not np.array_equal(acting[i], idle[i])}
        assert changed <= set(range(20, 40))
        assert changed >= set(range(20, 40)) - {20, 25, 30, 35}  # where a swing passes through rest


@pytest.mark.parametrize("label", ACTION_LABELS)
def test_the_mirror_image_of_an_action_is_of_the_same_class(label: str) -> None:
    """So that the horizontal flip of training keeps labels true."""
    times = np.linspace(0, 1, 30)
    pose = compute_action_pose(Action(label, 0.0, 1.0, 0, 0.1, 1, 0.1, 1), times)
    mirrored = [
        compute_action_pose(Action(label, 0.0, 1.0, 0, 0.1, 1, phase, sense), times)
        for phase in (0.1, 0.4, 0.6)
        for sense in (1, -1)
    ]
    turned = -1 if label == "rock" else 1  # a mirror also turns the other way
    assert any(
        np.allclose(-pose.x, m.x, atol=1e-9) and np.allclose(pose.y, m.y, atol=1e-9)
        and np.allclose(pose.log_size, m.log_size) and np.allclose(turned * pose.angle, m.angle)
        for m in mirrored
    )  # fmt: skip


def test_poses_during_actions_overlap_with_those_at_rest() -> None:
    """Size and place of an object alone say little about whether it acts: a threshold on either is near chance."""
    resting: list[list[float]] = [[], []]
    acting: list[list[float]] = [[], []]
    for scene in scenes(40):
        times, poses = scene.times()[::15], scene.poses()
        for number, pose in enumerate(poses):
            active = np.zeros(len(times), bool)
            for action in scene.actions:
                active |= (action.actor == number) & (times >= action.start_s) & (times < action.end_s)
            for k, values in enumerate((pose.log_size[::15], np.abs(pose.x[::15] - 0.5))):
                resting[k] += values[~active].tolist()
                acting[k] += values[active].tolist()
    for still, moving in zip(resting, acting, strict=True):
        cuts = np.quantile(still, np.linspace(0.05, 0.95, 19))
        gain = max(abs(np.mean(np.array(still) < c) - np.mean(np.array(moving) < c)) for c in cuts)
        assert gain < 0.25  # Kolmogorov–Smirnov distance; 1 would be a give-away
