"""What makes a video be done again, and what does not."""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.common.files import file_sha256
from runtime.detector import Detector, DetectorOptions
from runtime.errors import InputError, VideoError, VideoWarning
from runtime.jobs.looking import look_at_all
from runtime.jobs.opening import open_worker
from runtime.jobs.plan import Shard, VideoJob, plan_jobs
from runtime.jobs.recipe import make_recipe
from runtime.jobs.records import RecordFolder
from runtime.jobs.result_files import ResultFiles
from runtime.jobs.settings import FileOptions, JobSettings
from runtime.jobs.video_state import look_at, state_of
from runtime.jobs.work import VideoWorker
from runtime.jobs.worker_process import digest_allowance
from runtime.results.detections import Detections, load_detections
from tests.tiny import tiny_spec, write_tiny_onnx
from tests.videos import write_video


class Folder:
    """A folder of results, and a model with one video."""

    def __init__(self, root: Path) -> None:
        self.model = write_tiny_onnx(root / "m.onnx", None)
        self.video = write_video(root / "v.avi", frames=40)
        self.out = root / "out"
        self.out.mkdir()
        self.records = RecordFolder(self.out)
        self.records.prepare()
        self.job = plan_jobs([str(self.video)])[0]

    def settings(self, *formats: str, score: float = 0.3, lowest: float = 0.1, **options: object) -> JobSettings:
        files = FileOptions(formats or ("json", "csv"), score, lowest, str(self.model))
        return JobSettings(
            str(self.model),
            options=DetectorOptions(min_score=lowest, **options),
            files=files,  # type: ignore[arg-type]
        )

    def do(self, settings: JobSettings, job: VideoJob | None = None, fresh: bool = False) -> str:
        """Do the video; return what was to be done."""
        with Detector(settings.engine, options=settings.detector_options) as detector:
            worker = VideoWorker(
                detector,
                settings,
                files=ResultFiles(self.out, settings.files),
                records=self.records,
                recipe=make_recipe(settings),
                fresh=fresh,
            )
            finished = worker.do(job or self.job)
        assert finished.failure is None
        return finished.standing

    def content(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.out)): p.read_bytes() for p in self.out.rglob("*") if p.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_record_gives_back_what_was_found(folder: Folder) -> None:
    settings = folder.settings()
    assert folder.do(settings) == "new"
    record = folder.records.load("v")
    assert record is not None
    found = Detector(str(folder.model), options=DetectorOptions(min_score=0.1)).run(str(folder.video)).sorted()
    np.testing.assert_array_equal(record.found.segments, found.segments)
    np.testing.assert_array_equal(record.found.scores, found.scores)
    assert record.found.classes == found.classes
    assert record.found.facts is not None
    assert record.found.facts.path == str(folder.video)
    assert record.seconds == pytest.approx(4.0)
    before = folder.content()
    assert folder.do(settings) == "done"
    assert folder.content() == before
    assert folder.do(settings, fresh=True) == "new"
    assert folder.content() == before  # a record holds no time of day, and none that anything took


def test_the_same_bytes_at_another_time_are_done(folder: Folder) -> None:
    settings = folder.settings()
    folder.do(settings)
    os.utime(folder.video, ns=(1, 1))
    assert folder.do(settings) == "done"
    record = folder.records.load("v")
    assert record is not None
    assert record.state == state_of(str(folder.video))  # so the next start need not read it again


def test_other_bytes_of_the_same_length_are_done_again(folder: Folder, tmp_path: Path) -> None:
    folder.do(folder.settings())
    before = folder.content()
    other = write_video(tmp_path / "w.avi", frames=40, level=200)
    shutil.move(other, folder.video)
    assert folder.do(folder.settings()) == "new"
    assert folder.content()["v.json"] != before["v.json"]


@pytest.mark.parametrize(
    ("change", "standing"),
    [
        ({"stride": 4}, "new"),
        ({"exclusive": "class"}, "new"),
        ({"timing": "counted"}, "new"),
        ({"timing": "presented"}, "done"),  # the default, given
        ({"batch_size": 3}, "done"),
        ({"lowest": 0.05}, "new"),
        ({"lowest": 0.2}, "done"),  # all are there, and more
        ({"score": 0.5}, "files"),
    ],
)
def test_what_options_ask_for(folder: Folder, change: dict[str, object], standing: str) -> None:
    folder.do(folder.settings())
    changed = folder.settings(**change)  # type: ignore[arg-type]
    assert folder.do(changed) == standing
    assert folder.do(changed) == "done"


def test_a_selection_is_not_that_of_fewer_detections(folder: Folder) -> None:
    """What is left out because of a weaker one that is merged into it cannot be told afterwards."""
    folder.do(folder.settings(merge_gap=1.0, lowest=0.1))
    assert folder.do(folder.settings(merge_gap=1.0, lowest=0.3)) == "new"


def test_a_file_that_is_missing_or_changed_is_written_anew_without_reading_the_video(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = folder.settings("json", "csv", "html")
    folder.do(settings)
    before = folder.content()
    monkeypatch.setattr(Detector, "run", None)
    (folder.out / "v.json").write_text('{"version": "afsd 1", "results": {}}')
    (folder.out / "v.html").unlink()
    assert folder.do(settings) == "files"
    assert folder.content() == before


def test_formats_that_are_added_stay_beside_those_that_still_hold(folder: Folder) -> None:
    folder.do(folder.settings("json"))
    assert folder.do(folder.settings("csv")) == "files"
    assert {"v.json", "v.csv"} <= folder.content().keys()
    assert folder.do(folder.settings("json", "csv")) == "done"


def test_no_file_of_what_the_video_was_stays(folder: Folder) -> None:
    """A page of another score, or of another video, would lie."""
    folder.do(folder.settings("json", "html"))
    assert folder.do(folder.settings("csv", score=0.5)) == "files"
    assert {name for name in folder.content() if not name.startswith(".")} == {"v.csv"}
    folder.do(folder.settings("json", "html"))
    (folder.out / "v.html").write_text("<!doctype html>\n<!-- afsd report 1 -->\nand my notes")
    write_video(folder.video, frames=30, level=30)
    assert folder.do(folder.settings("csv")) == "new"
    assert {name for name in folder.content() if not name.startswith(".")} == {"v.csv", "v.html"}  # somebody's notes


def test_a_video_that_has_changed_and_fails_leaves_no_old_results(folder: Folder) -> None:
    folder.do(folder.settings())
    content = folder.video.read_bytes()
    folder.video.unlink()
    with pytest.raises(VideoError):
        folder.do(folder.settings())
    assert "v.json" in folder.content()  # it may be back soon
    folder.video.write_bytes(b"no video" * 100)
    with pytest.raises(VideoError):
        folder.do(folder.settings())
    assert folder.content() == {}
    folder.video.write_bytes(content)
    assert folder.do(folder.settings()) == "new"


def test_what_a_changed_video_was_is_gone_before_the_work_begins(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is gone also where the work kills its process, takes all memory, or fails as nobody foresaw."""
    folder.do(folder.settings())
    seen: list[dict[str, bytes]] = []

    def run(*_: object, **__: object) -> None:
        seen.append(folder.content())
        raise MemoryError

    monkeypatch.setattr(Detector, "run", run)
    with pytest.raises(MemoryError):  # the same video, done again: what is there is still true
        folder.do(folder.settings(), fresh=True)
    write_video(folder.video, frames=30, level=30)
    with pytest.raises(MemoryError):
        folder.do(folder.settings())
    assert set(seen[0]) == {"v.json", "v.csv", ".afsd/records/v.json"}
    assert seen[1] == folder.content() == {}


def test_a_record_claims_what_its_own_run_wrote(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run, with other options, writes its file between the writing of this one's and that of its record."""
    write, other = ResultFiles._write, '{"version": "afsd 1", "results": {}}'

    def overtaken(files: ResultFiles, path: Path, *rest: Any) -> None:
        write(files, path, *rest)
        path.write_text(other)

    monkeypatch.setattr(ResultFiles, "_write", overtaken)
    folder.do(folder.settings("json"))
    monkeypatch.undo()
    record = folder.records.load("v")
    assert record is not None
    assert not folder.records.is_own_file(record, "v.json")
    assert folder.do(folder.settings("json")) == "files"
    assert (folder.out / "v.json").read_text() != other
    assert folder.records.is_own_file(record, "v.json")


def test_records_are_looked_at_side_by_side_and_without_reading(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that answers when eight ask at once, or in five seconds not."""
    settings = folder.settings("json")
    folder.do(settings)
    record = folder.records.load("v")
    assert record is not None
    jobs = [replace(folder.job, name=f"v{number}", stem=f"v{number}") for number in range(8)]
    for job in jobs:
        (folder.out / f"{job.name}.json").write_bytes((folder.out / "v.json").read_bytes())
        folder.records.save(replace(record, name=job.name, files={f"{job.name}.json": record.files["v.json"]}))
    together, state = threading.Barrier(8), look_at(folder.job.source)

    def look(_: object) -> str:
        together.wait(5)
        return state

    monkeypatch.setattr("runtime.jobs.records.look_at", look)
    monkeypatch.setattr("runtime.jobs.records.state_of", None)
    recipe = make_recipe(settings)
    found = list(look_at_all(jobs, folder.records, recipe, settings.files))
    assert [job.name for job, _ in found] == [job.name for job in jobs]
    assert [record is not None and record.name for _, record in found] == [job.name for job in jobs]
    state = "another time"
    assert [record for _, record in look_at_all(jobs, folder.records, recipe, settings.files)] == [None] * 8


def test_another_model_is_another_recipe_and_another_name_of_it_is_not(folder: Folder, tmp_path: Path) -> None:
    folder.do(folder.settings())
    settings = folder.settings()
    copy = tmp_path / "copy.onnx"
    shutil.copy(folder.model, copy)
    assert make_recipe(replace(settings, engine=str(copy))) == make_recipe(settings)
    from tests.tiny import tiny_spec

    write_tiny_onnx(copy, tiny_spec(window_stride=4))
    assert make_recipe(replace(settings, engine=str(copy))) != make_recipe(settings)


def test_a_video_that_moved_is_known_and_its_files_name_the_new_place(folder: Folder, tmp_path: Path) -> None:
    folder.do(folder.settings())
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "v.avi"
    shutil.move(folder.video, moved)
    (job,) = plan_jobs([str(moved)])
    assert folder.do(folder.settings(), job) == "files"
    (found,) = load_detections(folder.out / "v.json")
    assert found.facts is not None
    assert found.facts.path == str(moved)
    assert folder.do(folder.settings(), job) == "done"


@pytest.mark.parametrize("damage", ["", "{", '{"afsd record": 1}', '{"afsd record": 99}', "[]", "\0"])
def test_a_damaged_record_is_as_none(folder: Folder, damage: str) -> None:
    folder.do(folder.settings())
    before = folder.content()
    folder.records.path_of("v").write_text(damage)
    assert folder.records.names() == []
    assert folder.do(folder.settings()) == "new"
    assert folder.content() == before


@pytest.mark.parametrize("name", ["../mine.json", "/mine.json", "a/../../mine.json"])
def test_a_record_that_claims_files_elsewhere_is_as_none(folder: Folder, name: str) -> None:
    """What a record claims is removed when its video changes."""
    folder.do(folder.settings())
    record = folder.records.load("v")
    assert record is not None
    folder.records.save(replace(record, files={name: record.files["v.json"]}))
    assert folder.records.names() == []


ODD_VALUES: list[tuple[str, object]] = [
    ("seconds", "x"),
    ("seconds", None),
    ("seconds", float("nan")),
    ("seconds", -1.0),
    ("seconds", 10**400),
    ("frames", "x"),
    ("windows", 1.5),
    ("labels", [0.5]),
    ("labels", [10**30]),
    ("labels", [2**40]),
    ("labels", [True]),
    ("scores", [float("nan")]),
    ("segments", [[[0.0, 1.0]]]),
    ("segments", [[0.0, float("inf")]]),
    ("classes", "ab"),
    ("classes", [["a"], None]),
    ("video", 3),
    ("files", [1]),
    ("files", None),
    ("files", {"../victim.json": {"sha256": "", "holds": ""}}),
    ("files", {"/etc/passwd": {"sha256": "", "holds": ""}}),
]
"""Values that JSON can hold and a run never writes."""


def test_a_record_with_a_value_that_none_has_is_as_none(folder: Folder) -> None:
    one = {"labels": [0], "scores": [0.5], "segments": [[0.0, 1.0]], "classes": ["jump", "throw"]}
    folder.do(folder.settings())
    path = folder.records.path_of("v")
    content = json.loads(path.read_text()) | one
    path.write_text(json.dumps(content))
    assert folder.records.names() == ["v"]
    for key, value in ODD_VALUES:
        path.write_text(json.dumps(content | {key: value}))
        assert folder.records.load("v") is None, (key, value)
    assert folder.records.names() == []


def test_a_record_removes_no_file_outside_of_its_folder(folder: Folder, tmp_path: Path) -> None:
    """A stranger's record names a file beside the folder, with its digest; the video it is of has changed."""
    victim = tmp_path / "victim.json"
    victim.write_text("precious")
    folder.do(folder.settings())
    path = folder.records.path_of("v")
    content = json.loads(path.read_text())
    content["files"]["../victim.json"] = {"sha256": file_sha256(victim), "holds": "x"}
    content["state"] = {"quick": "1 bytes, 1 ns", "digest": "sha256:0"}
    path.write_text(json.dumps(content))
    folder.do(folder.settings())
    assert victim.read_text() == "precious"


def test_a_record_that_would_fill_the_memory_is_not_read(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.do(folder.settings())
    os.truncate(folder.records.path_of("v"), (1 << 28) + 1)  # a hole, which takes no room on the disk
    monkeypatch.setattr("runtime.jobs.records.read_json", lambda *_: pytest.fail("it was read"))
    assert folder.records.load("v") is None


def test_records_that_have_each_other_s_place_are_none(folder: Folder) -> None:
    folder.do(folder.settings())
    path = folder.records.path_of("v")
    path.rename(path.with_name("w.json"))
    assert folder.records.read(path.with_name("w.json")) is None
    assert folder.records.names() == []


def test_a_video_that_changes_while_it_is_read_is_said(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Detector.run

    def run_and_grow(detector: Detector, source: str, **options: Any) -> Detections:
        found = run(detector, source, **options)
        with folder.video.open("ab") as file:
            file.write(b"more")
        return found

    monkeypatch.setattr(Detector, "run", run_and_grow)
    with pytest.warns(VideoWarning, match="changed while it was read"):
        folder.do(folder.settings())
    monkeypatch.undo()
    assert folder.do(folder.settings()) == "new"
    assert folder.do(folder.settings()) == "done"


def test_a_model_that_is_another_one_than_the_records_name_ends_the_job(folder: Folder, tmp_path: Path) -> None:
    settings = folder.settings()
    recipe = make_recipe(settings)
    with open_worker(settings, folder.out, recipe=recipe) as worker:
        worker.do(folder.job)
    before = folder.content()
    write_tiny_onnx(folder.model, replace(tiny_spec(), sample_fps=5.0))
    with (
        pytest.raises(InputError, match="changed since the job began"),
        open_worker(settings, folder.out, recipe=recipe) as worker,
    ):
        worker.do(folder.job)
    assert folder.content() == before


@pytest.mark.parametrize("name", ["a", "~a", ".a", "動" * 82, "x" * 250, "a\tb", "con", "a/b", "50%", "\udcff"])
def test_records_of_odd_names(folder: Folder, name: str) -> None:
    folder.do(folder.settings())
    record = folder.records.load("v")
    assert record is not None
    record = replace(record, name=name, found=replace(record.found, video=name))
    folder.records.save(record)
    found = folder.records.load(name)
    assert found is not None
    assert found.to_json() == record.to_json()
    assert sorted(folder.records.names()) == sorted(["v", name])
    assert [folder.records.name_in(folder.records.path_of(one)) for one in ("v", name)] == ["v", name]
    folder.records.remove(name)
    assert folder.records.load(name) is None


def test_names_are_those_of_the_whole_list(tmp_path: Path) -> None:
    sources = ["a/clip.mp4", "b/clip.mp4", "all.mp4", "all-video.mp4", "index.mp4", "http://[bad", "s3://b/clip.mp4"]
    jobs = plan_jobs(sources)
    assert [job.name for job in jobs] == [
        "clip", "clip-2", "all", "all-video", "index", "video6", "clip-3",
    ]  # fmt: skip
    assert [job.stem_for("csv") for job in jobs][2:5] == ["all-video-2", "all-video", "index"]
    assert [job.stem_for("html") for job in jobs][2:5] == ["all", "all-video", "index-video"]
    assert [job.name for job in plan_jobs(["v_x.mp4", "x.mp4"], labelled=True)] == ["x", "x-2"]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_disjoint_and_complete(count: int) -> None:
    names = [f"{name}{number}" for name in ("clip", "é", "\udcff", "x" * 300) for number in range(50)]
    here = plan_jobs([f"/mnt/a/{name}.mp4" for name in names])
    there = plan_jobs([f"s3://bucket/{name}.mp4" for name in reversed(names)])
    parts = [
        [{job.name for job in jobs if Shard.parse(f"{number}/{count}").holds(job)} for number in range(1, count + 1)]
        for jobs in (here, there)
    ]
    assert parts[0] == parts[1]
    assert sum(map(len, parts[0])) == len(set().union(*parts[0])) == len(names)
    assert min(map(len, parts[0])) > len(names) / count / 2


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "-1/2", "a/b", "1/2/3", "9999999/9999999"])
def test_a_shard_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="shard"):
        Shard.parse(text)


def test_an_object_is_known_by_the_tag_of_its_store(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/states/v.mp4", b"1234")
    facts = {"ETag": "a1", "size": 4, "LastModified": "2026-01-01"}
    monkeypatch.setattr(type(memory), "info", lambda self, path, **_: {"name": path, **facts})
    first = state_of("memory://states/v.mp4")
    assert first is not None
    assert first.quick == first.digest == look_at("memory://states/v.mp4?signature=another")
    facts["ETag"] = "b2"
    assert look_at("memory://states/v.mp4") != first.quick


def test_a_file_of_a_server_is_known_by_its_time_and_size(tmp_path: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "v.mp4").write_bytes(b"1234")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/v.mp4"
        first = look_at(address)
        assert look_at(f"{address}?token=other") == first
        os.utime(tmp_path / "v.mp4", (10**9, 10**9))
        assert look_at(address) != first
        server.shutdown()


def test_sources_that_are_never_the_same(tmp_path: Path) -> None:
    assert state_of(0) is None
    assert state_of("-") is None
    assert state_of("rtsp://camera/1") is None
    assert state_of(str(tmp_path / "gone.mp4")) is None


def test_a_server_that_says_nothing_is_known_by_the_address() -> None:
    one, two = (look_at(f"ftp://user:secret@127.0.0.1:1/v.mp4?id={number}") for number in (1, 2))
    assert one
    assert one != two
    assert look_at("ftp://other:word@127.0.0.1:1/v.mp4?id=1") == one


def test_a_folder_of_images_and_features(tmp_path: Path) -> None:
    from runtime.features.video_features import Features

    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        (images / f"{number}.png").write_bytes(bytes([number]))
    first = state_of(str(images))
    os.utime(images / "1.png", ns=(5, 5))
    touched = state_of(str(images))
    (images / "1.png").write_bytes(b"9")
    changed = state_of(str(images))
    assert first is not None
    assert touched is not None
    assert changed is not None
    assert first.digest == touched.digest != changed.digest
    assert first.quick != touched.quick
    np.save(tmp_path / "a.npy", np.zeros((4, 2), np.float32))
    np.save(tmp_path / "b.npy", np.ones((4, 2), np.float32))
    states = [state_of(Features([tmp_path / f"{name}.npy" for name in names])) for names in ("a", "ab", "ba")]
    assert len({state.digest for state in states if state is not None}) == 3
    assert state_of(Features(np.zeros((4, 2)))) is None


@pytest.mark.thorough
def test_a_server_that_never_ends_its_answer_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header a byte at a time: every single wait is short."""

    class Trickle(SimpleHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nETag: ")
            while not over.wait(0.05):
                try:
                    self.wfile.write(b"a")
                except OSError:
                    return

    over = threading.Event()
    monkeypatch.setattr("runtime.jobs.video_state.FACTS_S", 0.3)
    with ThreadingHTTPServer(("127.0.0.1", 0), Trickle) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v.mp4"
        assert look_at(url).startswith("remote:")  # known by its address
        over.set()
        server.shutdown()


def test_the_allowance_for_digests_counts_all_files_of_a_video(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(3):
        (tmp_path / "images" / f"{number}.png").write_bytes(bytes(1_000_000))
    video = tmp_path / "v.mp4"
    video.write_bytes(bytes(2_000_000))
    assert [digest_allowance(str(path)) for path in (tmp_path / "images", video, tmp_path / "none.mp4")] == [
        pytest.approx(0.75),
        pytest.approx(0.5),
        0.0,
    ]
