"""Results in an object store: what is there after a job, after a restart, after others' hands; fsspec's `local://`.

A store of fsspec's own that other processes see is used where several work; `tests/runtime/fleet` has the same on Ray.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtime import cli
from runtime.detector import Detector
from runtime.errors import InputError
from runtime.jobs.failures import Failure
from runtime.jobs.plan import plan_jobs
from runtime.jobs.result_place import StorePlace, open_place, place_of
from runtime.jobs.store_records import StoreFolder, StoreRecords
from runtime.jobs.tables import KEPT
from runtime.report.document import is_page
from tests.runtime.report.cases import read
from tests.tiny import write_tiny_onnx
from tests.videos import write_video

pytest.importorskip("fsspec")


class Place:
    """A model, a folder of two videos and of one that is none, and the command into a store."""

    def __init__(self, root: Path) -> None:
        self.root, self.videos, self.store = root, root / "videos", root / "store"
        self.model = write_tiny_onnx(root / "m.onnx", None)
        self.videos.mkdir()
        for number in range(2):
            write_video(self.videos / f"v{number}.avi", frames=20, level=60 + 60 * number)
        self.url = f"local://{self.store}"

    def detect(self, *flags: str, out: str = "", workers: str = "0") -> int:
        words = [str(self.model), str(self.videos), "--out", out or self.url, "--score", "0.2", "--workers", workers]
        return cli.main(["detect", *words, *flags])

    def content(self, folder: Path | None = None) -> dict[str, bytes]:
        folder = folder or self.store
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    def states(self) -> dict[str, int]:
        return {str(p.relative_to(self.store)): p.stat().st_mtime_ns for p in self.store.rglob("*") if p.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def without_states(record: bytes) -> object:
    content = json.loads(record)
    for file in content["files"].values():
        assert file.pop("state", None)
    return content


def test_the_objects_are_the_files_of_a_folder_and_a_second_start_puts_none(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(place.root / "scratch"))
    flags = ["--format", "json", "csv", "jsonl"]
    assert place.detect(*flags) == 0
    out = capsys.readouterr().out
    assert f"written: {place.url}/v0.json, {place.url}/v0.csv\n" in out
    assert f"written: {place.url}/all.csv, the table of 2 videos\n" in out
    assert f"written: {place.url}/detections.jsonl, the detections of 2 videos\n" in out
    assert place.detect(*flags, out=str(place.root / "plain")) == 0
    ours, plain = place.content(), place.content(place.root / "plain")
    assert ours.keys() == plain.keys() >= {"v0.json", "v1.csv", "all.csv", "detections.jsonl", ".afsd/shared.json"}
    for name in plain:
        if name.startswith(".afsd/records/"):
            assert without_states(ours[name]) == json.loads(plain[name])
        else:
            assert ours[name] == plain[name], name
    assert not list((place.root / "scratch").iterdir())
    capsys.readouterr()
    before = place.states()
    monkeypatch.setattr(Detector, "run", None)
    assert place.detect(*flags) == 0
    assert f"2 videos are done already, by the records in {place.url}/.afsd; --fresh" in capsys.readouterr().err
    assert place.states() == before


@pytest.mark.thorough
def test_what_others_did_to_the_objects_is_mended_from_the_records(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.detect("--format", "json", "csv") == 0
    whole = place.content()
    (place.store / "v0.json").write_bytes(whole["v0.json"].replace(b"0", b"1"))  # of the same size
    (place.store / "v1.csv").unlink()
    run = Detector.run
    monkeypatch.setattr(Detector, "run", None)
    assert place.detect("--format", "json", "csv") == 0
    assert place.content().keys() == whole.keys()
    assert all(place.content()[name] == whole[name] for name in whole if "records" not in name)
    assert place.detect("--format", "csv", "srt") == 0  # the JSON is not asked for, holds, and stays
    assert place.content().keys() == whole.keys() | {"v0.srt", "v1.srt"}
    monkeypatch.setattr(Detector, "run", run)
    (place.videos / "v0.avi").write_bytes(b"no video" * 100)
    assert place.detect("--format", "csv") == 2
    left = place.content()
    assert not any("v0" in name for name in left.keys() - {".afsd/failures/v0.json"})  # results of what it was
    (line,) = map(json.loads, left["failures.jsonl"].decode().splitlines())
    assert line["video"] == "v0"
    assert left[".afsd/failures/v0.json"] == left["failures.jsonl"]
    assert left["all.csv"].count(b"v0") == 0 < left["all.csv"].count(b"v1")
    write_video(place.videos / "v0.avi", frames=20, level=60)
    assert place.detect("--format", "json", "csv", "srt") == 0
    assert place.content().keys() == whole.keys() | {"v0.srt", "v1.srt"}
    assert place.content()["v0.json"] == whole["v0.json"]
    capsys.readouterr()


@pytest.mark.thorough
def test_objects_of_others_are_not_written_over(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.store.mkdir()
    for name, said in (
        ("v1.json", "is there already and no result of afsd"),
        ("failures.jsonl", "is there already and no result of afsd"),
        ("all.csv", "is there already and no result of afsd"),
        ("detections.jsonl", "is there already and no table of afsd"),
    ):
        (place.store / name).write_text("mine")
        assert place.detect("--format", "json", "csv", "jsonl") == 2
        error = capsys.readouterr().err
        assert error.startswith(f"afsd: error: {place.url}/{name}: {said}")
        assert error.count("\n") == 1
        assert place.content() == {name: b"mine"}
        (place.store / name).unlink()
    (place.store / "v1.json").write_text("mine")
    assert place.detect("--overwrite") == 0
    assert (place.store / "v1.json").read_bytes() != b"mine"
    (place.store / ".afsd/records/v1.json").unlink()  # as after a kill between the files and the record
    assert place.detect() == 0
    assert (place.store / ".afsd/records/v1.json").exists()


@pytest.mark.thorough
def test_pages_link_to_the_index_and_to_no_video_that_is_not_reached_from_there(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.videos / "day1").mkdir()
    (place.videos / "v1.avi").rename(place.videos / "day1/v1.avi")
    (place.store / "day1").mkdir(parents=True)
    (place.store / "day1/v1.html").write_text("mine")
    assert place.detect("--format", "html", "--recursive") == 2
    assert capsys.readouterr().err.startswith(f"afsd: error: {place.url}/day1/v1.html: is there already and no result")
    (place.store / "day1/v1.html").unlink()
    assert place.detect("--format", "html", "--recursive") == 0
    index = read(place.store / "index.html")
    pages = [line["page"] for line in index.data["videos"]]
    assert sorted(pages) == ["day1/v1.html", "v0.html"]
    for page in (place.store / name for name in pages):
        assert is_page(page.read_bytes())
        assert (page.parent / read(page).data["index"]).resolve() == place.store / "index.html"
        assert "<video" not in page.read_text()
    assert (place.store / ".afsd/records/day1%2Fv1.json").exists()
    monkeypatch.setattr(Detector, "run", None)
    assert place.detect("--format", "html", "--recursive") == 0
    assert "2 videos are done already" in capsys.readouterr().err


@pytest.mark.slow
def test_workers_put_what_this_process_puts(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.detect(workers="2") == 0
    assert place.detect(out=str(place.root / "plain")) == 0
    ours, plain = place.content(), place.content(place.root / "plain")
    assert ours.keys() == plain.keys()
    assert [ours[f"v{n}.json"] for n in (0, 1)] == [plain[f"v{n}.json"] for n in (0, 1)]
    capsys.readouterr()


def test_whoever_writes_last_has_written_from_all_records(tmp_path: Path) -> None:
    """Another job finishes a video while the files of all are written: they are written again."""
    target = StoreFolder(f"local://{tmp_path}/store")
    seen: list[set[str]] = []
    with ExitStack() as stack:
        one = stack.enter_context(open_place(target, KEPT))
        assert isinstance(one, StorePlace)
        other = stack.enter_context(open_place(target, KEPT))
        records = other.records
        assert isinstance(records, StoreRecords)

        def write() -> str:
            seen.append({path.name for path in one.records.paths()})
            (one.folder / "all.csv").write_text(" ".join(sorted(seen[-1])))
            if len(seen) < 3:
                path = records.path_of(f"v{len(seen)}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("{}")
                records.store.put(path, records.name_of(path))
            return f"time {len(seen)}"

        assert one.write_shared(write) == "time 3"
        assert seen == [set(), {"v1.json"}, {"v1.json", "v2.json"}]
        assert (tmp_path / "store/all.csv").read_text() == "v1.json v2.json"


def test_failures_of_several_jobs_are_kept_side_by_side(tmp_path: Path) -> None:
    target = StoreFolder(f"local://{tmp_path}/store")
    one, two, three = plan_jobs(["a/x.mp4", "b/x.mp4", "c/100%.mp4"])
    with ExitStack() as stack:
        places = [stack.enter_context(open_place(target, KEPT)) for _ in range(2)]
        places[0].failures.add(one, Failure("VideoError", "one"))
        places[1].failures.add(two, Failure("VideoError", "two"))
        places[0].failures.add(three, Failure("VideoError", "three"))
        places[1].failures.settle(one.name)
        for place in places:
            place.write_shared(lambda: None)
    lines = [json.loads(line) for line in (tmp_path / "store/failures.jsonl").read_text().splitlines()]
    assert {line["video"]: line["message"] for line in lines} == {"x-2": "two", "100%": "three"}
    with open_place(target, KEPT) as place:
        assert place.failures.names() == {"x-2", "100%"}
        for name in ("x-2", "100%"):
            place.failures.settle(name)
        place.write_shared(lambda: None)
    assert not any(path.is_file() for path in (tmp_path / "store").rglob("*"))


@pytest.mark.thorough
def test_a_store_that_refuses_costs_its_video_and_leaves_no_record(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fsspec.implementations.local import LocalFileSystem

    put = LocalFileSystem.put_file

    def full(self: LocalFileSystem, here: str, there: str, *rest: object, **further: object) -> None:
        if there.endswith("v0.csv"):
            raise OSError(28, "No space left on device", "secret")
        put(self, here, there, *rest, **further)

    monkeypatch.setattr(LocalFileSystem, "put_file", full)
    assert place.detect("--format", "json", "csv") == 2
    error = capsys.readouterr().err.splitlines()[0]
    assert error == (
        f"afsd: error: {place.url}/v0.csv: cannot be written (No space left on device); make room there, or choose "
        "another place"
    )
    assert (place.store / ".afsd/records/v1.json").exists()
    assert not (place.store / ".afsd/records/v0.json").exists()
    assert "v0" in (place.store / "failures.jsonl").read_text()
    monkeypatch.undo()
    assert place.detect("--format", "json", "csv") == 0
    assert not (place.store / "failures.jsonl").exists()


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("s3://bucket/found", StoreFolder("s3://bucket/found")),
        ("local:///x", StoreFolder("local:///x")),
        ("file:///x/y%20z", Path("/x/y z")),
        ("found/day1", Path("found/day1")),
        (Path("found"), Path("found")),
        (StoreFolder("gs://b"), StoreFolder("gs://b")),
    ],
)
def test_what_an_out_names(given: str | Path | StoreFolder, place: Path | StoreFolder) -> None:
    assert place_of(given) == place


def test_servers_and_streams_are_no_place_for_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"^https://host/found: got the address of a server, expected a folder, or "):
        place_of("https://user:word@host/found")
    here = os.fspath(tmp_path)
    commands: list[tuple[Callable[[], list[str]], str]] = [
        (lambda: ["detect", "m.onnx", "v.mp4", "--out", "http://host/x"], "got the address of a server"),
        (lambda: ["detect", "m.onnx", "v.mp4", "--out", f"local://{here}", "--stream"], "--stream appends lines to"),
        (lambda: ["features", "v.mp4", "--backbone", "m.onnx", "--out", "s3://b/x"], "got a URL, expected a folder"),
    ]
    for words, said in commands:
        assert cli.main(words()) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
