"""A service that is stopped: running jobs end, waiting ones are answered as cancelled, nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime import cli
from runtime.errors import EngineError
from runtime.service import server
from tests.processes import ROOT
from tests.runtime.service.doubles import WAIT
from tests.runtime.service.serving import Served, serving
from tests.tiny import write_tiny_onnx
from tests.videos import write_video


def wait_video(folder: Path, windows: int) -> Path:
    """A video whose windows the double takes time for."""
    return write_video(folder / "wait.mp4", frames=8 * windows, level=WAIT, speed=0, noise=0)


@pytest.mark.thorough
def test_running_jobs_end_and_waiting_ones_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READ_S", 10.0)
    with serving(grace=30.0) as served:
        video = wait_video(tmp_path, 10)
        running, waiting = served.post(video), served.post(video)
        served.until(running, "running")
        served.service.stop()
        assert "was stopped before the job began" in served.until(waiting, "cancelled")["reason"]
        assert served.client.get("/readyz").status_code == 503
        assert served.client.get("/healthz").status_code == 200
        refused = served.client.post("/v1/jobs", content=b"x", headers={"Content-Type": "video/mp4"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert served.events(running)[-1][1] == "done"
        told = served.told
    assert told == [
        "stopping: 1 job may run on for 30 s; ended now: 1 waiting job, 0 live inputs; a second signal ends all",
        "stopped: jobs since the signal: 1 done, 0 failed, 1 cancelled; removed: all videos, the results of 1 job",
    ]


@pytest.mark.thorough
def test_after_the_grace_running_jobs_are_cancelled(tmp_path: Path) -> None:
    with serving(grace=0.2) as served:
        job = served.post(wait_video(tmp_path, 200))
        served.until(job, "running")
        served.service.stop()
        last = served.events(job)[-1]
        assert last[1] == "cancelled"
        assert "was stopped while the job ran" in last[2]["reason"]


@pytest.mark.thorough
def test_an_engine_that_cannot_be_opened_is_told_at_the_start() -> None:
    with pytest.raises(EngineError, match="broken"), serving("broken"):
        pass


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--workers", "0"], "workers: got 0"),
        (["--max-upload", "0"], "max_upload"),
        (["--root", "/nowhere"], "no such folder"),
        (["--token-file", "/nowhere"], "cannot be read"),
        (["--port", "70000"], "port: got 70000"),
        (["--host", "192.0.2.1", "--port", "0"], "cannot be bound"),
    ],
)
def test_flags_that_are_wrong_are_one_line(flags: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "model.onnx", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def start(model: Path, *flags: str, cwd: Path | None = None) -> tuple[subprocess.Popen[str], str]:
    """The verb in a process of its own, and its address."""
    command = [sys.executable, "-m", "runtime", "serve", str(model), "--port", "0", *flags]
    environment = os.environ | ({} if cwd is None else {"TMPDIR": str(cwd)})
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://[\d.]+:\d+", line):
            return process, found[0]
    raise AssertionError(process.wait())


@pytest.mark.thorough
@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_the_verb_answers_what_detect_prints_and_ends_with_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    model = write_tiny_onnx(tmp_path / "tiny.onnx", None)
    clip = write_video(tmp_path / "clip.mp4", frames=64)
    assert cli.main(["detect", str(model), str(clip), "--json", "--score", "0.1"]) == 0
    printed = capsys.readouterr().out
    process, address = start(model, "--score", "0.1", cwd=tmp_path)
    try:
        with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
            served = Served.__new__(Served)
            served.client = client
            job = served.end(served.post(clip))
            got = client.get(job["urls"]["result"]).text
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    facts: Any = [line for line in zip(got.splitlines(), printed.splitlines(), strict=True) if line[0] != line[1]]
    assert [mine.split(":")[0].strip() for mine, _ in facts] == ['"path"', '"model"']
    assert not list(tmp_path.glob(".afsd-*"))


@pytest.mark.thorough
@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_a_second_signal_ends_at_once_and_leaves_no_files(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = write_tiny_onnx(tmp_path / "tiny.onnx", None)
    process, address = start(model, "--grace", "60", cwd=tmp_path)
    try:
        clip = write_video(tmp_path / "clip.mp4", frames=64)
        assert (
            httpx.post(
                f"{address}/v1/jobs", content=clip.read_bytes(), headers={"Content-Type": "video/mp4"}, trust_env=False
            ).status_code
            == 202
        )
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(children[-1]), signal.SIGSTOP)  # the worker, behind Python's own helper: a job that never ends
        httpx.post(
            f"{address}/v1/jobs", content=clip.read_bytes(), headers={"Content-Type": "video/mp4"}, trust_env=False
        )
        process.send_signal(signal.SIGTERM)
        time.sleep(2.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        assert process.wait(10) == 0
        assert time.monotonic() - begun < 2
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[-1].startswith("afsd: ended at once")
    finally:
        process.kill()
        process.wait()
    assert not list(tmp_path.glob(".afsd-*"))
