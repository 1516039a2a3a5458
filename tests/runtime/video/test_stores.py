"""Prefixes and patterns of object stores: what is listed, by which names, what the store says, and what goes wrong."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import MissingDependencyError, VideoError
from runtime.jobs.plan import plan_jobs
from runtime.jobs.video_state import look_at
from runtime.video.sources import VIDEO_SUFFIXES, expand_sources, list_sources, name_of
from runtime.video.stores import ObjectUrl, list_objects

TREE = ("clip2.mp4", "clip10.MP4", "notes.txt", ".clip.mp4", "m #3.mp4", "day1/cam1.mkv", "day2/cam1.mkv",
        "day2/.trash/old.mp4", "a[1].mp4")  # fmt: skip
RIGHT_THERE = ["a[1].mp4", "clip2.mp4", "clip10.MP4", "m #3.mp4"]


@pytest.fixture(params=["memory", "local"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a prefix with the objects of `TREE`: of a store in memory, which has no tags and times, and of a disk."""
    fsspec = pytest.importorskip("fsspec")
    url = f"memory://bucket-{tmp_path.name}/v" if request.param == "memory" else f"local://{tmp_path}/v"
    for name in TREE:
        filesystem, path = fsspec.core.url_to_fs(f"{url}/{name}")
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        filesystem.pipe_file(path, name.encode())
    return url


@pytest.mark.parametrize(
    ("rest", "recursive", "expected"),
    [
        ("/", False, RIGHT_THERE),
        ("", False, RIGHT_THERE),
        ("/", True, [*RIGHT_THERE[:3], "day1/cam1.mkv", "day2/cam1.mkv", RIGHT_THERE[3]]),
        ("/*.mp4", False, ["a[1].mp4", "clip2.mp4", "m #3.mp4"]),
        ("/**/*.m[pk][4v]", False, ["a[1].mp4", "clip2.mp4", "day1/cam1.mkv", "day2/cam1.mkv", "m #3.mp4"]),
        ("/day?/*", False, ["day1/cam1.mkv", "day2/cam1.mkv"]),
        ("/day*", False, ["day1/cam1.mkv", "day2/cam1.mkv"]),
        ("/.cl*", False, [".clip.mp4"]),
        ("/a[1].mp4", False, ["a[1].mp4"]),
        ("/notes.txt", False, ["notes.txt"]),
        ("/gone.mp4", False, ["gone.mp4"]),  # said when it is opened, as of files
    ],
)
def test_a_prefix_and_a_pattern_stand_for_their_videos(
    tree: str, rest: str, recursive: bool, expected: list[str]
) -> None:
    assert expand_sources([tree + rest], recursive=recursive) == [f"{tree}/{name}" for name in expected]


def test_objects_of_a_list_are_in_its_order(tree: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{tree}/day2/\n{tree}/clip2.mp4\n{tree}/day1/\n")
    found = expand_sources([f"@{tmp_path}/list.txt"])
    assert found == [f"{tree}/{name}" for name in ("day2/cam1.mkv", "clip2.mp4", "day1/cam1.mkv")]


def test_a_video_is_known_by_its_place_below_the_prefix(tree: str) -> None:
    found = list_objects(f"{tree}/", VIDEO_SUFFIXES, recursive=True)
    assert {one.place for one in found} == {*RIGHT_THERE, "day1/cam1.mkv", "day2/cam1.mkv"}
    assert all(one.url == f"{tree}/{one.place}" for one in found)
    assert [one.place for one in list_objects(f"{tree}/*.mp4", VIDEO_SUFFIXES)] == [""] * 3
    assert [job.name for job in plan_jobs(list_sources([tree]))] == ["a[1]", "clip2", "clip10", "m #3"]
    deep = [job.name for job in plan_jobs(list_sources([f"{tree}/"], recursive=True))]
    assert deep == ["a[1]", "clip2", "clip10", "day1/cam1", "day2/cam1", "m #3"]
    assert [job.name for job in plan_jobs(list_sources([f"{tree}/**/*.mkv"]))] == ["cam1", "cam1-2"]
    assert name_of(f"{tree}/m #3.mp4")[1] == f"{tree}/m #3.mp4"


def test_names_lead_out_of_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object may have any name, and results are written to places with the same."""
    memory = pytest.importorskip("fsspec").filesystem("memory")
    names = ("v/../../up.mp4", "v/a/../../../up.mp4", "v//twice.mp4", "v/a/./here.mp4", "v/day/good.mp4")
    listed = {f"/bucket/{name}": {"name": name, "type": "file", "size": 1} for name in names}
    monkeypatch.setattr(type(memory), "find", lambda *_, **__: dict(listed))
    found = list_sources(["memory://bucket/v/"], recursive=True)
    assert [(one.source, one.name) for one in found] == [
        ("memory://bucket/v/day/good.mp4", "day/good"),
        ("memory://bucket/v//twice.mp4", ""),
    ]


def test_what_a_listing_says_is_what_the_object_itself_says(tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [source for source in expand_sources([tree]) if isinstance(source, ObjectUrl)]
    assert len(listed) == len(RIGHT_THERE)
    for url in listed:
        again = pickle.loads(pickle.dumps(url))
        assert (again, again.known) == (url, url.known)
        assert look_at(url) == look_at(str(url)) != ""
        assert bool(url.known) == tree.startswith("local")
    if listed[0].known:
        monkeypatch.setattr("runtime.video.stores.open_store", lambda *_: pytest.fail("the store was asked again"))
        assert len({look_at(url) for url in listed}) == len(listed)


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("/none/", "none/: not found "),
        ("/none", "none: not found "),
        ("/*.avi", "no object matches; expected a pattern that matches some"),
        ("/none/*.mp4", "not found "),
        ("/day2/.trash/none/", "not found "),
    ],
)
def test_what_is_not_there_is_one_line(tree: str, rest: str, said: str) -> None:
    with pytest.raises(VideoError) as error:
        expand_sources([tree + rest])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_prefix_without_videos_says_what_it_has(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    top = f"bucket-{tmp_path.name}"
    for name in ("a/b/clip.mp4", "c/notes.txt", "c/more.txt"):
        memory.pipe_file(f"/{top}/{name}", b"x")
    with pytest.raises(
        VideoError, match=rf"memory://{top}/a/: no object there, but prefixes below it; give --recursive"
    ):
        expand_sources([f"memory://{top}/a/"])
    with pytest.raises(
        VideoError, match=f"memory://{top}/c: 2 objects there, none of them a video; expected names such"
    ):
        expand_sources([f"memory://{top}/c"])


@pytest.mark.parametrize(("url", "said"), [("s3://", "names no bucket"), ("memory://*/a.mp4", "name the bucket")])
def test_all_buckets_are_not_listed(url: str, said: str) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(VideoError, match=said):
        expand_sources([url])


def test_the_package_of_the_store_is_named_where_it_is_missing() -> None:
    pytest.importorskip("fsspec")
    for url, package in (("s3://b/x/", "s3fs"), ("gs://b/*.mp4", "gcsfs"), ("abfs://b/x", "adlfs")):
        if importlib.util.find_spec(package) is None:
            with pytest.raises(
                MissingDependencyError, match=f"needs {package}, which is not installed: pip install {package}"
            ):
                expand_sources([url])
    with pytest.raises(VideoError, match=r"nostore://b/x/: cannot be opened .*nostore"):
        expand_sources(["nostore://b/x/"])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError("Access Denied"), "the store refuses the listing (Access Denied); check the keys"),
        (FileNotFoundError("The specified bucket does not exist"), "not found (The specified bucket does not exist)"),
        (RuntimeError("line one\nline two"), "cannot be listed (line one line two); check the address"),
        (TimeoutError(), "cannot be listed (TimeoutError); check"),
    ],
)
@pytest.mark.parametrize("rest", ["", "**/*.mp4"])
def test_what_a_store_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, rest: str, error: Exception, said: str
) -> None:
    memory = pytest.importorskip("fsspec").filesystem("memory")

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    for method in ("ls", "find", "glob"):
        monkeypatch.setattr(type(memory), method, refuse)
    with pytest.raises(VideoError) as raised:
        expand_sources([f"memory://bucket/x/{rest}"])
    assert str(raised.value).startswith("memory://bucket/x/")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
