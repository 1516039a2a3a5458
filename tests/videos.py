"""Small videos that differ in motion and brightness."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_video(
    path: Path, *, frames: int = 64, level: int = 120, speed: float = 2.0, noise: int = 20, fps: float = 10.0
) -> Path:
    """A bright square that moves over noise, 36×36 pixels, .avi or .mp4; noise 0 and speed 0: one colour."""
    rng = np.random.default_rng(level)
    codec = "mp4v" if path.suffix == ".mp4" else "MJPG"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (36, 36))
    assert writer.isOpened()
    for k in range(frames):
        frame = np.full((36, 36, 3), level, np.int64) + rng.integers(-noise, noise + 1, (36, 36, 3))
        if speed:
            at = int(speed * k) % 28
            frame[10:18, at : at + 8] += 90
        writer.write(np.clip(frame, 0, 255).astype(np.uint8))
    writer.release()
    return path
