"""Jobs on a local Ray: several actors, one killed in its work, files that are none; the results are the commands'."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.cli import main
from runtime.engines import EngineOptions
from runtime.errors import InputError
from runtime.fleet import features as on_features
from runtime.fleet import pool
from runtime.fleet.detection import detect_dataset
from runtime.fleet.features import extract_features_dataset
from runtime.fleet.options import FleetOptions
from runtime.fleet.running import run_on_actors
from tests.hostile_workers import (
    DEADLY,
    KILLED,
    HostileDetectionWorker,
    HostileFeatureWorker,
    SlowWorker,
    StillbornWorker,
)
from tests.local_ray import ROOT, TOKEN, local_ray, wait_until_gone
from tests.tiny import write_tiny_onnx
from tests.tiny_backbone import write_tiny_backbone
from tests.videos import write_video

pytestmark = pytest.mark.thorough

FLEET = FleetOptions(actors=2, cpus_per_actor=0.5, retries=1)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with local_ray() as ray:
        yield ray


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of all files below a folder, by their paths in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Five short videos, one of them no video, one during which a process is killed, one that always kills its own."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number, name in enumerate(["a", "b", KILLED, DEADLY]):
        write_video(folder / f"{name}.avi", level=60 + 40 * number, frames=40 + 8 * number)
    (folder / "c.avi").write_bytes(b"RIFF" + bytes(range(256)) * 8)
    return folder


@pytest.mark.usefixtures("ray")
def test_features_are_those_of_the_command(
    tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (videos / f"{DEADLY}.avi").unlink()
    (videos / "day1").mkdir()
    (videos / "b.avi").rename(videos / "day1" / "a.avi")
    backbone = write_tiny_backbone(tmp_path / "rgb.onnx")
    monkeypatch.setattr(on_features, "FeatureWorker", HostileFeatureWorker)
    seen: list[str] = []
    summary = extract_features_dataset(
        [videos], backbone, out=tmp_path / "ray", fleet=FLEET, recursive=True, on_video=lambda one, _: seen.append(one)
    )
    assert [(failure.video, failure.kind) for failure in summary.failures] == [("c", "VideoError")]
    assert (summary.done, summary.skipped, len(seen)) == (3, 0, 4)
    assert (tmp_path / "kills.log").read_text().count(f"{KILLED}.avi") == 1

    command = ["features", str(videos), "--recursive", "--backbone", str(backbone), "--device", "cpu", "--threads", "1"]
    assert main([*command, "--out", str(tmp_path / "plain")]) == 2  # c is no video
    plain, ours = content(tmp_path / "plain"), content(tmp_path / "ray")
    assert {"rgb/a.npy", "rgb/day1/a.npy", f"rgb/{KILLED}.npy", "features.json", "extraction.json"} < plain.keys()
    assert ours.keys() == plain.keys()
    for name in plain:  # in files of several videos those that were finished first stand first
        same = (
            json.loads(ours[name]) == json.loads(plain[name]) if name.endswith(".json") else ours[name] == plain[name]
        )
        assert same, name
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "ray")]) == 2
    assert capsys.readouterr().out.count("are there already") == 3


TABLES = {"detections.parquet", "failures.parquet", "detections.jsonl"}


@pytest.mark.usefixtures("ray")
def test_detections_are_those_of_the_command_and_each_skips_what_the_other_has_done(
    tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("fsspec")
    (videos / "day1").mkdir()
    (videos / "b.avi").rename(videos / "day1" / "a.avi")
    model = write_tiny_onnx(tmp_path / "tiny.onnx", None)
    monkeypatch.setattr(pool, "DetectionWorker", HostileDetectionWorker)
    job: dict[str, Any] = {"score": 0.1, "formats": ["json", "csv"], "engine": EngineOptions(), "fleet": FLEET}
    job["recursive"] = True
    write_video(tmp_path / "d.avi", level=180)
    sources = [str(videos), f"local://{tmp_path}/d.avi"]  # the second as fsspec reads an object store
    found = detect_dataset(sources, model, out=tmp_path / "ray", **job)
    assert [(failure.video, failure.kind) for failure in found.summary.failures] == [
        ("c", "VideoError"),
        (DEADLY, "ActorDied"),
    ]
    deadly = found.summary.failures[1].error
    assert deadly.startswith(f"{videos}/{DEADLY}.avi: the process that worked on it died 2 times: killed, ")
    assert (found.summary.done, found.summary.skipped) == (4, 0)
    kills = (tmp_path / "kills.log").read_text()
    assert (kills.count(f"{KILLED}.avi"), kills.count(f"{DEADLY}.avi")) == (1, 2)
    assert sorted((tmp_path / "runs.log").read_text().split()) == ["a", "d", "day1/a", KILLED]

    (videos / f"{DEADLY}.avi").unlink()
    flags = ["--recursive", "--score", "0.1", "--format", "json", "csv", "--device", "cpu", "--threads", "1"]
    command = ["detect", str(model), *sources, *flags]
    assert main([*command, "--out", str(tmp_path / "plain")]) == 2  # c is no video
    plain, ours = content(tmp_path / "plain"), content(tmp_path / "ray")
    assert {
        "a.json",
        "a.csv",
        "day1/a.json",
        "day1/a.csv",
        f"{KILLED}.json",
        "all.csv",
        "failures.jsonl",
    } < plain.keys()
    assert ours.keys() - TABLES == plain.keys()
    failures, shared = "failures.jsonl", ".afsd/shared.json"  # the first has the times, the second the tables
    same = plain.keys() - {failures, shared}
    assert {name: ours[name] for name in same} == {name: plain[name] for name in same}
    assert json.loads(plain[shared]).items() < json.loads(ours[shared]).items()
    lines = {line["video"]: line for line in map(json.loads, ours[failures].decode().splitlines())}
    (line,) = map(json.loads, plain[failures].decode().splitlines())
    assert {key: lines["c"][key] for key in line if key != "time"} == {key: line[key] for key in line if key != "time"}

    table = pandas.read_parquet(tmp_path / "ray/detections.parquet")
    results = {}
    for name in ("a", "day1/a", KILLED, "d"):
        results |= json.loads(ours[f"{name}.json"])["results"]
    assert len(table) == sum(map(len, results.values())) > 0
    for name, entries in results.items():
        rows = table[table["video"] == name]
        assert list(zip(rows["label"], rows["score"], rows["start_s"], rows["end_s"], strict=True)) == [
            (entry["label"], entry["score"], *entry["segment"]) for entry in entries
        ]
    assert set(table["path"]) == {*(str(videos / f"{name}.avi") for name in ("a", "day1/a", KILLED)), sources[1]}
    assert list(dict.fromkeys(table["video"])) == ["a", "day1/a", KILLED, "d"]
    assert table["fps"].eq(10.0).all()
    assert [json.loads(line)["score"] for line in ours["detections.jsonl"].decode().splitlines()] == list(
        table["score"]
    )
    failed = pandas.read_parquet(tmp_path / "ray/failures.parquet")
    assert list(failed["video"]) == ["c", DEADLY]
    assert found.dataset.count() == len(table)

    again = detect_dataset(sources, model, out=tmp_path / "ray", **job)
    assert (again.summary.done, again.summary.skipped, len(again.summary.failures)) == (0, 4, 1)
    other = detect_dataset(sources, model, out=tmp_path / "plain", **job)
    assert (other.summary.done, other.summary.skipped) == (0, 4)
    assert len((tmp_path / "runs.log").read_text().split()) == 4
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "ray")]) == 2
    assert len((tmp_path / "runs.log").read_text().split()) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_results_go_into_an_object_store(
    tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An actor killed in its work leaves nothing half done there; the command without Ray skips what is done."""
    pytest.importorskip("fsspec")
    (videos / f"{DEADLY}.avi").unlink()
    model = write_tiny_onnx(tmp_path / "tiny.onnx", None)
    monkeypatch.setattr(pool, "DetectionWorker", HostileDetectionWorker)
    out, engine = f"local://{tmp_path}/store", EngineOptions()
    job = detect_dataset([videos], model, out=out, score=0.1, formats=["json", "csv"], engine=engine, fleet=FLEET)
    assert (job.summary.done, [failed.video for failed in job.summary.failures]) == (3, ["c"])
    assert (tmp_path / "kills.log").read_text().count(f"{KILLED}.avi") == 1
    flags = ["--score", "0.1", "--format", "json", "csv", "parquet", "jsonl", "--device", "cpu", "--threads", "1"]
    command = ["detect", str(model), str(videos), *flags]
    assert main([*command, "--out", str(tmp_path / "plain")]) == 2
    plain, ours = content(tmp_path / "plain"), content(tmp_path / "store")
    assert (
        ours.keys() - {".afsd/failures/c.json", "failures.parquet"} == plain.keys() > {"a.json", "detections.parquet"}
    )
    assert all(ours[name] == plain[name] for name in plain if "records" not in name and name != "failures.jsonl")
    assert job.dataset.count() == len(plain["detections.jsonl"].splitlines())
    runs = (tmp_path / "runs.log").read_text()
    capsys.readouterr()
    assert main([*command, "--out", out]) == 2
    assert "afsd: 3 videos are done already" in capsys.readouterr().err
    assert (tmp_path / "runs.log").read_text() == runs
    some = detect_dataset([videos / "b.avi"], model, out=out, score=0.1, engine=engine, formats=["json"])
    assert some.summary.skipped == 1
    assert set(some.dataset.to_pandas()["video"]) == {"b"}  # the table has the others, too


@pytest.mark.slow
def test_a_video_may_take_longer_than_ray_data_waits(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.data.DataContext.get_current(), "execution_no_progress_timeout_s", 1.0)
    (outcome,) = run_on_actors([4.0], SlowWorker, {}, FLEET)
    assert (outcome.work.state, outcome.wall_seconds > 3.9) == ("done", True)


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_actors_that_die_before_they_work_end_the_job_in_one_line() -> None:
    with pytest.raises(InputError, match="the process that opened the model died 2 times: killed, out of memory; "):
        list(run_on_actors([1.0, 1.0], StillbornWorker, {}, FLEET))


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_a_job_stops_at_too_many_failures() -> None:
    seen: list[str] = []
    job = run_on_actors(["x"] * 20, SlowWorker, {}, replace(FLEET, max_errors=1))
    with pytest.raises(InputError, match=r"2 videos failed, more than 1, so the job stops; the last error: unforeseen"):
        seen.extend(outcome.work.state for outcome in job)
    assert seen == ["failed", "failed"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_the_command_starts_ray_and_ends_with_it(tmp_path: Path, number: int, status: int) -> None:
    """Ended in its work, it leaves whole files and no process; run again it does the rest."""
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    model, videos, out = write_tiny_onnx(tmp_path / "tiny.onnx", None), tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    for level in range(6):
        write_video(videos / f"{level}.avi", level=40 + 20 * level, frames=600)
    words = ["detect", str(model), str(videos), "--score", "0.1", "--threads", "1"]
    on_ray = [sys.executable, "-m", "runtime", *words, "--out", str(out), "--ray", "local", "--actors", "1"]
    ours = tempfile.mkdtemp(prefix="afsd-ray-", dir="/tmp")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": ours, "RAY_AUTH_TOKEN": TOKEN}
    try:
        with subprocess.Popen(on_ray, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert "0.avi: " in process.stdout.readline()  # the first is done, the second in work
            process.send_signal(number)
            process.stdout.read()
            assert process.wait(10) == status
        wait_until_gone(ours)
        done = subprocess.run(on_ray, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert " done already, by the records in " in done.stderr
        wait_until_gone(ours)
    finally:
        shutil.rmtree(ours, ignore_errors=True)
    assert main([*words, "--out", str(tmp_path / "plain")]) == 0
    assert content(out) == content(tmp_path / "plain")
