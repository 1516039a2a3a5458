"""Parts of a job on Ray that need no Ray: options, what an actor answers, tables, and what is refused at once."""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.cli import main, make_parser
from runtime.commands.flags.ray import fleet_options
from runtime.detector import DetectorOptions
from runtime.engines import EngineOptions
from runtime.errors import InputError, MissingDependencyError, VideoError, VideoWarning
from runtime.features.video_features import Features
from runtime.fleet.actors import ITEM, OUTCOME, Attempts, VideoActor, WorkingFolder
from runtime.fleet.detection import detect_dataset
from runtime.fleet.engines import share_engine
from runtime.fleet.features import extract_features_dataset
from runtime.fleet.options import FleetOptions
from runtime.fleet.outcome import Outcome, Work
from runtime.fleet.places import first_relative, require_shared, shared_folder
from runtime.fleet.running import _check_environment, connected, look_for_room
from runtime.fleet.shares import choose_shares
from runtime.fleet.summary import FailedVideo, FleetTally
from runtime.fleet.tables import write_failures
from runtime.jobs.failures import Failure
from runtime.jobs.row_tables import require_own_tables
from tests.tiny import tiny_spec, write_tiny_onnx
from tests.videos import write_video


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"actors": 0}, "actors: got 0, expected 1"),
        ({"actors": (3, 2)}, "actors: got 3 … 2, expected the least before the most"),
        ({"actors": (1, 0)}, "actors: got 0, expected 1"),
        ({"gpus_per_actor": 1.5}, "gpus_per_actor: got 1.5, expected a part of one GPU, or whole ones"),
        ({"cpus_per_actor": -1}, "cpus_per_actor: got -1, expected 0"),
        ({"retries": -1}, "retries: got -1, expected 0"),
        ({"address": "videos/"}, "address of Ray: got 'videos/'; expected local, auto, or HOST:PORT of the cluster's"),
        ({"address": "ray://head:10001"}, "Ray Data does not work from outside of the cluster; run the job on one of"),
    ],
)
def test_options_out_of_range_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        FleetOptions(**given)
    assert said in str(error.value)


def test_addresses_of_clusters_are_taken() -> None:
    for address in (None, "auto", "local", "head:6379", "10.0.0.1:6379", "[fe80::1]:6379"):
        assert FleetOptions(address=address).address == address


def test_the_engine_of_an_actor_has_what_ray_gave_the_actor() -> None:
    plain = EngineOptions()
    assert share_engine(plain, FleetOptions(cpus_per_actor=2.5)).threads == 2
    assert share_engine(plain, FleetOptions(cpus_per_actor=0.5)).threads == 1
    assert share_engine(EngineOptions(threads=7), FleetOptions()).threads == 7
    on_gpu = share_engine(plain, FleetOptions(gpus_per_actor=0.25))
    assert (on_gpu.device, on_gpu.threads) == ("gpu:0", None)
    assert share_engine(EngineOptions(device="cpu"), FleetOptions(gpus_per_actor=1)).device == "cpu"
    with pytest.raises(InputError, match=r"device: got gpu with no GPU per actor; give gpus_per_actor"):
        share_engine(EngineOptions(device="gpu"), FleetOptions())
    with pytest.raises(InputError, match="Ray chooses the GPU of each actor"):
        share_engine(EngineOptions(device="gpu:1"), FleetOptions(gpus_per_actor=1))


def cluster(*machines: tuple[float, float]) -> Any:
    """A cluster of machines by their CPUs and GiB of memory; one that is lost has more than any."""
    nodes = [{"Alive": True, "Resources": {"CPU": cpus, "memory": gib * 2.0**30}} for cpus, gib in machines]
    return SimpleNamespace(nodes=lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 64.0, "memory": 1e12}}])


@pytest.mark.parametrize(
    ("machines", "given", "heavy", "cpus", "gib"),
    [
        ([(64, 100)], {}, True, 4, 2),  # 16 actors, not 64
        ([(64, 100)], {}, False, 1, 0.5),
        ([(2, 16), (3, 1.5)], {}, True, 3, 1.5),  # no machine has four CPUs: that of most has room for one
        ([(0.5, 100)], {}, False, 0.5, 0.5),
        ([], {}, True, 4, 2),  # machines may join
        ([(0, 0)], {}, True, 4, 2),
        ([(64, 100)], {"gpus_per_actor": 0.25}, True, 1, 2),  # no machine has a GPU yet
        ([(64, 100)], {"cpus_per_actor": 8, "memory_per_actor": 0}, True, 8, 0),
    ],
)
def test_what_an_actor_gets_unless_the_job_says(
    machines: list[tuple[float, float]], given: dict[str, Any], heavy: bool, cpus: float, gib: float
) -> None:
    chosen = choose_shares(cluster(*machines), FleetOptions(**given), heavy=heavy)
    assert (chosen.cpus, chosen.memory_per_actor) == (cpus, gib * 2**30)
    assert replace(chosen, cpus_per_actor=None, memory_per_actor=None) == replace(
        FleetOptions(**given), cpus_per_actor=None, memory_per_actor=None
    )


class Fussy:
    """Works on words, each of which fails, or not, in its own way."""

    def __init__(self, opens: bool = True) -> None:
        if not opens:
            raise InputError("the model is not there")

    def work(self, item: str) -> Work:
        if item == "odd":
            raise ValueError("line one\nline \x1b[2J two")
        if item == "bad":
            raise VideoError("bad.mp4: no video")
        if item == "gone":
            raise FileNotFoundError(2, "No such file or directory", "gone.mp4")
        if item == "large":
            raise MemoryError
        warnings.warn("the end is missing", VideoWarning, stacklevel=1)
        return Work("done", item.upper(), 2.5)


def ask(actor: VideoActor, key: int, item: object) -> Outcome:
    outcome: Outcome = pickle.loads(actor({ITEM: pickle.dumps((key, item))})[OUTCOME])
    return outcome


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    """Counts attempts in this process."""
    attempts = Attempts()
    monkeypatch.setattr(VideoActor, "_begin", lambda self, key: attempts.begin(key))
    monkeypatch.setattr(VideoActor, "_silence", lambda self, key: attempts.silence(key))
    monkeypatch.setattr(VideoActor, "_forget", lambda self, key: attempts.forget(key))
    monkeypatch.setattr(VideoActor, "_name", lambda self: "77")
    return attempts


def test_whatever_is_wrong_with_a_video_is_its_outcome(
    counted: Attempts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path.cwd()
    try:
        actor = VideoActor(Fussy, {}, WorkingFolder(str(tmp_path)), None, 1)
        assert Path.cwd() == tmp_path  # relative paths hold
    finally:
        os.chdir(before)
    good = ask(actor, 0, "good")
    assert (good.key, good.work, good.warnings) == (0, Work("done", "GOOD", 2.5), ("the end is missing",))
    assert (good.process, bool(good.host)) == (os.getpid(), True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    odd = ask(actor, 1, "odd").work.failure
    assert odd is not None
    assert odd.message.startswith("unforeseen ValueError: line one line \\u001b[2J two; the traceback is in ")
    assert "test_fleet_parts.py" in next(tmp_path.glob("afsd-*.log")).read_text()
    failures = [ask(actor, key, item).work.failure for key, item in enumerate(["bad", "gone", "large"], 2)]
    assert failures == [
        Failure("VideoError", "bad.mp4: no video"),
        Failure("FileNotFoundError", "gone.mp4: No such file or directory; choose another"),
        Failure("MemoryError", "out of memory (no more is free); give it more, or less work"),
    ]
    for _ in range(2):  # two actors have died of number 9
        counted.begin(9)
    assert ask(actor, 8, "good").work.state == "done"
    died = ask(actor, 9, "good").work
    assert died.failure is not None
    assert (died.state, died.failure.kind) == ("failed", "ActorDied")
    assert died.failure.message.startswith("the process that worked on it died 2 times: ")


def test_a_video_that_hung_is_not_begun_again(counted: Attempts, tmp_path: Path) -> None:
    actor = VideoActor(Fussy, {}, WorkingFolder(str(tmp_path / "not there")), None, 5)
    counted.begin(3)
    counted.hang(3, 601.2)
    work = ask(actor, 3, "good").work
    assert work.failure == Failure(
        "ActorHung", "no progress for 601 s, so its process was ended; --patience gives it longer"
    )
    counted.begin(4)  # its process was killed: it is
    assert ask(actor, 4, "good").work.state == "done"


@pytest.mark.usefixtures("counted")
def test_an_actor_that_cannot_work_refuses_with_its_machine(tmp_path: Path) -> None:
    actor = VideoActor(Fussy, {"opens": False}, WorkingFolder(str(tmp_path / "not there")), None, 1)
    outcome = ask(actor, 0, "good")
    assert outcome.work.state == "refused"
    assert outcome.work.error == f"{outcome.host}: the model is not there"


@pytest.mark.usefixtures("counted")
def test_an_actor_does_no_job_with_relative_paths_where_its_working_folder_is_not(tmp_path: Path) -> None:
    """Else they would be looked up in a folder of Ray's, and results written there."""
    folder = WorkingFolder(str(tmp_path / "not there"), "videos/a.mp4")
    outcome = ask(VideoActor(Fussy, {}, folder, None, 1), 0, "good")
    assert outcome.work.state == "refused"
    assert outcome.work.error == (
        f"{outcome.host}: videos/a.mp4: counts from {tmp_path}/not there, in which the job was started, and this "
        "machine does not see that folder (No such file or directory); give absolute paths that all machines see, or "
        "URLs"
    )


def test_relative_paths_of_a_job_are_found(tmp_path: Path) -> None:
    whole = [
        tmp_path / "out",
        "/a/b.mp4",
        "s3://bucket/a.mp4",
        "file:///a.mp4",
        "-",
        None,
        Features(tmp_path / "f.npy"),
    ]
    assert first_relative(whole) == ""
    assert first_relative([*whole, "a.mp4"]) == "a.mp4"
    assert first_relative([*whole, Features((tmp_path / "rgb.npy", Path("flow/f.npy")))]) == "flow/f.npy"


def test_an_actor_that_died_in_its_opening_opens_no_more(counted: Attempts, tmp_path: Path) -> None:
    folder = WorkingFolder(str(tmp_path / "not there"))
    for _ in range(3):  # each opening is whole, so none counts
        assert ask(VideoActor(Fussy, {}, folder, None, 1), 0, "good").work.state == "done"
        counted.forget(0)
    for _ in range(2):
        counted.begin("opening of 77")
    outcome = ask(VideoActor(Fussy, {}, folder, None, 1), 0, "good")
    assert outcome.work.state == "refused"
    assert outcome.work.error.startswith(f"{outcome.host}: the process that opened the model died 2 times: killed, ")


def test_a_folder_that_a_machine_does_not_see_is_told_from_one_that_it_sees(tmp_path: Path) -> None:
    with shared_folder(tmp_path / "out") as mark:
        require_shared(mark)
        assert Path(mark).parent == tmp_path / "out"
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(InputError, match="does not see this folder of the machine that started the job; write to"):
        require_shared(mark)


def test_a_summary_counts_and_keeps_the_order_of_the_videos() -> None:
    tally = FleetTally([("a", "x/a.mp4"), ("b", "b.mp4"), ("c", "c.mp4"), ("d", "d.mp4")])
    outcomes = [
        Outcome(2, Work("failed", failure=Failure("VideoError", "c: no")), process=5, host="m"),
        Outcome(1, Work("done", None, 36.0), process=6, host="m"),
        Outcome(0, Work("failed", failure=Failure("VideoError", "a: no")), process=6, host="m"),
        Outcome(3, Work("skipped")),
    ]
    assert list(tally.count(outcomes)) == outcomes
    summary = tally.summary()
    assert summary.failures == (
        FailedVideo("a", "x/a.mp4", "VideoError", "a: no"),
        FailedVideo("c", "c.mp4", "VideoError", "c: no"),
    )
    assert (summary.done, summary.skipped, summary.videos, summary.actors) == (1, 1, 4, 2)
    assert str(summary).startswith("1 of 4 videos done; 1 there already; 2 failed; 0.01 hours of video in ")


def test_the_table_of_failures_holds_names_that_are_no_text(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    write_failures(tmp_path, [FailedVideo("c\udcff", "c\udcff.mp4", "VideoError", "c: no\nvideo")])
    failures = pandas.read_parquet(tmp_path / "failures.parquet").to_dict("records")
    assert failures == [{"video": "c\\udcff", "path": "c\\udcff.mp4", "kind": "VideoError", "error": "c: no\nvideo"}]
    require_own_tables(tmp_path, ["failures.parquet"])  # its own is written over
    write_failures(tmp_path, [])
    assert list(pandas.read_parquet(tmp_path / "failures.parquet").columns) == ["video", "path", "kind", "error"]


@pytest.mark.parametrize("pair", [False, True], ids=["one model", "a pair"])
def test_what_is_done_needs_no_ray_and_is_in_the_tables(
    pair: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    model, videos = write_tiny_onnx(tmp_path / "tiny.onnx", None), tmp_path / "videos"
    videos.mkdir()
    write_video(videos / "a.avi", frames=40)
    write_video(videos / "b.avi", frames=40, level=200)
    out = tmp_path / "out"
    flow = write_tiny_onnx(tmp_path / "flow.onnx", tiny_spec("flow")) if pair else None
    flags = ["--flow-engine", str(flow), "--flow-method", "dis"] if pair else []
    assert main(["detect", str(model), str(videos), "--score", "0.1", "--out", str(out), *flags]) == 0
    monkeypatch.setitem(sys.modules, "ray", None)
    options = DetectorOptions(flow_method="dis" if pair else "auto")
    job = detect_dataset([videos], model, out=out, score=0.1, flow_engine=flow, options=options)
    assert (job.summary.done, job.summary.skipped, job.summary.failures) == (0, 2, ())
    results = [json.loads((out / f"{name}.json").read_text())["results"][name] for name in "ab"]
    table = pandas.read_parquet(out / "detections.parquet")
    assert list(table["score"]) == [entry["score"] for entries in results for entry in entries]
    assert len(table)
    with pytest.raises(MissingDependencyError, match=r"a job on Ray needs ray.*\.\[ray\]"):
        detect_dataset([videos], model, out=tmp_path / "other")
    capsys.readouterr()


def test_a_job_that_ends_early_leaves_the_tables_of_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    model, out = write_tiny_onnx(tmp_path / "tiny.onnx", None), tmp_path / "out"
    write_video(tmp_path / "a.avi", frames=40)
    (tmp_path / "b.avi").write_bytes(b"none")
    words = ["detect", str(model), str(tmp_path / "a.avi"), "--score", "0.1", "--format", "json", "csv"]
    assert main([*words, "--out", str(out)]) == 0
    capsys.readouterr()

    def fail_once(*_: object) -> Iterator[Outcome]:
        yield Outcome(0, Work("failed", failure=Failure("VideoError", "b.avi: not a video")))
        raise InputError("1 videos failed, more than 0, so the job stops")

    monkeypatch.setattr("runtime.fleet.detection.detect_on_actors", fail_once)
    with pytest.raises(InputError, match="so the job stops"):
        detect_dataset([tmp_path], model, out=out, score=0.1, formats=["json", "csv"])
    assert set(pandas.read_parquet(out / "detections.parquet")["video"]) == {"a"}
    assert list(pandas.read_parquet(out / "failures.parquet")["error"]) == ["b.avi: not a video"]
    assert {line.split(",")[0] for line in (out / "all.csv").read_text().splitlines()[1:]} == {"a"}
    assert [json.loads(line)["video"] for line in (out / "failures.jsonl").read_text().splitlines()] == ["b"]


def test_sources_without_an_end_are_refused_before_anything_starts(tmp_path: Path) -> None:
    model = write_tiny_onnx(tmp_path / "tiny.onnx", None)
    for source in ("rtsp://camera/1", "0", "-"):
        with pytest.raises(InputError, match="a job on Ray reads files and URLs that have an end"):
            detect_dataset([source], model, out=tmp_path / "out")
        with pytest.raises(InputError, match="a job on Ray reads files and URLs that have an end"):
            extract_features_dataset([source], model, out=tmp_path / "out")
    with pytest.raises(InputError, match="sources: got none"):
        detect_dataset([], model)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--actors", "2"], "--actors: belongs to a job on Ray; give --ray ADDRESS with it, or leave it out"),
        (["--gpus-per-actor", "1"], "--gpus-per-actor: belongs to a job on Ray"),
        (["--ray", "local", "--actors", "two"], "--actors: got 'two', expected a number, or the least and the most"),
        (["--ray", "local", "--actors", "8-2"], "actors: got 8 … 2, expected the least before the most"),
        (["--resources", "decoder=1"], "--resources: belongs to a job on Ray"),
        (
            ["--ray", "local", "--resources", "decoder"],
            "--resources: got 'decoder', expected NAME=N,… with numbers above",
        ),
        (
            ["--ray", "local", "--resources", "a=1,a=2"],
            "--resources: got 'a=1,a=2', expected NAME=N,… with numbers above",
        ),
        (["--ray", "local", "--resources", "a=nan"], "--resources: got 'a=nan', expected NAME=N,…"),
        (["--ray", "local", "--resources", "GPU=1"], "--resources: GPU has a flag of its own; give --gpus-per-actor"),
        (["--ray", "local", "--memory-per-actor", "-1"], "--memory-per-actor: got -1, expected 0"),
        (
            ["--ray", "local", "--runtime-env", "no.json"],
            "no.json: file not found; expected a runtime environment of Ray",
        ),
        (["--ray", "local", "--workers", "2"], "--workers: are processes of this machine"),
        (["--ray", "local", "--stream"], "--stream prints what is final at once"),
    ],
)
def test_flags_that_do_not_fit_are_refused_in_one_line(
    tmp_path: Path, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", str(tmp_path / "m.onnx"), str(tmp_path / "v.mp4"), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_what_an_actor_needs_is_given_by_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "env.json").write_text('{"env_vars": {"AWS_REGION": "eu-west-1"}}')
    words = ["detect", "m.onnx", "v.mp4", "--ray", "auto", "--memory-per-actor", "3072", "--retries", "1"]
    words += ["--resources", "decoder=1, disk=0.5", "--runtime-env", str(tmp_path / "env.json")]
    arguments = make_parser().parse_args(words)
    assert fleet_options(arguments) == FleetOptions(
        address="auto",
        memory_per_actor=3 * 2**30,
        resources={"decoder": 1.0, "disk": 0.5},
        runtime_env={"env_vars": {"AWS_REGION": "eu-west-1"}},
        retries=1,
    )
    (tmp_path / "env.json").write_text('["pip"]')
    with pytest.raises(InputError, match=r"--runtime-env .*env\.json: expected a runtime environment of Ray, such as"):
        fleet_options(arguments)


@pytest.mark.thorough
def test_a_runtime_environment_that_ray_refuses_is_one_line() -> None:
    """Ray's own check is asked before an actor is."""
    pytest.importorskip("ray")
    _check_environment(FleetOptions())
    with pytest.raises(InputError, match=r"^runtime_env: runtime_env\['env_vars'\] must be .*; expected what Ray doc"):
        _check_environment(FleetOptions(runtime_env={"env_vars": {"A": 1}}))


def test_ray_that_is_missing_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[ray\]'"), connected():
        pass


def test_machines_without_room_for_an_actor_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines with four CPUs each have no room for an actor of eight."""
    machines = [
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0, "memory": 2e9}},
        {"Alive": True, "Resources": {"CPU": 4.0, "memory": 8e9}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0, "memory": 9e9}},
    ]
    ray = SimpleNamespace(nodes=lambda: machines)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        look_for_room(ray, FleetOptions(cpus_per_actor=4, gpus_per_actor=0.5, memory_per_actor=10**9))
    with pytest.warns(VideoWarning, match="an actor needs 8 CPU, and no machine has more than 4 now; the job waits"):
        look_for_room(ray, FleetOptions(cpus_per_actor=8))
    with pytest.warns(VideoWarning, match=r"needs 1 CPU, 0.5 GPU, 4e\+09 memory at once, and no machine has that now"):
        look_for_room(ray, FleetOptions(gpus_per_actor=0.5, memory_per_actor=4 * 10**9))
    monkeypatch.setattr("runtime.fleet.running._alone", SimpleNamespace(get=lambda: True))
    with pytest.raises(InputError, match="an actor needs 1 decoder, and no machine has more than 0; ask for less"):
        look_for_room(ray, FleetOptions(resources={"decoder": 1}))
