"""Images and videos that declare gigabytes, and what is no file, are refused before memory or time is taken."""

from __future__ import annotations

import os
import socket
import struct
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from runtime.common import limits
from runtime.errors import VideoError
from runtime.video.readers.choice import open_reader
from runtime.video.readers.image_size import image_size
from runtime.video.readers.images import read_image

SIDE = 60_000


def png(width: int, height: int) -> bytes:
    """A PNG of one colour, whatever its size: its pixels are packed a thousandfold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 1) * min(height, 64)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


BOMBS = {
    "x.png": png(SIDE, SIDE),
    "x.bmp": b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, SIDE, -SIDE, 1, 24, 0) + bytes(100),
    "y.bmp": b"BM" + bytes(12) + struct.pack("<IHHHH", 12, SIDE, SIDE, 1, 24) + bytes(100),
    "x.jpg": b"\xff\xd8\xff\xe0" + struct.pack(">H", 16) + bytes(14) + b"\xff\xff\xc2"
    + struct.pack(">HBHHB", 11, 8, SIDE, SIDE, 1) + bytes(100),
    "x.webp": b"RIFF" + struct.pack("<I", 100) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4)
    + (SIDE - 1).to_bytes(3, "little") + (SIDE - 1).to_bytes(3, "little") + bytes(80),
    "x.tiff": b"II*\0" + struct.pack("<IH", 8, 2) + struct.pack("<HHII", 256, 4, 1, SIDE)
    + struct.pack("<HHII", 257, 4, 1, SIDE) + bytes(100),
    "y.tiff": b"MM\0*" + struct.pack(">IH", 8, 2) + struct.pack(">HHIHH", 256, 3, 1, SIDE, 0)
    + struct.pack(">HHIHH", 257, 3, 1, SIDE, 0) + bytes(100),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BOMBS))
def test_an_image_of_60000_squared_is_refused_by_its_header(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(BOMBS[name])
    expected = (
        rf"^{path}: got frames of 60,000 × 60,000 pixels, expected at most 268,435,456 in all; make them smaller$"
    )
    with pytest.raises(VideoError, match=expected):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".webp", ".tiff"])
@pytest.mark.parametrize("size", [(17, 301), (640, 3)])
def test_headers_say_what_opencv_decodes(suffix: str, size: tuple[int, int], tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    for flags in ([], [cv2.IMWRITE_WEBP_QUALITY, 101], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]):
        content = cv2.imencode(suffix, picture, flags)[1].tobytes()
        assert image_size(content) == size
        for cut in range(0, 60, 3):
            assert image_size(content[:cut]) in (None, size)
    (tmp_path / f"x{suffix}").write_bytes(content)
    assert read_image(tmp_path / f"x{suffix}").shape == picture.shape


def test_a_file_of_an_image_has_a_limit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IMAGE_BYTES", 1000)
    (tmp_path / "x.png").write_bytes(png(10, 10) + bytes(1000))
    with pytest.raises(VideoError, match=r"cannot be read \(it holds more than 1,000 bytes, the most that is read\)"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("reader", ["pyav", "opencv"])
def test_a_video_of_too_many_pixels_is_refused_by_its_header(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", 10)
        stream.width = stream.height = 64
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")) + stream.encode())
    open_reader(path, reader=reader).close()  # type: ignore[arg-type]
    monkeypatch.setattr(limits, "IMAGE_PIXELS", 64 * 64 - 1)
    with pytest.raises(VideoError, match=r"got frames of 64 × 64 pixels, expected at most 4,095 in all"):
        open_reader(path, reader=reader)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device"])
@pytest.mark.parametrize("reader", ["pyav", "opencv"])
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_what_is_no_file_is_not_waited_for(kind: str, reader: str, scheme: str, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    else:
        path = Path("/dev/zero")
    with pytest.raises(VideoError, match=rf"^{path}: {kind}, no file; expected a video file, - for standard input"):
        open_reader(f"{scheme}{path}", reader=reader)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_a_pipe_among_images_is_named(tmp_path: Path) -> None:
    for name in ("frame_1.png", "frame_3.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    os.mkfifo(tmp_path / "frame_2.png")
    with pytest.raises(VideoError, match=r"frame_2\.png: a pipe, no file; take it out of the folder"):
        open_reader(str(tmp_path))
