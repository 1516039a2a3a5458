"""Sources: files, patterns, lists, folders, URLs and object stores are told apart and named."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime.errors import InputError, VideoError, VideoWarning
from runtime.video.readers import choice
from runtime.video.readers.choice import open_reader
from runtime.video.readers.images import list_images
from runtime.video.readers.opencv import OpenCVReader
from runtime.video.readers.pyav import PyAVReader
from runtime.video.sampling import open_frames
from runtime.video.sources import NamedSource, expand_sources, is_live, list_sources, name_of
from tests.videos import write_video


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with videos at two levels, hidden companions of macOS, and other files."""
    for name in ("clip2.mp4", "clip10.MP4", "._clip2.mp4", "notes.txt", "deep/er/clip1.mkv", "deep/clip3.webm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folders_stand_for_their_videos(tree: Path) -> None:
    with pytest.warns(VideoWarning, match=r"\.: videos in folders below it, as in deep, are left out; --recursive"):
        assert expand_sources(["."]) == ["clip2.mp4", "clip10.MP4"]
    assert expand_sources(["."], recursive=True) == [
        "clip2.mp4",
        "clip10.MP4",
        "deep/clip3.webm",
        "deep/er/clip1.mkv",
    ]


def test_videos_below_a_folder_are_named_by_their_paths(tree: Path) -> None:
    for hidden in (".trash/clip4.mp4", "deep/.afsd/clip4.mp4"):
        (tree / hidden).parent.mkdir()
        (tree / hidden).write_bytes(b"x")
    (tree / "deep" / "v1.2.cut.mp4").write_bytes(b"x")
    (tree / "deep" / "up").symlink_to(tree)  # as by pathlib, a link to a folder is not followed
    (tree / "deep" / "same.mp4").symlink_to(tree / "clip2.mp4")
    (tree / "deep" / "gone.mp4").symlink_to(tree / "nothing.mp4")
    below = [
        NamedSource("deep/clip3.webm", "deep/clip3"),
        NamedSource("deep/er/clip1.mkv", "deep/er/clip1"),
        NamedSource("deep/same.mp4", "deep/same"),
        NamedSource("deep/v1.2.cut.mp4", "deep/v1.2.cut"),
    ]
    assert [path.suffix for path in Path().rglob("*") if path.is_file() and "up" in path.parts] == []
    assert list_sources(["."], recursive=True) == [NamedSource("clip2.mp4"), NamedSource("clip10.MP4"), *below]
    (tree / "list.txt").write_text(f"{tree}\n")
    named = {one.name for one in list_sources(["@list.txt"], recursive=True)}
    assert named == {"", "deep/clip3", "deep/er/clip1", "deep/same", "deep/v1.2.cut"}
    # what is given itself, or in a folder that is, is named by itself
    for given in (["deep"], ["dee?"], [str(tree / "deep")]):
        assert [one.name for one in list_sources(given, recursive=True)] == ["", "er/clip1", "", ""]
        assert {one.name for one in list_sources(given)} == {""}
    (tree / "deep" / "up").unlink()  # patterns follow it
    assert list_sources(["**/*.mkv"], recursive=True) == [NamedSource("deep/er/clip1.mkv")]


def test_a_folder_that_cannot_be_listed_is_said(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scan(place: str) -> object:
        if place.endswith("er"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)
        return listed(place)

    listed = os.scandir
    monkeypatch.setattr(os, "scandir", scan)
    with pytest.warns(VideoWarning, match=r"er: left out, cannot be read \(Permission denied\)"):
        assert expand_sources(["deep"], recursive=True) == ["deep/clip3.webm"]


def test_patterns(tree: Path) -> None:
    assert expand_sources(["*.[mM][pP]4"]) == ["clip2.mp4", "clip10.MP4"]
    assert expand_sources(["clip*.mp4"]) == ["clip2.mp4"]
    assert expand_sources(["**/*.mkv"]) == ["deep/er/clip1.mkv"]
    assert expand_sources(["dee?"]) == ["deep/clip3.webm"]
    with pytest.raises(VideoError, match=r"\*\.avi: no file matches; expected a video file"):
        expand_sources(["*.avi"])
    (tree / "a[1].mp4").write_bytes(b"x")
    assert expand_sources(["a[1].mp4"]) == ["a[1].mp4"]


def test_lists(tree: Path) -> None:
    (tree / "list.txt").write_bytes(b"\xef\xbb\xbfclip2.mp4\r\n# of last week\n\n0\nrtsp://cam/door\n deep \n")
    assert expand_sources(["@list.txt", "x.mp4"]) == ["clip2.mp4", 0, "rtsp://cam/door", "deep/clip3.webm", "x.mp4"]
    with pytest.raises(VideoError, match=r"@none.txt: list not found; expected a text file with one video per line"):
        expand_sources(["@none.txt"])
    (tree / "bad.txt").write_bytes(b"caf\xe9.mp4\n")
    with pytest.raises(VideoError, match=r"@bad.txt: not a readable list .* expected UTF-8 text"):
        expand_sources(["@bad.txt"])
    (tree / "self.txt").write_text("@self.txt")
    with pytest.raises(VideoError, match=r"@self.txt: the list names itself; take the line out"):
        expand_sources(["@self.txt"])
    (tree / "@odd.mp4").write_bytes(b"x")
    assert expand_sources(["@odd.mp4"]) == ["@odd.mp4"]


def test_names_of_streams_keep_host_and_port() -> None:
    assert name_of("udp://127.0.0.1:5001") == ("127.0.0.1_5001", "udp://127.0.0.1:5001")
    assert name_of("rtsp://me:secret@cam:8554/front/door?key=secret") == (
        "cam_8554_front_door",
        "rtsp://cam:8554/front/door",
    )
    assert name_of("https://host:8443/a/clip%201.mp4?key=secret") == ("clip 1", "https://host:8443/a/clip%201.mp4")
    for secret in ("secret", "se/cr?et", "sec ret", "s'ecret", "secret@x", "#secret"):
        for address in (f"rtsp://me:{secret}@cam:8554/door", f"rtsp://cam:8554/door?token={secret}"):
            assert name_of(address) == ("cam_8554_door", "rtsp://cam:8554/door")
        assert name_of(f"http://cam:80/x/password={secret}")[1].startswith("http://cam:80/x/password=…")
    assert name_of("https://host/") == ("host", "https://host/")
    assert name_of("dir/10:30:00.mp4") == ("10:30:00", "dir/10:30:00.mp4")
    assert name_of("file:///dir/a%20b.mp4") == ("a b", "/dir/a b.mp4")
    assert name_of("http://cam:8080/video.mjpg", keep_host=True)[0] == "cam_8080_video.mjpg"
    with pytest.raises(VideoError, match=r"rtsp://…: not an address \(.*\); check it"):
        name_of("rtsp://[::1")
    with pytest.raises(VideoError, match=r"http://…: not an address \(Invalid IPv6 URL\); check it"):
        name_of("http://[")
    assert name_of("file://[x/y.mp4") == ("y", "/y.mp4")
    assert (name_of(1)[0], name_of("-")[0]) == ("camera1", "stdin")


def test_live_sources() -> None:
    live = [0, "rtsp://cam/x", "UDP://0.0.0.0:5000", "srt://host:9000", "rtmp://host/app"]
    assert [is_live(source) for source in live] == [True] * len(live)
    assert not any(is_live(source) for source in ("a.mp4", "https://host/a.mp4", "10:30:00.mp4", "-", "s3://bucket/a"))


@pytest.mark.parametrize("name", [b"10:30:00.avi", b"caf\xe9.avi", b"-dash.avi", b"%05d.avi", "東京 #1?.avi".encode()])
@pytest.mark.parametrize("reader", ["pyav", "opencv"])
def test_any_name_of_a_file_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes, reader: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path(os.fsdecode(name)).write_bytes(write_video(tmp_path / "plain.avi", frames=12, fps=30.0).read_bytes())
    assert len(list(open_frames(os.fsdecode(name), 10.0, reader=reader))) == 4
    assert len(list(open_frames(Path(os.fsdecode(name)), 10.0, reader=reader))) == 4


def test_object_stores_are_read_through_fsspec(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    video = write_video(tmp_path / "clip.avi", frames=12, fps=30.0)
    with fsspec.open("memory://bucket/day/clip.avi", "wb") as file:
        file.write(video.read_bytes())
    with open_frames("memory://bucket/day/clip.avi", 10.0) as frames:
        assert (frames.name, len(list(frames))) == ("clip", 4)
    with pytest.raises(
        VideoError,
        match=r"memory://bucket/none.avi: cannot be opened [(]not found[)]; check the address and the access",
    ):
        open_frames("memory://bucket/none.avi", 10.0)
    with pytest.raises(VideoError, match=r"nostore://bucket/a.mp4: cannot be opened"):
        open_frames("nostore://bucket/a.mp4", 10.0)
    with pytest.raises(InputError, match="OpenCV reads files and plain URLs only"):
        open_frames("memory://bucket/day/clip.avi", 10.0, reader="opencv")


def test_images_and_tensors_are_frames() -> None:
    pictures = [Image.new("RGBA", (6, 4), (value, 0, 0, 255)) for value in (10, 20)]
    taken = list(open_frames(pictures, 10.0, fps=10.0))  # type: ignore[arg-type]
    assert [int(frame[0, 0, 0]) for frame in taken] == [10, 20]
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(3, 4, 6, 3, dtype=torch.uint8)
    assert len(list(open_frames(tensor, 10.0, fps=10.0))) == 3
    assert len(list(open_frames(list(tensor), 10.0, fps=10.0))) == 3
    with pytest.raises(InputError, match=r"frame 0: got shape \[3, 4, 6\], expected uint8 0–255 \[H,W,3\]"):
        list(open_frames([torch.zeros(3, 4, 6, dtype=torch.uint8)], 10.0, fps=10.0))


def test_a_frame_that_is_none_is_named() -> None:
    frame = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(InputError, match=r"frame 2: got None, expected uint8 .*give the frame before it again"):
        list(open_frames([frame, frame, None], 10.0, fps=10.0))  # type: ignore[list-item]


def test_a_rate_that_is_assumed_is_said_once(tmp_path: Path) -> None:
    frames = np.zeros((5, 4, 6, 3), np.uint8)
    with pytest.warns(
        VideoWarning, match="the frames: no frame rate is given, so they are taken as 10 per second"
    ) as told:
        list(open_frames(frames, 10.0))
    assert len(told) == 1
    Image.fromarray(frames[0]).save(tmp_path / "img_1.png")
    with pytest.warns(VideoWarning, match="give the true rate with fps / --fps"):
        list(open_frames(tmp_path, 10.0))


def test_folders_of_odd_images(tmp_path: Path) -> None:
    for name in ("img_2.png", "img_10.png", "①01.png", "._img_2.png"):
        Image.new("RGB", (6, 4)).save(tmp_path / name)
    (tmp_path / "._img_2.png").write_bytes(b"\0\5\x16\7")
    assert [path.name for path in list_images(tmp_path)] == ["img_2.png", "img_10.png", "①01.png"]
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\2\0\0\0"  # 60,000 × 60,000 pixels
    (tmp_path / "img_3.png").write_bytes(header + bytes(100))
    with pytest.raises(VideoError, match=r"img_3.png: got frames of 60,000 × 60,000 pixels"):
        list(open_frames(tmp_path, 10.0, fps=10.0))


def test_several_series_of_images_are_no_video(tmp_path: Path) -> None:
    for kind in ("img", "flow_x", "flow_y"):
        for number in (1, 2):
            Image.new("RGB", (6, 4)).save(tmp_path / f"{kind}_{number:05d}.jpg")
    message = r"got 3 numbered series of images \(flow_x_\*, flow_y_\*, img_\*\), expected the images of one video"
    with pytest.raises(VideoError, match=message):
        open_frames(tmp_path, 10.0, fps=10.0)


def test_opencv_reads_where_pyav_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_has_pyav", lambda: False)
    path = write_video(tmp_path / "clip.avi", frames=12, fps=30.0)
    assert isinstance(open_reader(path), OpenCVReader)
    with pytest.raises(InputError, match=r"-: OpenCV reads files and plain URLs only; use the reader pyav"):
        open_reader("-")
    assert isinstance(open_reader(path, reader="pyav"), PyAVReader)


def test_holes_and_nameless_series_of_images(tmp_path: Path) -> None:
    for name in ("00001.png", "00002.png", "00004.png"):
        Image.new("RGB", (6, 4)).save(tmp_path / name)
    with pytest.warns(VideoWarning, match="1 of the numbers 1 to 4 of its images are missing; times count the images"):
        open_frames(tmp_path, 10.0, fps=10.0)
    for name in ("b_1.png", "b_2.png"):
        Image.new("RGB", (6, 4)).save(tmp_path / name)
    with pytest.raises(VideoError, match=r"got 2 numbered series of images \(\*, b_\*\)"):
        open_frames(tmp_path, 10.0, fps=10.0)
