"""The shipped checkpoint: small, honest about how it was made, and good on videos nobody has seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from export.demo import SHIPPED, demo, make_once
from runtime.annotations.activitynet import load_annotations
from runtime.detector import Detector
from runtime.evaluation import evaluate
from runtime.evaluation.annotated_videos import detect_annotated
from runtime.results.detections import Detections
from runtime.video.names import find_video
from runtime.video.resize import FramePreparation
from runtime.video.sampling import open_frames
from tests.slow import plain_detections
from training.checkpoints.files import load_checkpoint
from training.deployment.views import open_torch_engine
from training.synthetic.videos import VideoFormat, make_synthetic


def test_it_is_small_and_says_how_it_was_made() -> None:
    assert SHIPPED.stat().st_size <= 4_000_000
    checkpoint = load_checkpoint(SHIPPED)
    assert checkpoint.training == {}
    assert checkpoint.config.name == "synthetic"
    assert len(checkpoint.classes) == 6
    assert checkpoint.metrics["training_minutes"] <= 15
    assert checkpoint.metrics["mAP"]["0.5"] >= 0.80
    assert checkpoint.metrics["average_mAP"] >= 0.70
    assert checkpoint.metrics["seed"] == checkpoint.config.run.seed


@pytest.mark.thorough
def test_it_finds_actions_in_unseen_videos(tmp_path: Path) -> None:
    short = VideoFormat(shortest_s=30, longest_s=60)
    annotations = make_synthetic(tmp_path, videos=4, seed=99, subset="unseen", video_format=short)
    truth = load_annotations(annotations, "unseen")
    found = detect_annotated(
        Detector(open_torch_engine(SHIPPED)), truth, [find_video(tmp_path / "videos", video.name) for video in truth]
    )
    result = evaluate(found, truth)
    assert sum(result.truths) >= 15
    assert result.average >= 0.5  # few instances, so far below what the full test set gives


@pytest.mark.thorough
def test_run_and_stream_give_what_soft_nms_over_all_windows_gives(tmp_path: Path) -> None:
    short = VideoFormat(shortest_s=40, longest_s=41)
    make_synthetic(tmp_path, videos=1, seed=98, subset="unseen", video_format=short)
    engine = open_torch_engine(SHIPPED)
    spec, video = engine.spec, tmp_path / "videos" / "unseen_0000.mp4"
    prepare = FramePreparation(spec.frame_size, spec.crop_size)
    with open_frames(video, spec.sample_fps, prepare=prepare) as source:
        frames = np.stack(list(source))

    def outputs_at(offset: int) -> dict[str, NDArray[np.float32]]:
        taken = frames[offset : offset + spec.window_length]
        return engine.infer({"frames": taken[None], "lengths": np.array([len(taken)], np.int32)})

    assert len(frames) > spec.window_length
    want = plain_detections(
        outputs_at,
        len(frames),
        spec.level_lengths,
        spec.window_length,
        spec.window_stride,
        len(spec.classes),
        spec.sample_fps,
    )
    detector = Detector(engine)
    parts = list(detector.stream(video))
    assert len(parts) > 1
    for found in (detector.run(video), Detections.concatenate(parts)):
        rows = sorted(zip(found.labels, *found.segments.T, found.scores, strict=True))
        np.testing.assert_allclose(rows, want, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_demo_runs_and_writes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(tmp_path, videos=2) == 0
    said = capsys.readouterr().out
    assert "mAP" in said
    assert "V100" in said
    assert "kept from an earlier run" not in said
    made = {name: (tmp_path / name).stat() for name in ("synthetic.onnx", "synthetic.xml", "data/annotations.json")}
    for name in (*made, "detections.json", "timeline.png"):
        assert (tmp_path / name).stat().st_size > 0
    assert demo(tmp_path, videos=2) == 0
    assert capsys.readouterr().out.count("kept from an earlier run") == 2
    assert all((tmp_path / name).stat().st_mtime_ns == before.st_mtime_ns for name, before in made.items())


def test_the_demo_makes_anew_what_is_missing_unfinished_or_of_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, made = tmp_path / "file", []

    def make() -> None:
        made.append(len(made))
        file.write_text("x")

    def fail() -> None:
        raise KeyboardInterrupt

    def again(options: str = "") -> int:
        make_once(tmp_path / "stamp", [file], make, options)
        return len(made)

    assert (again(), again()) == (1, 1)
    assert (again("6"), again("6")) == (2, 2)
    file.unlink()
    assert (again("6"), again("6")) == (3, 3)
    with pytest.raises(KeyboardInterrupt):
        make_once(tmp_path / "stamp", [file], fail, "7")
    assert (again("6"), again("6")) == (4, 4)  # what was left by the interrupted run is not trusted
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "new.py").write_text("")
    monkeypatch.setattr("export.demo.ROOT", tmp_path)
    assert (again("6"), again("6")) == (5, 5)
