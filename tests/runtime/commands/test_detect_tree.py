"""`afsd detect --recursive`: the names of the videos of a tree, and what reads the results by them."""

from __future__ import annotations

import csv
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from runtime.cli import main
from runtime.detector import Detector
from runtime.exchange.files import read_segments
from runtime.exchange.found import load_found
from runtime.jobs.records import RecordFolder
from runtime.jobs.row_tables import detection_rows
from runtime.results.detections import Detections, load_detections
from tests.runtime.report.cases import read
from tests.tiny import write_tiny_onnx
from tests.videos import write_video

NAMES = ("day1", "day1/all", "day1/cam1", "day2/a #?%&/cam1", "day2/cam1", "top")
"""Names of the videos of the tree in its order: one is called as a folder beside it, one as the table of all."""


class Tree:
    """A tree of videos, and the results of `afsd detect --recursive` on it."""

    def __init__(self, root: Path) -> None:
        self.root, self.videos, self.out = root, root / "tree", root / "out"
        self.model = write_tiny_onnx(root / "m.onnx", None)

    def write(self, name: str, level: int) -> None:
        path = self.videos / f"{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, frames=12, level=level)

    def detect(self, *flags: str) -> int:
        words = [str(self.model), str(self.videos), "--recursive", "--out", str(self.out), "--workers", "0"]
        return main(["detect", *words, "--score", "0", *flags])

    def content(self) -> dict[str, bytes]:
        """The bytes of all files of results, by their names in the folder."""
        files = (path for path in self.out.rglob("*") if path.is_file())
        return {path.relative_to(self.out).as_posix(): path.read_bytes() for path in files}

    def table(self) -> list[str]:
        """The videos of the table of all, in its order."""
        with (self.out / "all.csv").open(newline="") as file:
            return list(dict.fromkeys(row["video"] for row in csv.DictReader(file)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    tree = Tree(tmp_path_factory.mktemp("names"))
    for number, name in enumerate(NAMES):
        tree.write(name, 40 + 30 * number)
    for hidden in (".trash/old", "day1/.afsd/cam9"):
        (tree.videos / hidden).parent.mkdir()
        shutil.copy(tree.videos / "top.avi", tree.videos / f"{hidden}.avi")
    (tree.videos / "link").symlink_to("day1")
    assert tree.detect("--format", "json", "csv", "html") == 0
    return tree


@pytest.fixture
def tree(made: Tree, tmp_path: Path) -> Tree:
    """A copy, to be changed."""
    shutil.copytree(made.root, tmp_path, dirs_exist_ok=True, symlinks=True)
    copied = Tree(tmp_path)
    for path in (copied.out / ".afsd" / "records").iterdir():  # which name the places of the video and the model
        path.write_text(path.read_text().replace(str(made.root), str(tmp_path)))
    return copied


def found_in(out: Path) -> dict[str, Detections]:
    return {one.video: one for one in load_found(out)}


def test_a_video_below_is_named_by_its_path(made: Tree) -> None:
    there = {name for name in made.content() if not name.startswith(".afsd/")}
    files = {f"{name}.{suffix}" for name in NAMES for suffix in ("json", "csv", "html")}
    assert there == files | {"all.csv", "index.html"}
    for name in NAMES:
        (found,) = load_detections(made.out / f"{name}.json")
        assert found.video == name
        assert found.facts is not None
        assert found.facts.path == str(made.videos / f"{name}.avi")
        assert read(made.out / f"{name}.html").data["video"] == name
    assert sorted(made.table()) == sorted(NAMES)
    records = sorted(path.name for path in (made.out / ".afsd" / "records").iterdir())
    assert records == sorted(f"{name.replace('%', '%25').replace('/', '%2F')}.json" for name in NAMES)


class Links(HTMLParser):
    """Collects the addresses of the videos of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.videos: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "video":
            self.videos += [value for key, value in attrs if key == "src" and value is not None]


def test_every_link_leads_to_a_file(made: Tree) -> None:
    lines = read(made.out / "index.html").data["videos"]
    assert sorted(line["video"] for line in lines) == sorted(NAMES)
    for line in lines:
        assert not {"#", "?", " "} & set(line["page"])
        page = made.out / unquote(line["page"])
        data = read(page).data
        assert data["video"] == line["video"]
        assert (page.parent / data["index"]).resolve() == (made.out / "index.html").resolve()
        (address,) = Links(page.read_text()).videos
        assert (page.parent / unquote(address)).resolve() == (made.videos / f"{line['video']}.avi").resolve()


@pytest.fixture
def truth(made: Tree, tmp_path: Path) -> Path:
    """Annotations of the tree by the paths of its videos: every third detection, a little longer."""
    found = load_found(made.out)
    database = {
        one.video: {"subset": "test", "annotations": [
            {"label": d.label, "segment": [d.start_s, d.end_s + 0.1]} for d in list(one)[::3]
        ]}
        for one in found
    }  # fmt: skip
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"database": database}))
    return path


@pytest.mark.thorough
def test_the_folder_is_judged_as_the_model_is(made: Tree, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = []
    for what in ([made.out], [made.model, "--videos", made.videos]):
        assert main(["evaluate", str(what[0]), str(truth), "--json", *map(str, what[1:])]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0] == results[1]
    assert results[0]["average_mAP"] > 0


@pytest.mark.thorough
def test_other_verbs_read_the_folder(made: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = found_in(made.out)
    assert set(whole) == set(NAMES)
    assert main(["convert", str(made.out), str(tmp_path / "all.json")]) == 0
    for video in read_segments(tmp_path / "all.json"):
        assert [one.score for one in video.segments] == whole[video.name].scores.tolist()
    assert main(["convert", str(made.out), str(tmp_path / "srt"), "--to", "srt"]) == 0
    assert (tmp_path / "srt" / "day2" / "a #?%&" / "cam1.srt").is_file()
    capsys.readouterr()
    clips = ["clips", str(made.out), "--out", str(tmp_path / "clips"), "--top", "1", "--score", "0"]
    assert main(clips) == 0
    assert main([*clips, "--video", str(made.videos / "day2" / "cam1.avi"), "--overwrite"]) == 0
    cut = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert sorted(cut) == sorted([*NAMES, "day2/cam1"])
    assert sorted(path.name.partition("-01-")[0] for path in (tmp_path / "clips").iterdir()) == [
        "day1", "day1_all", "day1_cam1", "day2_a_cam1", "day2_cam1", "top",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_what_lies_beside_results_is_left_out(made: Tree, tmp_path: Path, suffix: str) -> None:
    """Tables and lines are read as JSON is; somebody's files, copies of results and the job's own folder are not."""
    out = tmp_path / "out"
    for name in NAMES:
        (out / f"{name}.csv").parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made.out / f"{name}.csv", out / f"{name}.csv")
    shutil.copytree(made.out / ".afsd", out / ".afsd")
    rows = [json.dumps(row) for one in found_in(made.out).values() for row in detection_rows(one)]
    (out / "detections.jsonl").write_text("\n".join(rows))
    if suffix == ".jsonl":
        for name, found in found_in(out).items():
            lines = [
                {"video": name, "label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in found
            ]
            (out / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
            (out / f"{name}.csv").unlink()
    (out / "day1" / "copy").mkdir()
    shutil.copy(made.out / "day1" / "cam1.json", out / "day1" / "copy" / "cam1.json")
    shutil.copy(made.out / "top.json", out / "day2" / "top.json")
    (out / "day2" / "notes.json").write_text('{"mine": ')
    (out / "day2" / "notes.jsonl").write_text("[]\n")
    (out / "day2" / "notes.csv").write_text("a,b\n")
    notes: list[str] = []
    found = {one.video: one for one in load_found(out, notes.append)}
    assert {name: len(one) for name, one in found.items()} == {n: len(f) for n, f in found_in(made.out).items()}
    # a copy has the place of another video, or of none
    left = "day1/copy/cam1.json, day2/notes.json, day2/top.json"
    assert notes[0] == f"{out}: no detections of a video by its path, and left out: {left}"
    assert {video.name: len(video.segments) for video in read_segments(out)} == {n: len(f) for n, f in found.items()}


def test_a_folder_that_is_added_moves_no_name(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree.content()
    seen: list[str] = []
    run = Detector.run

    def watched(detector: Detector, source: object, **options: object) -> Detections:
        seen.append(str(source))
        return run(detector, source, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Detector, "run", watched)
    tree.write("day0/cam1", 99)
    flags = ("--format", "json", "csv", "html")
    assert tree.detect(*flags) == 0
    assert seen == [str(tree.videos / "day0" / "cam1.avi")]
    assert tree.table() == ["day0/cam1", *NAMES]
    results = {name for name in before if name.startswith("day") and name.endswith((".json", ".csv"))}
    assert {name: tree.content()[name] for name in results} == {name: before[name] for name in results}
    shutil.rmtree(tree.videos / "day0")
    assert tree.detect(*flags) == 0
    assert tree.table() == [*NAMES, "day0/cam1"]  # its results stay


@pytest.mark.thorough
def test_results_of_an_older_name_are_in_no_table(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """Earlier releases called day1/cam1.avi "cam1"; so does a run on the file itself."""
    video = tree.videos / "day1" / "cam1.avi"
    words = ["detect", str(tree.model), str(video), "--out", str(tree.out), "--score", "0", "--csv"]
    assert main(words) == 0
    assert f"under another name in {tree.out}, too: day1/cam1; remove" in capsys.readouterr().err
    assert "day1/cam1" not in tree.table()
    assert tree.detect("--format", "json", "csv", "html") == 0
    note = (
        f"afsd: 1 video of the list with results under another name in {tree.out}, too: cam1; remove the files of that "
        "name and its record in .afsd, or choose another --out\n"
    )
    assert note in capsys.readouterr().err
    assert tree.table() == [*NAMES]
    (tree.out / "all.csv").unlink()
    (tree.out / "index.html").unlink()
    assert tree.detect() == 0  # also where there is no table
    assert note in capsys.readouterr().err
    shutil.copy(tree.videos / "day1" / "cam1.avi", tree.videos / "cam1.avi")  # a video of its own, of the same content
    assert tree.detect() == 0
    assert "under another name" not in capsys.readouterr().err


@pytest.mark.thorough
def test_a_video_that_changed_leaves_no_file_of_what_it_was(tree: Tree) -> None:
    tree.write("day1/cam1", 200)
    assert tree.detect("--format", "json", "csv") == 0
    assert not (tree.out / "day1" / "cam1.html").exists()
    assert (tree.out / "day1" / "all.html").exists()
    (tree.out / "day1" / "cam1.json").write_text("[]")  # damaged: it is the job's own, and written anew
    assert tree.detect("--format", "json", "csv") == 0
    assert load_detections(tree.out / "day1" / "cam1.json")[0].video == "day1/cam1"


@pytest.mark.thorough
def test_files_of_others_are_left_alone(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree.content()
    (tree.out / "day3").write_text("mine")
    tree.write("day3/cam1", 10)
    assert tree.detect() == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"afsd: error: {tree.out}/day3: a file, where a folder is needed for results; remove it, or choose another "
        "place for them"
    )
    (tree.out / "day3").unlink()
    (tree.out / "day3").mkdir()
    (tree.out / "day3" / "cam1.json").write_text("{}")
    assert tree.detect() == 2
    assert "day3/cam1.json: is there already and no result of afsd" in capsys.readouterr().err
    assert before.items() <= tree.content().items()


def test_what_dead_processes_left_in_a_folder_is_swept(tree: Tree) -> None:
    left = tree.out / "day2" / ".afsd-abcde.json"
    left.write_text("{")
    assert tree.detect() == 0
    assert not left.exists()


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "fault"), [("con/x", "is the device CON to Windows"), ("a. /x", "ends with a dot")])
def test_a_folder_that_no_system_takes_costs_its_videos(
    tmp_path: Path, name: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Tree(tmp_path)
    tree.write(name, 50)
    tree.write("b/x", 60)
    assert tree.detect() == 2
    out, err = capsys.readouterr()
    assert fault in err
    assert f"{name}.avi" not in out  # it was not read
    assert [record.name for record in RecordFolder(tree.out).all()] == ["b/x"]
    (line,) = (tree.out / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["video"] == name


@pytest.mark.thorough
def test_lines_of_a_stream_have_the_names(made: Tree, tmp_path: Path) -> None:
    words = ["detect", str(made.model), str(made.videos), "--recursive", "--out", str(tmp_path), "--stream"]
    assert main([*words, "--score", "0"]) == 0
    whole = found_in(made.out)
    for name in NAMES:
        lines = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        assert {line["video"] for line in lines} == {name}
        assert len(lines) == len(whole[name])


def test_failures_of_one_file_name_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = Tree(tmp_path)
    for folder in ("a", "b"):
        tree.write(f"{folder}/x", 50)
        (tree.videos / folder / "x.avi").write_bytes(b"none")
    assert tree.detect() == 2
    assert "2 of 2 videos failed: a/x, b/x\n" in capsys.readouterr().err
    lines = [json.loads(line)["video"] for line in (tree.out / "failures.jsonl").read_text().splitlines()]
    assert lines == ["a/x", "b/x"]
