"""The whole test path of the published code, frames to detections, against its recorded output."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.detector import Detector, DetectorOptions
from tests.golden_network import golden_frames, golden_model
from tests.shared import shared
from training.config import load_config
from training.inference import TorchEngine, model_spec

VIDEOS = {"video_a": (200, 706874844), "video_b": (337, None), "video_c": (640, None)}
"""Sampled frames of 112×112 pixels, and the CRC-32 of the first."""


def test_rgb_detections_are_the_published_ones() -> None:
    with gzip.open(shared("golden/detections_rgb.json.gz"), "rt", encoding="utf-8") as file:
        golden: dict[str, list[dict[str, Any]]] = json.load(file)["results"]
    config = load_config("thumos14")
    engine = TorchEngine(golden_model("thumos14_rgb"), model_spec(config, config.data.classes))
    detector = Detector(engine, options=DetectorOptions(nms="reference"))
    matched = expected = found = 0
    for video, (length, crc) in VIDEOS.items():
        frames = golden_frames(length, 3, size=112)
        assert crc is None or zlib.crc32(frames.tobytes()) == crc
        detections = detector.run(frames)
        rows = _rows(golden[video], config.data.classes)
        ours = np.column_stack((detections.labels, detections.segments, detections.scores))
        matched += _matches(rows, ours)
        expected, found = expected + len(rows), found + len(ours)
    print(f"{matched} of {expected} published detections found, {found - matched} more")
    assert matched >= 0.995 * expected
    assert found - matched <= 0.005 * expected


def _rows(entries: list[dict[str, Any]], classes: tuple[str, ...]) -> NDArray[np.float64]:
    """[D,4]: class, start, end, score."""
    return np.array([[classes.index(e["label"]), *e["segment"], e["score"]] for e in entries], np.float64)


def _matches(golden: NDArray[np.float64], ours: NDArray[np.float64]) -> int:
    """Golden detections for which one of ours has the class, both times to 0.01 s and the score to 1e-3."""
    count = 0
    for label in np.unique(golden[:, 0]):
        left, right = golden[golden[:, 0] == label], ours[ours[:, 0] == label]
        difference = np.abs(left[:, None, 1:] - right[None, :, 1:])
        count += int((difference <= [0.01, 0.01, 1e-3]).all(-1).any(1).sum())
    return count
