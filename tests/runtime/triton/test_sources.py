"""Which videos a request may have read."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import InputError
from runtime.triton.sources import allowed_url, path_below


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


def test_a_folder_whose_images_lie_out_of_the_root(root: Path) -> None:
    (root / "images").mkdir()
    (root / "images/1.png").touch()
    assert path_below(str(root), "images") == root / "images"
    (root.parent / "secret.png").touch()
    (root / "images/2.png").symlink_to(root.parent / "secret.png")
    with pytest.raises(InputError, match="a link out of the server's root"):
        path_below(str(root), "images")


def test_without_a_root_no_path_is_read() -> None:
    with pytest.raises(InputError, match="reads no paths"):
        path_below("", "/etc/passwd")


def test_addresses() -> None:
    allowed = ("https://host/videos/", "s3://bucket/")
    for url in (
        "https://host/videos/a.mp4", "s3://bucket/day/b.mkv", "https://host/videos/a.mp4?to=/../x", "s3://bucket/a..b",
    ):  # fmt: skip
        assert allowed_url(allowed, url) == url
    for url in (
        "https://host/video", "https://host.evil/videos/a.mp4", "http://host/videos/a.mp4", "file:///etc/passwd",
        "https://host/videos/../secret", "https://host/videos/%2e%2e/secret", "https://host/videos/a b", "-", "/a", "0",
        "https://host/videos/..", "concat:https://host/videos/a", "https://host/videos/..?x", "https://host/videos/..#x",
        "https://host/videos/%2E%2E?a=b", "https://host/videos/..%2fsecret", "https://host/videos/..;a/secret",
        "https://host/videos/%2e.", "s3://bucket/%5c../a",
    ):  # fmt: skip
        with pytest.raises(InputError, match="not among the addresses"):
            allowed_url(allowed, url)
    with pytest.raises(InputError, match="reads no addresses"):
        allowed_url((), "https://host/videos/a.mp4")
