"""`afsd` as a user meets it: tables, JSON, files, exit statuses, and one line for every error."""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from runtime import cli
from runtime.detector import Detector, DetectorOptions
from runtime.errors import EngineError
from runtime.video.sources import expand_sources, is_live
from tests.tiny import write_tiny_onnx

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny network as an .onnx file."""
    return str(write_tiny_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx", None))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clip2.avi and clip10.avi, 4 s each, and a text file."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for name in ("clip10.avi", "clip2.avi"):
        writer = cv2.VideoWriter(str(folder / name), cv2.VideoWriter.fourcc(*"FFV1"), 30.0, (32, 24))
        for level in np.repeat(rng.integers(0, 256, 40), 3):
            writer.write(np.full((24, 32, 3), level, np.uint8))
        writer.release()
    (folder / "notes.txt").write_text("not a video")
    return folder


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The single line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_no_verb_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        ([], "the following arguments are required: VERB; see afsd --help"),
        (["frob"], "argument VERB: invalid choice: 'frob'"),
        (["detect", "m.onnx", "v.mp4", "--fps", "25x"], "--fps: invalid float value: '25x'; see afsd detect --help"),
        (["detect", "m.onnx"], "required: VIDEO; see afsd detect --help"),
        (["detect", "m.onnx", "v.mp4", "--no-such"], "unrecognized arguments: --no-such; see afsd --help"),
        (["detect", "m.onnx", "v.mp4", "--labels-per-video", "0"], "--labels-per-video: got 0, expected 1"),
    ):
        assert cli.main(words) == 2
        assert message in error_of(capsys)
    with pytest.raises(SystemExit) as caught:
        cli.main(["detect", "--help"])
    assert caught.value.code == 0
    assert "folder of videos" in capsys.readouterr().out


@pytest.mark.parametrize(
    "encoding", ["ascii", *(pytest.param(e, marks=pytest.mark.thorough) for e in ("latin-1", "cp437", "utf-8"))]
)
def test_output_in_any_encoding(model: str, videos: Path, tmp_path: Path, encoding: str) -> None:
    """What the encoding lacks is escaped, in tables, errors and names of files; JSON stays JSON."""
    name = "動画 –.avi"
    (tmp_path / name).write_bytes((videos / "clip2.avi").read_bytes())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}

    def run(*flags: str) -> tuple[str, str]:
        command = [sys.executable, "-m", "runtime", "detect", model, str(tmp_path), "none –.avi", *flags]
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert done.returncode == 2
        return done.stdout.decode(encoding), done.stderr.decode(encoding)

    table, error = run("--out", str(tmp_path / "out"))
    assert ("動画" in table) == (encoding == "utf-8")
    assert "detections of score" in table
    assert len(error.splitlines()) == 3
    assert "afsd: 1 of 2 videos failed: none " in error
    assert list(json.loads(run("--json")[0])["results"]) == [Path(name).stem]


def test_table(model: str, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["detect", model, str(videos / "clip2.avi"), "--top", "3", "--score", "0.2"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert "detections of score 0.2 or more; 4.0 s of video" in lines[0]
    assert lines[1].split() == ["start", "s", "end", "s", "score", "class"]
    rows = [line.split() for line in lines[2:5]]
    found = Detector(model, options=DetectorOptions(min_score=0.2)).run(videos / "clip2.avi")
    best = np.sort(found.scores)[::-1][:3]
    assert sorted((float(row[2]) for row in rows), reverse=True) == pytest.approx(best, abs=5e-4)
    assert [float(row[0]) for row in rows] == sorted(float(row[0]) for row in rows)
    assert {row[3] for row in rows} <= {"jump", "throw"}
    assert f"… and {len(found) - 3} more" in lines[5]


def test_json_of_a_folder(model: str, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["detect", model, str(videos), "--json", "--score", "0.1"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert list(content["results"]) == ["clip2", "clip10"]
    found = Detector(model, options=DetectorOptions(min_score=0.1)).run(videos / "clip10.avi")
    entries = content["results"]["clip10"]
    assert sorted(e["score"] for e in entries) == pytest.approx(sorted(found.scores))
    assert set(entries[0]) == {"label", "score", "segment"}


def test_stream_prints_what_run_finds(model: str, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(videos / "clip2.avi")
    assert cli.main(["detect", model, path, "--stream", "--json", "--score", "0.1"]) == 0
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = Detector(model, options=DetectorOptions(min_score=0.1)).run(path)
    assert [entry["score"] for entry in entries] == pytest.approx(list(found.scores))
    assert {entry["video"] for entry in entries} == {"clip2"}
    assert cli.main(["detect", model, path, "--stream", "--score", "0.1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(found)


def test_files_are_written_only_when_asked(
    model: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(videos / "clip2.avi")
    cli.main(["detect", model, path])
    assert not list(tmp_path.iterdir())
    cli.main(["detect", model, path, "--out", "alone"])
    assert [file.name for file in Path("alone").glob("[!.]*")] == ["clip2.json"]
    cli.main(["detect", model, path, path, "--csv", "--srt", "--plot", "--out", "all"])
    names = {f"clip2{number}.{suffix}" for number in ("", "-2") for suffix in ("csv", "json", "png", "srt")}
    assert {file.name for file in Path("all").glob("[!.]*")} == {*names, "all.csv"}
    with Path("all/all.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    alone = [list(csv.DictReader(Path(f"all/clip2{n}.csv").read_text().splitlines())) for n in ("", "-2")]
    assert rows == [row for part in alone for row in part]
    assert {row["path"] for row in rows} == {path}
    with Path("all/clip2.csv").open(newline="") as table:
        assert len(list(csv.DictReader(table))) == len(
            json.loads(Path("alone/clip2.json").read_text())["results"]["clip2"]
        )


def test_one_bad_video_among_several(model: str, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = str(videos / "clip2.avi"), str(videos / "notes.txt")
    assert cli.main(["detect", model, good, bad, "nowhere.mp4", good]) == 2
    out, err = capsys.readouterr()
    assert out.count("s of video") == 2
    assert len(err.splitlines()) == 4
    assert "afsd: 4 videos, 0.00222 h: 2 done, 0 skipped, 2 failed; " in err
    assert "afsd: error: " + bad in err
    assert err.endswith("afsd: 2 of 4 videos failed: notes, nowhere\n")
    assert "afsd: error: nowhere.mp4: file or folder not found" in err


def test_a_truncated_video_is_allowed_with_a_warning(
    model: str, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (videos / "clip2.avi").read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) // 2])
    assert cli.main(["detect", model, str(cut)]) == 2
    assert "of the 120 frames that it declares" in error_of(capsys)
    assert cli.main(["detect", model, str(cut), "--allow-truncated"]) == 0
    assert error_of(capsys).startswith("afsd: warning: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect", "none.onnx", "clip.mp4"], "none.onnx: file not found"),
        (["detect", "none.engine", "clip.mp4"], "none.engine: file not found"),
        (["detect", "MODEL", "clip.mp4", "--cuda-graph"], "cuda_graph: for TensorRT engines"),
        (["detect", "MODEL", "clip.mp4", "--provider", "cuda", "--device", "cpu"], "runs on a GPU, got device 'cpu'"),
        (
            ["benchmark", "MODEL@int4"],
            "got 'int4' after @, expected bf16, fp32, throughput, compiled, cpu, cuda[:N], tensorrt[:N]",
        ),
        (["benchmark", "MODEL@compiled"], "compiled: for checkpoints, which PyTorch runs (.ckpt, .safetensors)"),
        (["detect", "MODEL", "clip.mp4", "--batch", "0"], "batch_size: got 0"),
        (["detect", "MODEL", "clip.mp4", "--top", "-1"], "--top: got -1"),
        (["detect", "MODEL", "clip.mp4", "--threads", "0"], "threads: got 0"),
        (["detect", "MODEL", "clip.mp4", "--device", "tpu"], "got 'tpu'"),
        (["detect", "MODEL", "0"], "a live source has no end; add --stream"),
        (["detect", "MODEL", "udp://a:1", "udp://b:2", "--stream"], "udp://b:2 would wait for ever; afsd watch reads"),
        (["detect", "MODEL", "clip.mp4", "--stream", "--csv"], "leave out --format, --csv"),
        (["detect", "MODEL", "clip.mp4", "--stream", "--nms", "reference"], "needs the whole video"),
    ],
)
def test_errors_are_one_line(
    model: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([argument.replace("MODEL", model) for argument in arguments]) == 2
    line = error_of(capsys)
    assert line.startswith("afsd: error: ")
    assert message in line


def verb(function: Any) -> Any:
    """An entry in place of `afsd detect` that calls `function`."""

    def add(subparsers: Any) -> None:
        subparsers.add_parser("try").set_defaults(func=function)

    return lambda: iter([("try", add)])


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (KeyboardInterrupt(), 130, "afsd: interrupted"),
        (EngineError("two\nlines"), 2, "afsd: error: two lines"),
        (
            PermissionError(13, "Permission denied", "out"),
            2,
            "afsd: error: out: Permission denied; choose another",
        ),
    ],
)
def test_exit_statuses(
    error: BaseException,
    status: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(cli, "find_verbs", verb(fail))
    assert cli.main(["try"]) == status
    assert error_of(capsys) == text


def test_an_unforeseen_error_is_one_line_and_a_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise ZeroDivisionError("at rtsp://me:secret@host:554/x\x1b[2J")

    monkeypatch.setattr(cli, "find_verbs", verb(fail))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cli.main(["try"]) == 70
    line = error_of(capsys)
    (log,) = tmp_path.iterdir()
    assert line.startswith("afsd: error: unforeseen ZeroDivisionError: at rtsp://host:554/x")
    assert line.endswith(f"; the traceback is in {log}, please report this line with it")
    assert log.stat().st_mode & 0o777 == 0o600
    assert "raise ZeroDivisionError" in log.read_text()
    assert "secret" not in line + log.read_text()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert cli.main(["try"]) == 70
    first, *trace = capsys.readouterr().err.splitlines()
    assert "with the traceback below" in first
    assert trace[0] == "Traceback (most recent call last):"


def test_memory_that_is_out_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "find_verbs", verb(lambda _: np.empty(2**50)))
    assert cli.main(["try"]) == 2
    assert "afsd: error: out of memory (Unable to allocate" in error_of(capsys)


def add_and_raise(subparsers: Any) -> None:
    """A verb that fails while it is added."""
    subparsers.add_parser("train")
    raise RuntimeError("broken 100%\n")


def not_callable() -> None:
    """Take no argument, unlike a verb's function."""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_package.cli:add_train", "No module named 'no_such_package'; install it"),
        ("runtime.cli:nothing_there", "runtime.cli:nothing_there does not load (AttributeError: "),
        ("tests.runtime.commands.test_cli:add_and_raise", "train does not load (RuntimeError: broken 100%)"),
        ("tests.runtime.commands.test_cli:not_callable", "train does not load (TypeError: not_callable() takes 0"),
        ("antigravity_:x:y", "does not load ("),
    ],
)
def test_a_broken_plug_in_takes_down_only_its_own_verb(
    value: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [
        EntryPoint("train", value, cli.VERBS_GROUP),
        EntryPoint("detect", "runtime.commands.detect:add_detect", cli.VERBS_GROUP),
    ]
    monkeypatch.setattr(cli, "entry_points", lambda group: entries if group == cli.VERBS_GROUP else [])
    assert cli.main(["train", "--config", "x.yaml"]) == 2
    assert message in error_of(capsys)
    for flag, said in (("--version", "afsd "), ("--help", "not available: ")):
        with pytest.raises(SystemExit) as caught:
            cli.main([flag])
        assert caught.value.code == 0
        assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    "closed",
    [
        *(pytest.param(some, marks=pytest.mark.slow) for some in ("<&- >&-", ">&- 2>&-")),  # the third closes them all
        *("2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"),
    ],
)
def test_streams_that_are_closed_or_full(closed: str, model: str, videos: Path, tmp_path: Path) -> None:
    """What is printed goes nowhere, and never into the files that are written."""
    arguments = f"-m runtime detect {model} {videos / 'clip2.avi'} nowhere.mp4 --out {tmp_path}"
    command = f"{sys.executable} {arguments} {closed}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr
    assert list(json.loads((tmp_path / "clip2.json").read_text())["results"]) == ["clip2"]


def test_a_full_standard_output_fails_no_video(model: str, videos: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m runtime detect {model} {videos} --out {tmp_path} >/dev/full"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[1:] == [
        "afsd: error: standard output: No space left on device; what was printed is not whole"
    ]
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_from_a_source_tree_and_into_a_closed_pipe(model: str, videos: Path) -> None:
    command = [sys.executable, "-m", "runtime", "detect", model, str(videos)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.startswith("afsd: 2 videos, 0.00222 h: 2 done, 0 skipped, 0 failed; ")
    assert done.stdout.count("s of video") == 2
    read, write = os.pipe()
    os.close(read)
    piped = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (piped.returncode, piped.stderr) == (0, "")


def test_sources_as_typed(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").touch()
    (tmp_path / "images").mkdir()
    assert expand_sources([]) == []
    assert expand_sources(["a.mp4", "0", "7", "rtsp://host/x", "images"]) == [
        "a.mp4",
        0,
        "7",
        "rtsp://host/x",
        "images",
    ]
    assert expand_sources([str(videos)]) == [str(videos / "clip2.avi"), str(videos / "clip10.avi")]
    assert [is_live(source) for source in (0, "rtsp://host/x", "a.mp4", "https://host/a.mp4")] == [
        True,
        True,
        False,
        False,
    ]
