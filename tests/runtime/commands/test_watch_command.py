"""`afsd watch`, and `afsd detect --stream` with files."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime import cli
from runtime.commands.watch import Losses
from runtime.live.events import Lost, Reconnected, Started
from tests.runtime.live.streams import RtspCamera, Sender, free_port, udp, write_clip
from tests.tiny import tiny_spec, write_tiny_onnx
from tests.videos import write_video

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def model(tmp_path: Path) -> str:
    pytest.importorskip("onnxruntime")
    return str(write_tiny_onnx(tmp_path / "tiny.onnx", None))


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def without_time(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Detections as `afsd detect --stream --json` prints them."""
    kept = ("video", "label", "score", "segment")
    return [{key: entry[key] for key in kept} for entry in entries if entry["event"] == "detection"]


def test_files_are_watched_as_they_are_detected(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b").mkdir()
    shown = ["--score", "0.1"]
    clips = [
        str(write_video(tmp_path / name, frames=90, level=level)) for name, level in (("a.mp4", 90), ("b/a.mp4", 150))
    ]
    assert cli.main(["watch", model, *clips, "--out", str(tmp_path / "out"), "--batch", "1", *shown]) == 0
    printed = capsys.readouterr()
    events = lines(printed.out)
    assert re.fullmatch(
        r"afsd: watching a, a-2: a detection comes up to 2\.5 s after its action ends, in .* up to 8\.9 s;.*; "
        r"detections of score 0\.1 or more\n",
        printed.err,
    )
    assert cli.main(["detect", model, *clips, "--stream", "--json", "--out", str(tmp_path / "streamed"), *shown]) == 0
    streamed = lines(capsys.readouterr().out)
    for name in ("a", "a-2"):
        own = [event for event in events if event["video"] == name]
        assert own[0]["event"] == "started"
        assert own[-1]["event"] == "ended"
        want = [entry for entry in streamed if entry["video"] == name]
        assert without_time(own) == want
        assert len(want) > 3
        assert lines((tmp_path / "out" / f"{name}.jsonl").read_text(encoding="utf-8")) == own
        assert lines((tmp_path / "streamed" / f"{name}.jsonl").read_text(encoding="utf-8")) == want
    assert cli.main(["watch", model, clips[0], "--out", str(tmp_path / "out"), "--quiet", *shown]) == 0
    assert capsys.readouterr().out == ""
    first = [event for event in events if event["video"] == "a"]
    again = lines((tmp_path / "out" / "a.jsonl").read_text(encoding="utf-8"))
    assert len(again) == 2 * len(first)  # appended
    selection = {"exclusive": "", "merge_gap": None, "min_length": None}
    assert set(first[0]) == {"event", "video", "source", "utc", "model", "threshold", "version", "at", *selection}
    assert selection.items() <= first[0].items()
    assert (first[0]["model"], first[0]["threshold"]) == (model, 0.1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first[0]["at"])


def test_a_file_that_fails_gives_status_2_after_the_others(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, text = write_video(tmp_path / "a.mp4", frames=60), tmp_path / "b.mp4"
    text.write_text("no video")
    assert cli.main(["watch", model, str(text), str(clip)]) == 2
    printed = capsys.readouterr()
    kinds = {(event["video"], event["event"]) for event in lines(printed.out)}
    assert ("b", "failed") in kinds
    assert ("a", "ended") in kinds
    assert "not a video" in printed.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["missing.mp4"], "missing.mp4: file or folder not found"),
        (["udp://a:1", "--stall", "0"], "stall_seconds: got 0.0"),
        (["udp://a:1", "--quiet"], "add --out"),
        (["udp://a:1", "--metrics", "x"], "expected PORT or HOST:PORT"),
        (["udp://a:1", "--score", "2"], "--score: got 2.0"),
        (["udp://a:1", "--end-when-hung", "0"], "--end-when-hung: got 0.0"),
        (["udp://a:1", "--keep-days", "3"], "add --out"),
    ],
)
def test_errors_are_one_line(model: str, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["watch", model, *flags]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_metrics_without_their_library_name_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("runtime.metrics", "prometheus_client"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert cli.main(["watch", "model.onnx", "udp://a:1", "--metrics", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "afsd watch --metrics needs prometheus_client, which is not installed" in line
    assert "[metrics]" in line


def test_a_model_on_whole_videos_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(write_tiny_onnx(tmp_path / "whole.onnx", tiny_spec(sampling="whole_video")))
    assert cli.main(["watch", model, "udp://a:1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the model sees whole videos" in line


@contextmanager
def watching(model: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, once its first line is printed."""
    command = [sys.executable, "-m", "runtime", "watch", model, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGTERM)])
def test_a_signal_ends_with_0_though_the_reader_hangs(model: str, signals: tuple[signal.Signals, ...]) -> None:
    with watching(model, f"udp://127.0.0.1:{free_port()}", "--metrics", "0") as process:
        assert process.stderr is not None
        assert "watching 127.0.0.1_" in process.stderr.readline()
        url = re.search(r"http://\S+/healthz", process.stderr.readline())
        assert url is not None
        with urllib.request.urlopen(url[0], timeout=5) as answer:
            assert answer.status == 200
        begun = time.monotonic()
        for number in signals:
            process.send_signal(number)
        out, said = process.communicate(timeout=10)
        assert time.monotonic() - begun < 2
        assert process.returncode == 0
        assert [event["event"] for event in lines(out)] == ["stopped"]
        assert said == ""


@pytest.mark.thorough
@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_a_signal_gives_out_what_is_final(model: str, tmp_path: Path) -> None:
    clip, port = write_clip(tmp_path / "clip.mp4", 100), free_port()
    with (
        watching(model, f"udp://127.0.0.1:{port}", "--out", str(tmp_path), "--score", "0.3") as process,
        Sender(clip, udp(port)),
    ):
        assert process.stdout is not None
        out = [process.stdout.readline()]
        time.sleep(4)
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        out += process.communicate(timeout=10)[0].splitlines(keepends=True)
        assert time.monotonic() - begun < 2
        assert process.returncode == 0
    events = lines("".join(out))
    assert events[-1]["event"] == "stopped"
    assert events[-1]["seconds"] > 2.5  # the last window is that of the newest frames
    detections = [event for event in events if event["event"] == "detection"]
    assert max(event["segment"][1] for event in detections) > events[-1]["seconds"] - 1.6
    assert lines((tmp_path / f"127.0.0.1_{port}.jsonl").read_text(encoding="utf-8")) == events


@pytest.mark.thorough
def test_detect_gives_out_what_is_final_of_a_lost_stream_and_fails(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 100)
    with RtspCamera(clip, tmp_path) as camera:
        breaking = threading.Timer(4, camera.break_off)
        breaking.start()
        command = ["detect", model, camera.url, "--stream", "--json", "--out", str(tmp_path / "out"), "--score", "0.3"]
        assert cli.main(command) == 2
        breaking.join()
    printed = capsys.readouterr()
    assert "the stream ended or broke off" in printed.err.splitlines()[-1]
    found = lines(printed.out)
    assert found
    (file,) = (tmp_path / "out").iterdir()
    assert lines(file.read_text(encoding="utf-8")) == found


def test_cameras_of_a_list_are_watched_in_one_process_by_day(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list has the cameras, so that no password is in the command line; the days are those of the lines."""
    names = [str(write_video(tmp_path / name, frames=40)) for name in ("a.mp4", "b.mp4")]
    (tmp_path / "cameras.txt").write_text("# door and hall\n" + "\n".join(names) + "\n")
    out = tmp_path / "out"
    words = ["watch", model, f"@{tmp_path / 'cameras.txt'}", "--out", str(out), "--quiet", "--keep-days", "3"]
    assert cli.main(words) == 0
    assert "afsd: watching a, b:" in capsys.readouterr().err
    for name in "ab":
        events = [event for path in sorted(out.glob(f"{name}.*.jsonl")) for event in lines(path.read_text("utf-8"))]
        assert [event["event"] for event in events if event["event"] != "detection"] == ["started", "ended"]
        assert all(path.name == f"{name}.{events[0]['at'][:10]}.jsonl" for path in list(out.glob(f"{name}.*"))[:1])


def test_stderr_says_that_a_camera_is_lost_and_that_it_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    """The second camera was not there at the start, so its first frame is no return."""
    start = (0.0, "rtsp://x/a", 0.0, "m.onnx", 0.5, "0.1")
    losses = Losses()
    for event in (
        Started("a", *start),
        Lost("a", 1.0, 1.0, "it broke off", 0.5),
        Lost("b\n", 1.0, 0.0, "it cannot be opened", 0.5),
        Reconnected("a", 4.0, 2, 3.04),
        Started("b\n", *start),
        Reconnected("a", 5.0, 1, 1.0),
    ):
        losses.report(event)
    assert capsys.readouterr() == (
        "",
        "afsd: warning: it broke off; a is opened again until it is back\n"
        "afsd: warning: it cannot be opened; b is opened again until it is back\n"
        "afsd: a is back after 3.0 s\n"
        "afsd: b is there\n",
    )


def test_a_password_in_the_list_is_printed_nowhere(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cameras.txt").write_text("rtsp://viewer:hunter2@cam/1\nno-such-file.mp4\n")
    assert cli.main(["watch", model, f"@{tmp_path / 'cameras.txt'}"]) == 2
    printed = capsys.readouterr()
    assert "no-such-file.mp4: file or folder not found" in printed.err
    assert "hunter2" not in printed.out + printed.err


HANGING = """
import sys, time
from runtime import cli
from runtime.commands import watch
from tests.tiny import TinyEngine

class Hanging(TinyEngine):
    def infer(self, inputs):
        time.sleep(60)

if __name__ == "__main__":
    cli.make_parser()
    watch.open_with = lambda *_: Hanging()
    sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.thorough
def test_a_watch_that_hangs_ends_with_a_status_of_its_own(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", frames=60)
    command = [sys.executable, "-c", HANGING, "watch", "m.onnx", str(clip), "--end-when-hung", "0.5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 75, done.stderr
    assert re.search(r"\Aafsd: watching clip: .*\nafsd: error: the watch hangs: its loop has not turned", done.stderr)
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets here")
def test_systemd_is_told_of_start_life_and_end(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd does for Type=notify with WatchdogSec=: a socket, and two variables."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        with watching(model, f"udp://127.0.0.1:{free_port()}") as process:
            assert [systemd.recv(99) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            process.send_signal(signal.SIGTERM)
            told = [systemd.recv(99)]
            while told[-1] == b"WATCHDOG=1":
                told.append(systemd.recv(99))
            assert told[-1] == b"STOPPING=1"
            assert process.wait(10) == 0
