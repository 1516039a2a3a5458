"""Worker processes: what comes back from them, and what their deaths cost."""

from __future__ import annotations

import logging
import os
import signal
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runtime.common import processors
from runtime.detector import DetectorOptions
from runtime.engines.options import EngineOptions
from runtime.errors import AfsdError
from runtime.jobs import worker_count
from runtime.jobs.plan import VideoJob, plan_jobs
from runtime.jobs.running import Listener, VideoOutcome, WorkerPlan
from runtime.jobs.settings import FileOptions, JobSettings
from runtime.jobs.worker_count import choose_workers, is_heavy, runs_on_gpu, share_devices, share_threads
from runtime.jobs.workers import DIED, HUNG, WorkerPool
from tests.tiny import tiny_spec, write_tiny_onnx
from tests.videos import write_video


def plan(model: Path, out: Path) -> WorkerPlan:
    files = FileOptions(("json",), 0.2, 0.2, str(model))
    return WorkerPlan(JobSettings(str(model), options=DetectorOptions(min_score=0.2), files=files), out)


@pytest.mark.thorough
def test_a_worker_that_dies_costs_its_video(tmp_path: Path) -> None:
    """A crash of a decoder is played by a kill as soon as a video is in work; a video that is none fails by itself."""
    model, out = write_tiny_onnx(tmp_path / "m.onnx", None), tmp_path / "out"
    paths = [write_video(tmp_path / f"v{number}.avi", frames=20) for number in range(3)]
    broken = tmp_path / "broken.avi"
    broken.write_bytes(b"no video" * 100)
    large = write_video(tmp_path / "large.avi", frames=40)
    jobs = plan_jobs([str(path) for path in (paths[0], large, broken, *paths[1:])])
    pool = WorkerPool(plan(model, out), ["cpu"], 1)
    killed: list[int] = []

    def begun(job: VideoJob) -> None:
        if job.name == "large":
            killed.append(pool._workers[0].process.pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    outcomes = {outcome.job.name: outcome for outcome in pool.run(jobs, Listener(begun=begun))}
    assert set(outcomes) == {"v0", "large", "broken", "v1", "v2"}
    failure = outcomes["large"].failure
    assert failure is not None
    assert failure.kind == DIED
    assert (
        "large.avi: the process that worked on it was ended by SIGKILL, perhaps for want of memory" in failure.message
    )
    broken_failure = outcomes["broken"].failure
    assert broken_failure is not None
    assert broken_failure.kind == "VideoError"
    assert {path.name for path in out.glob("*.json")} == {"v0.json", "v1.json", "v2.json"}
    for pid in killed:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.thorough
def test_a_model_that_cannot_be_opened_is_one_error(tmp_path: Path) -> None:
    model = write_tiny_onnx(tmp_path / "m.onnx", None)
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(bytes(data))
    jobs = plan_jobs([str(write_video(tmp_path / "v.avi", frames=20))])
    with pytest.raises(AfsdError, match="is damaged or was changed"):
        list(WorkerPool(plan(model, tmp_path / "out"), ["cpu", "cpu"], 1).run(jobs))


@pytest.mark.thorough
def test_a_source_that_hangs_costs_its_video(tmp_path: Path) -> None:
    """A server that begins to send a video, and never goes on."""

    class Stuck(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(bytes(100))
            self.wfile.flush()
            released.wait(60)

        def log_message(self, *_: object) -> None:
            pass

    released = threading.Event()
    model = write_tiny_onnx(tmp_path / "m.onnx", None)
    video = write_video(tmp_path / "v.avi", frames=20)
    with ThreadingHTTPServer(("127.0.0.1", 0), Stuck) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        jobs = plan_jobs([f"http://127.0.0.1:{server.server_port}/stuck.mp4", str(video)])
        pool = WorkerPool(plan(model, tmp_path / "out"), ["cpu"], 1, patience=2.0)
        outcomes = {outcome.job.name: outcome for outcome in pool.run(jobs)}
        released.set()
        server.shutdown()
    failure = outcomes["stuck"].failure
    assert failure is not None
    assert failure.kind == HUNG
    assert outcomes["v"].failure is None


@pytest.mark.thorough
def test_workers_end_when_nobody_takes_the_outcomes(tmp_path: Path) -> None:
    model = write_tiny_onnx(tmp_path / "m.onnx", None)
    jobs = plan_jobs([str(write_video(tmp_path / f"v{number}.avi", frames=20)) for number in range(4)])
    pool = WorkerPool(replace(plan(model, tmp_path / "out"), progress=True), ["cpu"], 1)
    outcomes = pool.run(jobs)
    first: VideoOutcome = next(outcomes)
    pids = [worker.process.pid for worker in pool._workers]
    assert first.finished is not None
    outcomes.close()  # type: ignore[attr-defined]  # a generator
    for pid in pids:
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.thorough
def test_what_a_worker_warns_of_is_passed_on(tmp_path: Path) -> None:
    model = write_tiny_onnx(tmp_path / "m.onnx", None)
    video = write_video(tmp_path / "v.avi", frames=40)
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 2 // 3])
    said: list[tuple[int, str]] = []
    given = plan(model, tmp_path / "out")
    settings = replace(given.settings, options=replace(given.settings.options, allow_truncated=True))
    given = replace(given, settings=settings, log_level=logging.INFO)
    pool = WorkerPool(given, ["cpu"], 1)
    (outcome,) = pool.run(plan_jobs([str(video)]), Listener(said=lambda level, text: said.append((level, text))))
    assert outcome.failure is None
    assert any(level == logging.WARNING and "v.avi" in text for level, text in said)
    assert any(level == logging.INFO and "onnxruntime" in text for level, text in said)


@pytest.mark.parametrize(
    ("videos", "asked", "devices", "count"),
    [
        (100, None, ["auto"], 4),
        (7, None, ["auto"], 0),
        (100, 0, ["auto"], 0),
        (100, 2, ["auto"], 2),
        (1, 2, ["auto"], 1),
        (100, None, ["gpu:0", "gpu:1"], 2),
        (100, 1, ["gpu:0", "gpu:1"], 2),
        (100, 5, ["gpu:0", "gpu:1"], 5),
        (1, None, ["gpu:0", "gpu:1"], 1),
    ],
)
def test_the_number_of_workers(
    videos: int, asked: int | None, devices: list[str], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_count, "usable_cores", lambda: 4)
    monkeypatch.setattr(worker_count, "free_memory", lambda: 1 << 40)
    jobs = plan_jobs([f"{number}.mp4" for number in range(videos)])
    assert choose_workers(jobs, asked, devices) == count
    assert share_devices(["gpu:0", "gpu:1"], 5) == ["gpu:0", "gpu:1", "gpu:0", "gpu:1", "gpu:0"]
    monkeypatch.setattr(worker_count, "free_memory", lambda: 5 << 30)
    assert choose_workers(jobs, None, ["auto"]) in (0, 2)
    assert choose_workers(plan_jobs(["-"] * 9), 3, devices) == 0  # standard input is this process's


@pytest.mark.parametrize(("cores", "light", "heavy"), [(1, 1, 1), (2, 2, 1), (7, 7, 1), (8, 8, 2), (64, 64, 16)])
def test_a_heavy_network_has_a_worker_for_four_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, light: int, heavy: int
) -> None:
    monkeypatch.setattr(worker_count, "usable_cores", lambda: cores)
    monkeypatch.setattr(worker_count, "free_memory", lambda: 1 << 40)
    jobs = plan_jobs([f"{number}.mp4" for number in range(100)])
    assert choose_workers(jobs, None, ["auto"]) == light
    assert choose_workers(jobs, None, ["auto"], heavy=True) == heavy
    assert choose_workers(jobs, 5, ["auto"], heavy=True) == 5


def test_a_heavy_network_is_known_by_its_multiply_adds(tmp_path: Path) -> None:
    def model(name: str, multiply_adds: int) -> str:
        spec = replace(tiny_spec(), multiply_adds=multiply_adds)
        return str(write_tiny_onnx(tmp_path / name, spec))

    stride = tiny_spec().window_stride
    light = model("light.onnx", (worker_count.HEAVY // 2 + 1) * stride)
    assert not is_heavy(JobSettings(light))
    assert is_heavy(JobSettings(light, flow_engine=light))
    assert is_heavy(JobSettings(light, backbones=(light,)))
    assert is_heavy(JobSettings(model("heavy.onnx", worker_count.HEAVY * stride)))
    assert is_heavy(JobSettings("model.ckpt"))


@pytest.mark.parametrize(
    ("cores", "memory_gib", "one", "two"),
    [
        (1, 1000, 1, 2),
        (7, 1000, 1, 2),
        (8, 1000, 2, 2),
        (16, 1000, 4, 4),
        (64, 1000, 4, 8),
        (64, 6, 3, 2),
        (64, 1, 1, 2),
    ],
)
def test_a_gpu_has_workers_by_the_cores_that_decode(
    cores: int, memory_gib: int, one: int, two: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each four cores, four for each GPU at most, and 2 GiB of memory for each."""
    monkeypatch.setattr(worker_count, "usable_cores", lambda: cores)
    monkeypatch.setattr(worker_count, "free_memory", lambda: memory_gib << 30)
    jobs = plan_jobs([f"{number}.mp4" for number in range(100)])
    assert choose_workers(jobs, None, ["gpu"], on_gpu=True) == one
    assert choose_workers(jobs, None, ["gpu:0", "gpu:1"], on_gpu=True) == two
    assert choose_workers(jobs, 3, ["gpu"], on_gpu=True) == 3
    assert choose_workers(jobs[:7], None, ["gpu"], on_gpu=True) == 0
    assert choose_workers(jobs[:7], None, ["gpu:0", "gpu:1"], on_gpu=True) == 2


def test_what_hangs_is_ended_by_one_worker_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_count, "filling_workers", lambda heavy: 8)
    jobs = plan_jobs([f"{number}.mp4" for number in range(100)])
    assert choose_workers(jobs[:7], None, ["cpu"], least=1) == 1
    assert choose_workers(jobs, None, ["cpu"], least=1) == 8


def test_where_the_system_does_not_say_what_is_free_there_are_at_most_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_count, "usable_cores", lambda: 64)
    monkeypatch.setattr(worker_count, "free_memory", lambda: None)
    jobs = plan_jobs([f"{number}.mp4" for number in range(100)])
    assert choose_workers(jobs, None, ["auto"]) == 8


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        (JobSettings("m.engine"), True),
        (JobSettings("m.xml", flow_engine="f.PLAN"), True),
        (JobSettings("m.onnx", engine_options=EngineOptions(device="cuda:1")), True),
        (JobSettings("m.onnx", engine_options=EngineOptions(provider="tensorrt")), True),
        (JobSettings("m.onnx", backbones=("b.xml",)), False),
    ],
)
def test_what_runs_on_a_gpu(settings: JobSettings, there: bool) -> None:
    assert runs_on_gpu(settings) == there


def test_the_memory_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    monkeypatch.setattr(processors, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(processors, "CONTAINER", tmp_path)
    monkeypatch.setattr(processors, "GROUPS", tmp_path / "none")
    assert processors.free_memory() == 4_096_000
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert processors.free_memory() == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert processors.free_memory() == 4_096_000
    (tmp_path / "meminfo").unlink()
    assert processors.free_memory() is None


@pytest.mark.parametrize(
    ("engine", "device", "threads"),
    [
        ("m.xml", "auto", 4),
        ("m.onnx", "cpu", 4),
        ("m.onnx", "gpu:1", None),
        ("m.engine", "auto", None),
        ("m.ckpt", "cpu", None),
    ],
)
def test_the_cores_are_shared_out(
    engine: str, device: str, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_count, "usable_cores", lambda: 9)
    settings = JobSettings(engine, engine_options=EngineOptions(device=device))
    assert share_threads(settings, 2) == threads
    assert share_threads(settings, 20) == (threads and 1)
