"""Every video of a list has a place of its own in the folder of the results, or it is said before any work."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import pytest

from runtime.errors import InputError
from runtime.jobs import places
from runtime.jobs.places import prepare_places
from runtime.jobs.plan import VideoJob, folders_of, plan_jobs
from runtime.jobs.records import RecordFolder
from runtime.jobs.result_files import ResultFiles
from runtime.jobs.settings import FileOptions
from runtime.video.sources import NamedSource


def jobs_of(*names: str) -> list[VideoJob]:
    """Jobs of videos of a tree."""
    return plan_jobs([NamedSource(f"tree/{name}.mp4", name) for name in names])


def test_names_of_a_tree_are_numbered_only_where_they_are_the_same() -> None:
    sources = [
        NamedSource("tree/cam1.mp4"),
        NamedSource("tree/day1/cam1.mp4", "day1/cam1"),
        NamedSource("tree/day1/cam1.mkv", "day1/cam1"),
        NamedSource("other/day1/cam1.mp4", "day1/cam1"),
        NamedSource("tree/day1/all.mp4", "day1/all"),
        NamedSource("tree/day1/v_x.mp4", "day1/v_x"),
    ]
    names = ["cam1", "day1/cam1", "day1/cam1-2", "day1/cam1-3", "day1/all", "day1/v_x"]
    jobs = plan_jobs(sources)
    assert [job.name for job in jobs] == names
    assert [job.file_name("csv") for job in jobs][4] == "day1/all.csv"  # all.csv alone is of all videos
    assert plan_jobs(sources, labelled=True)[-1].name == "day1/x"  # a classifier's ids have no "v_"
    assert folders_of([*names, "a/b/x", "../up/x", "/x", "con/x"]) == ["a/b", "day1"]


def test_records_lie_in_one_folder_and_no_two_are_one(tmp_path: Path) -> None:
    records = RecordFolder(tmp_path)
    long = "/".join(["part" * 20] * 8)
    names = ["a/b", "a%2Fb", "a%252Fb", "a_b", "~a/b", ".a/b", "a\tb", "a/b\t", "../b", "a/../b", long, f"{long}2"]
    paths = [records.path_of(name) for name in names]
    assert {path.parent for path in paths} == {tmp_path / ".afsd" / "records"}
    assert len({path.name.casefold() for path in paths}) == len(names)
    assert max(len(path.name.encode()) for path in paths) <= 255
    assert [path.name for path in paths[:3]] == ["a%2Fb.json", "a%252Fb.json", "a%25252Fb.json"]
    assert [records.name_in(path) for path in paths[:4]] == names[:4]
    assert paths[-1].name.startswith("~partpart")  # readable, also where a digest tells it apart


def test_a_file_where_a_folder_is_needed_is_said(tmp_path: Path) -> None:
    jobs = jobs_of("cam", "cam.json/x")
    message = rf"{tmp_path}/cam.json: would be the file of tree/cam.mp4 and the folder of tree/cam.json/x.mp4; rename"
    with pytest.raises(InputError, match=message):
        prepare_places(tmp_path, jobs, ["json"])
    prepare_places(tmp_path, jobs, ["csv"])
    with pytest.raises(InputError, match=r"all.csv: would be the file of what is of all videos and the folder of tree"):
        prepare_places(tmp_path, jobs_of("all.csv/x"), ["json"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("one", "other"), [("Day1/cam", "day1/cam"), ("day1/Cam", "day1/cam"), ("é/x", normalize("NFD", "é/x"))]
)
def test_names_that_a_file_system_takes_for_one_are_said(
    tmp_path: Path, one: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(one, other, "day2/cam")

    def exists(path: Path) -> bool:
        there = {normalize("NFC", name.name).casefold() for name in path.parent.iterdir()}
        return normalize("NFC", path.name).casefold() in there

    prepare_places(tmp_path, jobs, ["json"])  # this one tells them apart
    monkeypatch.setattr(places, "exists", exists)
    with pytest.raises(InputError, match=rf"tree/{one}.mp4 and tree/{other}.mp4: .* are one file's name in {tmp_path}"):
        prepare_places(tmp_path, jobs, ["json"])
    prepare_places(tmp_path, jobs[1:], ["json"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../x", "a/../x", "/x", "a//x", "a/", "a/.", "c:/x", "a\\x", "a\n/x", ".afsd/records/x"]
)
def test_no_result_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    files = ResultFiles(tmp_path, FileOptions())
    with pytest.raises(InputError, match="the name of a video is "):
        files.path_of(jobs_of(name)[0], "json")
