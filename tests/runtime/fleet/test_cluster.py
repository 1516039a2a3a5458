"""Jobs on a cluster of several machines: each is a raylet of its own on this one, as Ray's own tests have them."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.cli import main
from runtime.engines import EngineOptions
from runtime.errors import VideoWarning
from runtime.fleet import pool, running
from runtime.fleet.actors import Attempts
from runtime.fleet.detection import detect_dataset
from runtime.fleet.options import FleetOptions
from runtime.fleet.running import run_on_actors
from tests.hostile_workers import BlindDetectionWorker, PlaceWorker, SlowDetectionWorker
from tests.local_ray import ROOT, STORE_BYTES, TOKEN, wait_until_gone
from tests.tiny import write_tiny_onnx
from tests.videos import write_video

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without CPUs for actors, to which the tests add machines."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    utils = pytest.importorskip("ray.cluster_utils", reason="this Ray has no clusters for tests")
    folder = tempfile.mkdtemp(prefix="afsd-ray-", dir="/tmp")
    before = signal.getsignal(signal.SIGTERM)
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    machine = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    made = utils.Cluster(initialize_head=True, head_node_args={**machine, "temp_dir": folder})
    try:
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        signal.signal(signal.SIGTERM, before)
        wait_until_gone(folder)
        shutil.rmtree(folder, ignore_errors=True)


def add_machine(cluster: Any, **resources: Any) -> Any:
    """Add a machine with some CPUs or GPUs, which Ray believes."""
    return cluster.add_node(object_store_memory=STORE_BYTES, **resources)


def test_the_pool_grows_over_the_machines_while_videos_wait(cluster: Any) -> None:
    for _ in range(2):
        add_machine(cluster, num_cpus=1)
    fleet = FleetOptions(actors=(1, None), cpus_per_actor=1)
    outcomes = list(run_on_actors([2.0] * 12, PlaceWorker, {}, fleet))
    by_machine: dict[str, int] = defaultdict(int)
    for outcome in outcomes:
        by_machine[outcome.work.content[0]] += 1
    assert sorted(outcome.key for outcome in outcomes) == list(range(12))
    assert len(by_machine) == 2
    assert min(by_machine.values()) > 2


def test_a_job_that_waits_for_other_jobs_says_so(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    add_machine(cluster, num_cpus=1)
    monkeypatch.setattr(running, "WAIT_S", 1.0)
    other = ray.remote(num_cpus=1)(Attempts).remote()
    ray.get(other.videos.remote())  # has the only CPU now
    threading.Timer(8.0, lambda: ray.kill(other)).start()
    with pytest.warns(VideoWarning, match=r"Ray: no actor works after \d s; each needs 1 CPU on one machine"):
        (outcome,) = run_on_actors([0.0], PlaceWorker, {}, FleetOptions(actors=1))
    assert outcome.work.state == "done"


def test_actors_share_a_gpu_and_see_it_alone(cluster: Any) -> None:
    add_machine(cluster, num_cpus=4, num_gpus=1)
    add_machine(cluster, num_cpus=4, num_gpus=1)
    fleet = FleetOptions(actors=(4, None), cpus_per_actor=0.5, gpus_per_actor=0.5)
    outcomes = list(run_on_actors([1.0] * 16, PlaceWorker, {}, fleet))
    processes: dict[str, set[int]] = defaultdict(set)
    for outcome in outcomes:
        machine, gpus = outcome.work.content
        assert gpus == "0"
        processes[machine].add(outcome.process)
    assert [len(those) for those in processes.values()] == [2, 2]  # halves: no GPU has a third one


def test_videos_of_a_machine_that_is_lost_are_done_on_another(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its power is cut while both machines work; files and records are those of the command."""
    machines = [add_machine(cluster, num_cpus=1) for _ in range(2)]
    model, videos = write_tiny_onnx(tmp_path / "tiny.onnx", None), tmp_path / "videos"
    videos.mkdir()
    for number in range(8):
        write_video(videos / f"{number}.avi", level=40 + 20 * number, frames=60)
    monkeypatch.setattr(pool, "DetectionWorker", SlowDetectionWorker)
    done: list[str] = []
    lost = threading.Event()

    def cut(label: str, _: object) -> None:
        done.append(label)
        if len(done) == 3 and not lost.is_set():
            lost.set()
            cluster.remove_node(machines[1], allow_graceful=False)

    found = detect_dataset(
        [videos], model, out=tmp_path / "ray", score=0.1, engine=EngineOptions(), on_video=cut,
        fleet=FleetOptions(actors=(2, 2), cpus_per_actor=1, retries=2),
    )  # fmt: skip
    assert (found.summary.done, found.summary.failures) == (8, ())
    begun = [json.loads(line) for line in (tmp_path / "begun.log").read_text().splitlines()]
    assert len({each["machine"] for each in begun}) == 2
    words = ["detect", str(model), str(videos), "--score", "0.1", "--device", "cpu", "--threads", "1"]
    assert main([*words, "--out", str(tmp_path / "plain")]) == 0
    for path in sorted((tmp_path / "plain").rglob("*.json")):
        name = path.relative_to(tmp_path / "plain")
        assert (tmp_path / "ray" / name).read_bytes() == path.read_bytes(), name


def test_a_model_that_lies_only_where_the_job_is_started_is_sent_to_the_machines(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # of the machines, which start now
    for _ in range(2):
        add_machine(cluster, num_cpus=1)
    model, videos = write_tiny_onnx(tmp_path / "tiny.onnx", None), tmp_path / "videos"
    videos.mkdir()
    for number in range(4):
        write_video(videos / f"{number}.avi", level=40 + 40 * number, frames=60)
    monkeypatch.setattr(pool, "DetectionWorker", BlindDetectionWorker)
    found = detect_dataset(
        [videos], model, out=tmp_path / "ray", score=0.1, engine=EngineOptions(),
        fleet=FleetOptions(actors=(2, 2), cpus_per_actor=1),
    )  # fmt: skip
    assert (found.summary.done, found.summary.failures, found.summary.actors) == (4, (), 2)
    (entry,) = (tmp_path / "cache/afsd/models").iterdir()
    assert [path.read_bytes() for path in entry.iterdir()] == [model.read_bytes()]
    words = ["detect", str(model), str(videos), "--score", "0.1", "--device", "cpu", "--threads", "1"]
    assert main([*words, "--out", str(tmp_path / "plain")]) == 0
    for path in sorted((tmp_path / "plain").rglob("*.json")):
        name = path.relative_to(tmp_path / "plain")
        assert (tmp_path / "ray" / name).read_bytes() == path.read_bytes(), name
