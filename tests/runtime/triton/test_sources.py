"""Which videos a request may have read."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import InputError
from runtime.triton.sources import allowed_url, path_below, require_no_playlist
from tests.videos import write_video


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a file and links that stay and that lead out."""
    root = tmp_path / "root"
    (root / "day").mkdir(parents=True)
    (root / "day/a.mp4").touch()
    (tmp_path / "secret.mp4").touch()
    (tmp_path / "root-too").mkdir()
    (tmp_path / "root-too/b.mp4").touch()
    (root / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "in.mp4").symlink_to(root / "day/a.mp4")
    (root / "circle").symlink_to(root / "circle")
    return root


@pytest.mark.parametrize("path", ["day/a.mp4", "./day/../day/a.mp4", "in.mp4", "{root}/day/a.mp4"])
def test_below_the_root(path: str, root: Path) -> None:
    assert path_below(str(root), path.format(root=root)) == (root / "day/a.mp4").resolve()


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../secret.mp4", "day/../../secret.mp4", "out.mp4", "/etc/passwd", "{root}-too/b.mp4", "a\0b"],
)
def test_out_of_the_root(path: str, root: Path) -> None:
    with pytest.raises(InputError, match="PATH: got"):
        path_below(str(root), path.format(root=root))


def test_without_a_root_no_path_is_read() -> None:
    with pytest.raises(InputError, match="reads no paths"):
        path_below("", "/etc/passwd")


def test_addresses() -> None:
    allowed = ("https://host/videos/", "s3://bucket/")
    for url in ("https://host/videos/a.mp4", "s3://bucket/day/b.mkv", "https://host/videos/a.mp4?token=x"):
        assert allowed_url(allowed, url) == url
    for url in (
        "https://host/video", "https://host.evil/videos/a.mp4", "http://host/videos/a.mp4", "file:///etc/passwd",
        "https://host/videos/../secret", "https://host/videos/%2e%2e/secret", "https://host/videos/a b", "-", "/a", "0",
        "https://host/videos/..", "concat:https://host/videos/a",
    ):  # fmt: skip
        with pytest.raises(InputError, match="not among the addresses"):
            allowed_url(allowed, url)
    with pytest.raises(InputError, match="reads no addresses"):
        allowed_url((), "https://host/videos/a.mp4")


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXTINF:1,\nfile:///root/secret.ts\n",
        b"\xef\xbb\xbf#EXTM3U\n",
        b"ffconcat version 1.0\nfile secret.mp4\n",
        b'<?xml version="1.0"?>\n<MPD profiles="x"><BaseURL>http://inside/</BaseURL></MPD>',
        b"v=0\no=- 0 0 IN IP4 10.0.0.1\nc=IN IP4 10.0.0.1\nm=video 5004 RTP/AVP 96\n",
        b"\0" * 1000 + b"<MPD>",
    ],
)
def test_playlists_are_no_videos(content: bytes) -> None:
    with pytest.raises(InputError, match="names other files or addresses"):
        require_no_playlist(content)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_videos_are_no_playlists(name: str, tmp_path: Path) -> None:
    require_no_playlist(write_video(tmp_path / name).read_bytes())
