"""`afsd detect` over folders: what is done again, what fails, what several runs and shards leave together."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from runtime import cli
from runtime.commands.detection.output import Output
from runtime.common.temporaries import temporary_file
from runtime.detector import Detector
from runtime.jobs.plan import Shard
from runtime.jobs.together import announce
from runtime.results.detections import Detections, load_detections
from runtime.video.readers.images import list_images
from tests.processes import ROOT
from tests.runtime.report.cases import read
from tests.tiny import tiny_spec, write_tiny_onnx
from tests.videos import write_video

ALL_FORMATS = ("json", "csv", "html")


class Place:
    """A model, a folder of videos, and the command."""

    def __init__(self, root: Path, videos: int = 3) -> None:
        self.root, self.videos, self.out = root, root / "videos", root / "out"
        self.model = write_tiny_onnx(root / "m.onnx", None)
        self.videos.mkdir()
        for number in range(videos):
            write_video(self.videos / f"v{number}.avi", frames=30, level=60 + 40 * number)

    def detect(self, *flags: str, sources: Sequence[object] = (), out: Path | None = None) -> int:
        words = [str(self.model), *map(str, sources or [self.videos]), "--out", str(out or self.out)]
        return cli.main(["detect", *words, "--score", "0.2", *flags])

    def content(self, out: Path | None = None) -> dict[str, bytes]:
        folder = out or self.out
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def table(self) -> set[str]:
        with (self.out / "all.csv").open(newline="") as file:
            return {row["video"] for row in csv.DictReader(file)}

    def index(self) -> list[str]:
        return sorted(line["page"] for line in read(self.out / "index.html").data["videos"])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_second_start_reads_nothing_and_gives_out_the_same(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    formats = ["--format", "json", "csv"]
    assert place.detect(*formats, "--json") == 0
    first, before = capsys.readouterr(), place.content()
    assert first.err.startswith("afsd: 3 videos, 0.0025 h: 3 done, 0 skipped, 0 failed; 0.0025 h read in ")
    assert place.detect(*formats, "--jsonl", out=place.root / "lines") == 0
    lines = capsys.readouterr().out
    monkeypatch.setattr(Detector, "run", None)
    assert place.detect(*formats, "--json") == 0
    second = capsys.readouterr()
    assert second.out == first.out
    note, summary = second.err.splitlines()
    assert note == (f"afsd: 3 videos are done already, by the records in {place.out}/.afsd; --fresh does all again")
    assert summary == "afsd: 3 videos, 0.0025 h: 0 done, 3 skipped, 0 failed; none was read"
    assert place.content() == before
    assert place.detect(*formats, "--jsonl", out=place.root / "lines") == 0
    assert capsys.readouterr().out == lines
    entries = [json.loads(line) for line in lines.splitlines()]
    document = json.loads(first.out)
    assert {entry["video"]: entry["detections"] for entry in entries} == document["results"]
    assert {entry["video"]: entry["facts"] for entry in entries} == document["external_data"]
    assert place.detect(*formats) == 0
    assert "detections of score" not in capsys.readouterr().out  # said once, not for each
    assert place.detect(*formats, sources=[place.videos / "v1.avi"]) == 0
    assert "v1.avi: " in capsys.readouterr().out  # of one video the table is wanted
    monkeypatch.undo()
    assert place.detect(*formats, "--fresh", "--json") == 0
    assert capsys.readouterr().out == first.out
    assert place.content() == before


def test_a_bad_file_is_reported_until_it_is_mended(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    good = (place.videos / "v1.avi").read_bytes()
    (place.videos / "v1.avi").write_bytes(b"no video" * 100)
    for _ in range(2):  # it is tried again at each start
        assert place.detect("--jsonl") == 2
        out, err = capsys.readouterr()
        assert err.count("afsd: error: ") == 1
        assert "afsd: 1 of 3 videos failed: v1" in err
        (line,) = [json.loads(line) for line in (place.out / "failures.jsonl").read_text().splitlines()]
        assert (line["video"], line["error"]) == ("v1", "VideoError")
        (shown,) = [entry for entry in map(json.loads, out.splitlines()) if "error" in entry]
        assert shown == {key: line[key] for key in ("video", "source", "error", "message")}
        assert f"afsd: error: {line['message']}" in err
    assert "1 failed; none was read" in err
    (place.videos / "v1.avi").write_bytes(good)
    assert place.detect() == 0
    assert place.detect("--fresh", out=place.root / "undisturbed") == 0
    assert place.content() == place.content(place.root / "undisturbed")


@pytest.mark.parametrize(("most", "failed"), [("0", 1), ("1", 2), ("5", 3)])
def test_too_many_failures_end_the_job(
    place: Place, most: str, failed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (0, 1, 2):
        (place.videos / f"v{number}.avi").write_bytes(b"no video" * 100)
    write_video(place.videos / "v3.avi", frames=20)
    assert place.detect("--max-errors", most) == 2
    err = capsys.readouterr().err
    assert f"{failed} of 4 videos failed" in err
    begun = failed < 3
    assert ("more than --max-errors" in err) == begun
    assert (place.out / "v3.json").exists() != begun
    assert len((place.out / "failures.jsonl").read_text().splitlines()) == failed


@pytest.mark.parametrize("formats", [("json", "csv"), pytest.param(ALL_FORMATS, marks=pytest.mark.thorough)])
def test_shards_share_one_folder(place: Place, formats: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The last one that is done leaves what one run leaves; before, the shared files have what is there."""
    for number in range(3, 6):
        write_video(place.videos / f"v{number}.avi", frames=20, level=30 * number)
    (place.videos / "more").mkdir()
    shutil.copy(place.videos / "v0.avi", place.videos / "more" / "v0.avi")  # named by its folder
    flags = ["--recursive", "--format", *formats]
    assert place.detect(*flags, out=place.root / "one") == 0
    done: set[str] = set()
    for number in (2, 3, 1):
        capsys.readouterr()
        assert place.detect(*flags, "--shard", f"{number}/3") == 0
        done |= {name.removesuffix(".json") for name in place.content() if name[0] != "." and name.endswith(".json")}
        assert place.table() == done
        assert "html" not in formats or place.index() == sorted(f"{name}.html" for name in done)
    assert place.content() == place.content(place.root / "one")


def test_tables_for_data_tools_have_all_videos_of_the_folder(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    (place.videos / "v2.avi").unlink()
    tables, first = ["--format", "parquet", "jsonl"], [place.videos / "v0.avi"]
    assert place.detect(*tables, sources=first) == 0
    assert f"written: {place.out}/detections.parquet, the detections of 1 video\n" in capsys.readouterr().out
    assert {path.name for path in place.out.iterdir()} == {".afsd", "detections.parquet", "detections.jsonl"}
    assert place.detect("--format", "json", sources=[place.videos / "v1.avi"]) == 0  # they follow, though not asked for
    table = pandas.read_parquet(place.out / "detections.parquet")
    assert list(dict.fromkeys(table["video"])) == ["v1", "v0"]  # those of the list first
    found = json.loads((place.out / "v1.json").read_text())["results"]["v1"]
    rows = table[table["video"] == "v1"]
    assert [*zip(rows["label"], rows["score"], rows["start_s"], rows["end_s"], strict=True)] == [
        (one["label"], one["score"], *one["segment"]) for one in found
    ]
    lines = [json.loads(line) for line in (place.out / "detections.jsonl").read_text().splitlines()]
    assert [(line["video"], line["score"]) for line in lines] == [*zip(table["video"], table["score"], strict=True)]
    monkeypatch.chdir(place.root)
    assert cli.main(["detect", str(place.model), str(first[0]), "--score", "0.2", "--format", "jsonl"]) == 0
    alone = [json.loads(line) for line in Path("detections.jsonl").read_text().splitlines()]
    assert alone == [line for line in lines if line["video"] == "v0"]
    assert not Path(".afsd").exists()
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert place.detect("--format", "parquet") == 2
    assert "a table in Parquet needs pyarrow" in capsys.readouterr().err


def test_a_single_video_leaves_the_shared_files_of_its_folder(place: Place) -> None:
    flags = ["--format", *ALL_FORMATS]
    assert place.detect(*flags) == 0
    for name in ("all", "index"):
        video = write_video(place.root / f"{name}.avi", frames=20)
        assert place.detect(*flags, sources=[video]) == 0
        found = json.loads((place.out / f"{name}.json").read_text())
        assert list(found["results"]) == [name]
    assert place.table() == {"v0", "v1", "v2", "all", "index"}
    assert place.index() == ["all.html", "index-video.html", "v0.html", "v1.html", "v2.html"]
    assert {"all-video.csv", "index.csv"} <= place.content().keys()
    assert read(place.out / "all.html").data["index"] == "index.html"


def test_the_shared_files_follow_what_happens_to_the_videos(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.detect("--format", *ALL_FORMATS) == 0
    write_video(place.videos / "v1.avi", frames=50, level=200)
    capsys.readouterr()
    assert place.detect("--format", "json") == 0  # neither page nor table is asked for, and the old ones would lie
    assert "3 videos, 0.00306 h: 1 done, 2 written" not in capsys.readouterr().err
    assert place.index() == ["v0.html", "v2.html"]
    assert not (place.out / "v1.html").exists()
    assert place.table() == {"v0", "v1", "v2"}
    write_tiny_onnx(place.model, tiny_spec(window_stride=4))
    capsys.readouterr()
    assert place.detect("--format", *ALL_FORMATS, sources=[place.videos / "v1.avi"]) == 0
    assert "2 videos in " in capsys.readouterr().err  # of another model
    assert place.table() == {"v1"}
    assert place.index() == ["v1.html"]
    assert place.detect("--format", *ALL_FORMATS) == 0
    assert place.detect("--format", *ALL_FORMATS, out=place.root / "undisturbed") == 0
    assert place.content() == place.content(place.root / "undisturbed")


@pytest.mark.parametrize("changes", [False, True])
def test_a_damaged_file_of_results_is_written_anew(place: Place, changes: bool) -> None:
    """Also that of a video that has changed; a file of somebody else stops the job before any work."""
    assert place.detect("--format", "json", "csv", "html") == 0
    videos = sorted(place.videos.iterdir())
    name = videos[0].stem
    before = {path.name: path.read_bytes() for path in place.out.iterdir() if path.is_file()}
    for suffix in ("json", "csv", "html"):
        (place.out / f"{name}.{suffix}").write_bytes(before[f"{name}.{suffix}"][:20])
    if changes:
        videos[0].write_bytes(videos[1].read_bytes())
    assert place.detect("--format", "json", "csv", "html") == 0
    after = {path.name: path.read_bytes() for path in place.out.iterdir() if path.is_file()}
    assert (after == before) is not changes
    assert len(after[f"{name}.json"]) > 20
    (place.out / "other.json").write_text("my own")
    (place.videos / f"other{videos[0].suffix}").write_bytes(videos[1].read_bytes())
    assert place.detect("--format", "json") == 2
    assert (place.out / "other.json").read_text() == "my own"


def test_a_table_of_somebody_else_is_left_alone(place: Place) -> None:
    place.out.mkdir()
    (place.out / "all.csv").write_text("my,own\n")
    assert place.detect() == 0  # asks for no table
    assert (place.out / "all.csv").read_text() == "my,own\n"
    assert place.detect("--csv") == 2
    assert (place.out / "all.csv").read_text() == "my,own\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bom"], "--bom marks CSV files"),
        (["--embed"], "--embed puts the video into its page"),
        (["--labels-per-video", "2"], "--labels-per-video is of a classifier's scores"),
        (["--shard", "3/2"], "shard: got 3/2"),
        (["--workers", "-1"], "--workers: got -1"),
        (["--max-errors", "-1"], "--max-errors: got -1"),
        (["--patience", "0"], "--patience: got 0"),
        (["--patience", "9", "--workers", "0"], "--patience is of worker processes, which can be ended"),
        (["--json", "--jsonl"], "not allowed with argument --json"),
        (["--device", "gpu:0,gpu:1", "--workers", "0"], "several devices need a worker each"),
        (["--stream", "--jsonl"], "--jsonl is of whole videos"),
        (["--stream", "--shard", "1/2"], "--shard is of whole videos"),
        (["--stream", "--max-errors", "0"], "--max-errors is of whole videos"),
        (["--stream", "--patience", "9"], "--patience is of whole videos"),
        (["--stream", "--device", "gpu:0,gpu:1"], "expected one device with --stream"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(
    place: Place, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.detect(*flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_fresh_is_of_records(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["detect", str(place.model), str(place.videos), "--fresh"]) == 2
    assert "give --out with it" in capsys.readouterr().err


def test_a_selection_is_in_the_files_and_evaluate_says_so(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    video = place.videos / "v0.avi"
    flags = ["--exclusive", "class", "--merge-gap", "0.5", "--min-length", "0.2"]
    assert place.detect(*flags, sources=[video]) == 0
    (found,) = load_detections(place.out / "v0.json")
    assert found.facts is not None
    assert (found.facts.exclusive, found.facts.merge_gap, found.facts.min_length) == ("class", 0.5, 0.2)
    entry = {"subset": "test", "annotations": [{"label": "jump", "segment": [0.5, 2.0]}]}
    truth = place.root / "truth.json"
    truth.write_text(json.dumps({"database": {"v0": entry}}))
    capsys.readouterr()
    assert cli.main(["evaluate", str(place.out / "v0.json"), str(truth)]) == 0
    err = capsys.readouterr().err
    assert "selected by --exclusive class, --merge-gap 0.5, --min-length 0.2, and the mAP is that" in err
    assert place.detect(sources=[video], out=place.root / "plain") == 0
    document = json.loads((place.root / "plain" / "v0.json").read_text())
    assert document["external_data"]["v0"].keys().isdisjoint({"exclusive", "merge_gap", "min_length"})


def test_an_error_that_nobody_foresaw_is_a_failure_of_its_video(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless there is no other video: then it ends the command as anywhere."""
    run = Detector.run

    def odd(detector: Detector, source: str, **options: Any) -> Detections:
        if source.endswith("v1.avi"):
            raise ZeroDivisionError("odd")
        return run(detector, source, **options)

    monkeypatch.setattr(Detector, "run", odd)
    assert place.detect() == 2
    assert "afsd: error: unforeseen ZeroDivisionError: odd; the traceback is in " in capsys.readouterr().err
    assert sorted(path.stem for path in place.out.glob("*.json")) == ["v0", "v2"]
    (line,) = (place.out / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["error"] == "ZeroDivisionError"
    assert place.detect(sources=[place.videos / "v1.avi"]) == 70


@pytest.mark.thorough
def test_workers_leave_the_same_files(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.videos / "broken.avi").write_bytes(b"no video" * 100)
    flags = ["--format", *ALL_FORMATS, "--json"]
    assert place.detect(*flags, "--workers", "0") == 2
    first = capsys.readouterr()
    assert place.detect(*flags, "--workers", "2", out=place.root / "two") == 2
    second = capsys.readouterr()
    assert second.out == first.out  # in the order of the list, whoever was done first
    assert "1 of 4 videos failed: broken" in second.err
    one, two = place.content(), place.content(place.root / "two")
    failures = [json.loads(content.pop("failures.jsonl")) for content in (one, two)]
    assert [failure.pop("time") is not None for failure in failures] == [True, True]
    assert failures[0] == failures[1]
    assert one == two


def test_files_of_older_results_that_go_are_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody asked for that: with a lower score, files of a format that is left out would lie."""
    assert place.detect("--format", "json", "csv", "srt") == 0
    assert "older results" not in capsys.readouterr().err
    assert place.detect("--format", "json", "--score", "0.1") == 0
    said = capsys.readouterr().err
    assert "afsd: 6 files of older results are gone, since they held no longer" in said
    assert ": v0.csv, v0.srt, v1.csv and 3 more" in said
    assert {path.name for path in place.out.glob("v*")} == {"v0.json", "v1.json", "v2.json"}
    (place.videos / "v1.avi").write_bytes(b"no video" * 100)
    assert place.detect("--format", "json", "--score", "0.1") == 2
    assert "afsd: 1 file of older results is gone, since it held no longer" in capsys.readouterr().err


@pytest.mark.thorough
def test_another_run_in_the_folder_is_said(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.detect(sources=[place.videos / "v0.avi"])
    assert "at work here" not in capsys.readouterr().err
    with announce(place.out / ".afsd", Shard(1, 2)) as run:
        assert run.others == []
        assert place.detect("--shard", "2/2", "--fresh") == 0
        assert "at work here" not in capsys.readouterr().err
        assert place.detect("--fresh") == 0
        said = capsys.readouterr().err
    assert f"afsd: warning: {place.out}: 1 other run is at work here, too (process {os.getpid()} on " in said
    assert place.content() == {name: content for name, content in place.content().items() if ".run" not in name}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_run_that_was_killed_is_not_said(tmp_path: Path) -> None:
    (tmp_path / ".afsd-abcde.run").write_text('{"process": 1, "host": "x", "shard": [1, 1]}')
    with announce(tmp_path, Shard()) as run:
        assert run.others == []


@pytest.mark.parametrize(
    "content", ["", "[]", '{"shard": 5}', '{"process": [], "host": 1, "shard": [1, 1]}', "[" * 9000]
)
def test_what_a_stranger_wrote_of_a_run_is_no_run(tmp_path: Path, content: str) -> None:
    with temporary_file(tmp_path, ".run") as other:
        other.write_text(content)
        with announce(tmp_path, Shard()) as run:
            assert run.others == []


def test_lines_of_videos_that_are_not_in_the_list_are_said(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.videos / "v1.avi").write_bytes(b"no video" * 100)
    assert place.detect() == 2
    assert "that this list has not" not in capsys.readouterr().err
    assert place.detect(sources=[place.videos / "v0.avi", place.videos / "v2.avi"]) == 0
    said = capsys.readouterr().err
    assert (
        f"afsd: {place.out / 'failures.jsonl'} also has 1 video that this list has not: v1; a line stays until" in said
    )


def test_a_reader_of_the_output_that_goes_does_not_end_the_night(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def print_nothing(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(Output, "video", print_nothing)
    monkeypatch.setattr("runtime.commands.detection.job.drop_output", lambda: None)
    assert place.detect("--workers", "0") == 0
    assert "nobody reads the standard output any more; the work goes on" in capsys.readouterr().err
    assert {path.name for path in place.out.glob("*.json")} == {"v0.json", "v1.json", "v2.json"}


@pytest.mark.parametrize("what", ["gone", "another"])
def test_a_folder_of_results_that_goes_ends_the_job(
    place: Place, what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a drive is taken away: what comes after would fill the place that it was mounted on."""
    run = Detector.run

    def run_and_remove(detector: Detector, source: str, **options: Any) -> Detections:
        found = run(detector, source, **options)
        if source.endswith("v0.avi"):
            place.out.rename(place.root / "taken")
            if what == "another":
                place.out.mkdir()
        return found

    monkeypatch.setattr(Detector, "run", run_and_remove)
    assert place.detect("--workers", "0") == 2
    said = capsys.readouterr().err
    assert f"afsd: error: {place.out}: is gone, or another folder than at the start" in said
    assert "1 done, 0 skipped, 0 failed, 2 not done" in said


@pytest.mark.thorough
def test_a_folder_that_cannot_be_written_to_any_more_ends_the_job_and_a_full_disk_does_not(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, counts in ((errno.EROFS, "1 failed, 2 not done"), (errno.ENOSPC, "0 skipped, 3 failed;")):

        def fail(*_: object, number: int = number, **__: object) -> None:
            raise OSError(number, os.strerror(number), str(place.out / "x"))

        with monkeypatch.context() as patch:
            patch.setattr("runtime.jobs.result_files.ResultFiles._write", fail)
            patch.setattr("runtime.commands.detection.job.temporary_file", fail)
            assert place.detect("--workers", "0") == 2
        said = capsys.readouterr().err
        assert counts in said
        assert ("cannot be written to any more (Read-only file system); start again" in said) == (number == errno.EROFS)


@pytest.mark.thorough
@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_signal_says_how_far_the_job_is_and_how_to_go_on(place: Place, workers: str) -> None:
    for number in range(3, 12):
        write_video(place.videos / f"v{number}.avi", frames=600, level=5 * number)
    words = [str(place.model), str(place.videos), "--out", str(place.out), "--score", "0.2", "--workers", workers]
    command = [sys.executable, "-m", "runtime", "detect", *words]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        written = 0
        while written < 2:  # the first is counted by then
            written += process.stdout.readline().startswith("written: ")
            assert process.poll() is None
        process.terminate()
        process.stdout.read()
        said = process.stderr.read().splitlines()
    assert process.returncode == 128 + signal.SIGTERM
    assert said[-1] == "afsd: ended by SIGTERM"
    (line,) = [text for text in said if text.startswith("afsd: stopped: ")]
    counts = re.fullmatch(r"afsd: stopped: of 12 videos (\d+) are done, (\d+) are not; start again to go on", line)
    assert counts is not None
    assert int(counts[1]) + int(counts[2]) == 12
    assert int(counts[1]) >= 1


@pytest.mark.thorough
def test_a_timeline_in_the_folder_of_its_images_is_no_frame(place: Place) -> None:
    """Done again, and asked for anew, it is the same video."""
    folder = place.root / "images"
    folder.mkdir()
    for number in range(12):
        cv2.imwrite(str(folder / f"images{number}.png"), np.full((36, 36, 3), 20 * number, np.uint8))
    for flags in ([], [], ["--fresh"]):
        assert place.detect("--format", "png", "json", "--fps", "10", *flags, sources=[folder], out=folder) == 0
        assert json.loads((folder / "images.json").read_text())["external_data"]["images"]["duration_s"] == 1.2
    assert len(list(folder.glob("*.png"))) == 13
    assert len(list_images(folder)) == 12
