"""Videos that several tests prepare data sets from."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.synthetic.videos import VideoFormat, make_synthetic


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of 2 – 3 s at 30 fps: train_0000.mp4 …"""
    folder = tmp_path_factory.mktemp("source")
    make_synthetic(folder, videos=3, seed=1, subset="train", workers=1,
                   video_format=VideoFormat(size=32, shortest_s=2.0, longest_s=3.0))  # fmt: skip
    return folder / "videos"
