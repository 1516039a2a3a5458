"""The video files: readable, as annotated, reproducible from a seed, and never over files of others."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from runtime.annotations.activitynet import load_annotations
from runtime.errors import AnnotationError
from training.camera.edit import plan_edit
from training.camera.footage import load_footage
from training.camera.moves import LABELS
from training.camera.render import render
from training.camera.sources import SOURCES
from training.camera.videos import make_camera_videos, make_entry
from training.synthetic.scene import VideoSeed
from training.synthetic.videos import make_synthetic


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays of noise by the names of the pictures and clips, so that no package is needed."""
    folder = tmp_path_factory.mktemp("footage")
    rng = np.random.default_rng(0)
    for source in SOURCES:
        frames = rng.integers(0, 256, (1 if source.span_s is None else 4, 30, 40, 3), np.uint8)
        np.save(folder / f"{source.name}.npy", frames.repeat(4, 1).repeat(4, 2))
    return folder


def make(out: Path, footage: Path, videos: int = 1, workers: int = 1, seed: int = 3) -> Path:
    lengths = {"shortest_s": 4.0, "longest_s": 4.0}
    return make_camera_videos(out, footage, videos=videos, seed=seed, subset="testing", workers=workers, **lengths)


def test_files_agree_with_the_annotations_and_the_rendering(footage: Path, tmp_path: Path) -> None:
    path = make(tmp_path, footage)
    edit = plan_edit(VideoSeed(3, "testing", 0), shortest_s=4, longest_s=4)
    assert json.loads(path.read_text())["database"] == {"testing_0000": make_entry(edit)}
    (truth,) = load_annotations(path, "testing")
    assert {instance.label for instance in truth.instances} <= set(LABELS)
    with av.open(str(tmp_path / "videos" / "testing_0000.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == edit.frames
    for got, want in zip(frames, render(edit, load_footage(footage, "testing")), strict=True):
        assert got.shape == want.shape
        assert np.abs(got.astype(int) - want).mean() < 25  # what the codec loses of noise


@pytest.mark.thorough
def test_a_video_does_not_depend_on_count_or_workers_but_on_its_seed(footage: Path, tmp_path: Path) -> None:
    make(tmp_path / "one", footage)
    make(tmp_path / "two", footage, videos=2, workers=2)
    make(tmp_path / "other", footage, seed=4)
    files = [(tmp_path / name / "videos" / "testing_0000.mp4").read_bytes() for name in ("one", "two", "other")]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_videos_of_another_kind_are_not_mixed_in(footage: Path, tmp_path: Path) -> None:
    make(tmp_path, footage)
    with pytest.raises(AnnotationError, match="not a synthetic annotation file"):
        make_synthetic(tmp_path, videos=1, seed=1, subset="testing")
