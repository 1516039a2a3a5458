"""The study of speed: its videos, its clock, runs in processes of their own, and the page that it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from export.studies.speed import measure
from export.studies.speed.__main__ import main
from export.studies.speed.bars import BLUE, ORANGE, Bar, draw_bars
from export.studies.speed.measure import Clock, Measurements, Part, describe_length
from export.studies.speed.models import Models
from export.studies.speed.page import write_page
from export.studies.speed.study import LengthRun, Study, read_study, write_study
from export.studies.speed.videos import make_video, repeat_frames
from export.to_streaming import export_streaming
from runtime.benchmark.machine import describe_machine
from runtime.benchmark.report import FORMAT, Report, report_from_mapping
from runtime.errors import EngineError, InputError
from tests.conftest import Exported
from tests.shared import ROOT
from tests.tiny import tiny_spec


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of two seconds that gets brighter."""
    path = tmp_path_factory.mktemp("scene") / "scene.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (64, 48))
    for level in np.linspace(20, 230, 60):
        writer.write(np.full((48, 64, 3), round(level), np.uint8))
    writer.release()
    return path


def test_a_scene_is_repeated_without_being_encoded_anew(scene: Path, tmp_path: Path) -> None:
    path = make_video(scene, tmp_path, 48, 6)
    assert path.name == "48p_6s.mp4"
    with av.open(path) as file:
        frames = [(frame.pts, frame.to_ndarray(format="gray")) for frame in file.decode(video=0)]
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 86, 48)
        tick = float(stream.time_base or 0)
    stamps = [stamp * tick for stamp, _ in frames if stamp is not None]
    assert len(frames) == 180
    assert np.diff(stamps) == pytest.approx(1 / 30, abs=tick)
    levels = [float(image.mean()) for _, image in frames]
    assert levels[59] - levels[0] > 150
    for again in (60, 120):
        assert all(np.array_equal(frames[k][1], frames[again + k][1]) for k in (0, 17, 59))
    before = path.stat().st_mtime_ns
    assert make_video(scene, tmp_path, 48, 6).stat().st_mtime_ns == before


def test_frames_in_memory_are_those_of_the_file(scene: Path, tmp_path: Path) -> None:
    path = make_video(scene, tmp_path, 48, 2)
    frames = list(repeat_frames(path, tiny_spec(), 40))
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((8, 10, 3), "uint8")}
    assert len(frames) == 40
    assert np.array_equal(frames[3], frames[19])  # windows of 16 frames
    assert frames[15].mean() > frames[0].mean() + 50


def test_a_part_that_does_not_fit_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    said: list[str] = []
    clock = Clock(minutes=3, say=said.append, _start=0.0)

    def spend(seconds: float) -> None:
        now[0] += seconds

    def fail() -> None:
        raise EngineError("broken")

    clock.run([
        Part("first", 50, lambda: spend(100)),  # this machine takes twice as long
        Part("second", 45, lambda: spend(90)),  # 100 s and 90 s more are above 180 s
        Part("third", 30, lambda: spend(60)),
        Part("broken", 1, fail),
    ])  # fmt: skip
    assert clock.seconds == {"first": 100, "third": 60}
    assert clock.left_out == ["second: needs about 1.5 minutes more (--minutes)", "broken: broken"]
    assert any("left out, second" in text for text in said)


@pytest.mark.thorough
def test_a_video_of_any_length_runs_in_a_process_of_its_own(exported: Exported, scene: Path, tmp_path: Path) -> None:
    video = make_video(scene, tmp_path, 48, 6)
    peaks = []
    for source, seconds in (("file", 6), ("memory", 30)):
        command = ["-m", "export.studies.speed.length", str(exported.openvino), str(video), str(seconds), source]
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT, check=True)
        run = json.loads(done.stdout)
        assert run["video_s"] == pytest.approx(seconds, abs=0.11)
        assert run["source"] == source
        assert min(run[name] for name in ("fps", "core_ms", "post_ms")) > 0
        peaks.append(run["peak_mib"])
    assert 50 < min(peaks) <= max(peaks) < 2000


@pytest.mark.slow
def test_an_engine_that_cannot_run_is_a_row_less_and_a_reason(
    exported: Exported, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(origin: str) -> None:
        raise EngineError(f"{origin}: torch.compile needs a C++ compiler")

    monkeypatch.setattr("training.deployment.compiled.require_cpp_compiler", fail)
    stream = export_streaming(exported.onnx, tmp_path / "small.stream.xml", to="openvino", say=lambda _: None)
    plain = exported.openvino
    files = Models(exported.checkpoint, exported.onnx, plain, plain, stream, stream, "a small network")
    said: list[str] = []
    measured = Measurements(files, [plain], scene, tmp_path, quick=True, say=said.append)
    measured.engines()
    names = [m.name for m in measured.reports["engines"].measurements]
    assert names == ["PyTorch eager", "ONNX Runtime", "OpenVINO fp32", "OpenVINO bf16", "OpenVINO INT8"]
    assert [reason.partition(":")[0] for reason in measured.left_out] == ["PyTorch compiled", "PyTorch compiled bf16"]
    assert "needs a C++ compiler" in measured.left_out[0]
    measured.strides()
    rows = measured.reports["strides"].measurements
    assert [m.name for m in rows] == [
        f"{kind}, stride {stride}"
        for kind, strides in (
            ("INT8, windows", (16, 8, 4, 2)), ("INT8, each frame once", (16, 8)),
            ("bf16, windows", (16, 4)), ("bf16, each frame once", (16, 8)),
            ("fp32, windows", (16, 4)), ("fp32, each frame once", (16, 8)),
        )
        for stride in strides
    ]  # fmt: skip
    assert all(m.video_fps > 0 and m.runs == 0 for m in rows)
    bounds = [m.video_bound_fps for m in rows]
    assert bounds[:4] == sorted(bounds[:4], reverse=True)
    assert bounds[3] < bounds[0]  # on windows each frame is computed eight times as often


def study() -> Study:
    """A study of numbers written by hand."""
    facts: dict[str, Any] = {
        "name": "OpenVINO INT8", "library": "x 1", "device": "cpu", "precision": "int8", "batch": 1, "warmup": 6,
        "runs": 3, "median_ms": 200.0, "low_ms": 190.0, "high_ms": 250.0, "clip_fps": 1280.0, "windows_per_s": 5.0,
        "ratio": 4.0, "gflops": 800.0, "ceiling_share": 0.8, "clip_bound_fps": 1600.0,
    }  # fmt: skip
    video = facts | {"video_passes_fps": [390.0, 400.0, 420.0], "video_bound_fps": 500.0, "video_share": 0.8}
    torch = [
        facts | {"name": name, "clip_fps": fps} for name, fps in (("PyTorch eager", 160.0), ("PyTorch bf16", 320.0))
    ]
    content = {"format": FORMAT, "schema": 1, "ceilings": {"int8": 1000.0}, "machine": vars(describe_machine())}
    engines: Report = report_from_mapping({**content, "measurements": [*torch, facts]}, "by hand")
    videos: Report = report_from_mapping({**content, "measurements": [video]}, "by hand")
    return Study(
        machine=replace(describe_machine(), load=(3.0, 2.0, 1.0), cores=2),
        load_at_end=2.5,
        network="a network",
        source="videos made of a scene",
        reports={"engines": engines, "videos": videos, "resolution 240p": videos},
        lengths=(LengthRun("a.xml", 8 * 3600.0, "memory", 1234.0, 0.75, 321.0, 99999, 0.01),),
        left_out=("threads: needs about 3.0 minutes more",),
        seconds={"prepare": 1.0, "engines": 59.0},
        minutes=12.0,
    )


@pytest.mark.thorough
def test_the_page_says_what_the_json_holds_and_is_written_anew_from_it(tmp_path: Path) -> None:
    write_study(study(), tmp_path / "results.json")
    assert read_study(tmp_path / "results.json") == study()
    page = write_page(study(), tmp_path / "one")
    text = page.read_text(encoding="utf-8")
    for wanted in (
        "| OpenVINO INT8 | 200 (190 – 250) | 1,280 | 4.00 | 1,600 | 80% |",
        "| OpenVINO INT8 | 400 (395 – 410) | 500 | 80% |",
        "| a.xml | 8 hours | memory | 1,234 | 0.75 | 0.01 | 321 MiB | 99,999 |",
        "load 3 at the start, 2.5 at the end", "had other work", "int8 1,000", "- threads: needs about 3.0 minutes",
        "This run took 1.0 minutes",
    ):  # fmt: skip
        assert wanted in text, wanted
    pictures = {path.name for path in page.parent.glob("*.png")}
    assert pictures == {f"speed_{name}.png" for name in ("engines", "videos", "resolutions", "memory")}
    assert all(f"({name})" in text for name in pictures)
    command = [sys.executable, "-m", "export.studies.speed", "--from", str(tmp_path / "results.json")]
    done = subprocess.run(
        [*command, "--docs", str(tmp_path / "two")], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    for path in page.parent.iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


def test_a_page_of_others_and_files_that_are_no_studies(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for content, message in (
        ({"a": 1}, "no result of the study of speed; expected the JSON that make benchmark writes"),
        ({"format": "afsd speed study", "schema": 3}, "its schema is 3, this release reads 1; measure again"),
        ({"format": "afsd speed study", "schema": 1, "x": 1}, "damaged, or written by hand: x: unknown key"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=message):
            read_study(path)
    (tmp_path / "speed.md").write_text("my own page")
    arguments: Any = type("Arguments", (), {"docs": tmp_path, "results": path})
    with pytest.raises(InputError, match=r"speed\.md: is there already and no result of afsd"):
        main(arguments)


def test_bars_are_as_long_as_their_values() -> None:
    image = draw_bars("Title", "note", [Bar("a", 100), Bar("b", 50, bound=75)])

    def ends(colour: tuple[int, int, int]) -> list[tuple[int, int]]:
        """First and last pixel of a colour in the middle of each bar that has it."""
        rows = [84 + 17 + 34 * k for k in range(2)]
        found = [np.flatnonzero((image[row] == colour).all(axis=1)) for row in rows]
        return [(int(columns[0]), int(columns[-1])) if len(columns) else (0, 0) for columns in found]

    (left, right), (second_left, second_right) = ends(BLUE)
    assert left == second_left
    assert second_right - left == pytest.approx((right - left) / 2, abs=2)
    none, (mark, _) = ends(ORANGE)
    assert none == (0, 0)
    assert mark - left == pytest.approx((right - left) * 0.75, abs=2)


@pytest.mark.parametrize(
    ("seconds", "words"), [(60, "1 minute"), (600, "10 minutes"), (3600, "1 hour"), (28800, "8 hours")]
)
def test_lengths_in_words(seconds: float, words: str) -> None:
    assert describe_length(seconds) == words
