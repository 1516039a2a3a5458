"""Detections, annotations and videos for the tests of reports; what a page holds, read by another parser."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np

from runtime.annotations.activitynet import Instance, VideoAnnotation
from runtime.results.detections import Detections

CLASSES = ("jump", "throw", "run")
HOSTILE = (
    "</script><script>window.ran = 1</script>",
    '<img src=x onerror="window.ran = 1">',
    "\"'`><svg onload=window.ran=1>",
    "<!--<script>",
    "a\0b\x1b[2J",
    "\u202egnirts\u2066\u200f",
    "{{data}} {{script}} ${window.ran = 1}",
    "line\u2028break\u2029 &lt;b&gt; &amp;",
    "w" * 10_000,
)
"""Labels that try to run, to hide, to break out or to fill the page."""


def some(video: str = "clip") -> Detections:
    """Seven detections of two classes in ten seconds."""
    segments = [[1.0, 2.0], [1.1, 2.1], [3.0, 4.0], [5.0, 7.0], [5.0, 6.5], [8.0, 8.5], [0.2, 0.9]]
    return Detections(
        np.array(segments),
        np.array([0, 0, 1, 0, 1, 1, 0], np.int32),
        np.array([0.9, 0.6, 0.8, 0.35, 0.5, 0.1, 0.35]),
        CLASSES,
        video,
    )


def annotated(video: str = "clip") -> VideoAnnotation:
    """Four true actions: one that two detections overlap, one found by a weak one, one of another class, one missed."""
    instances = (Instance(1, 2, "jump"), Instance(5, 7.2, "jump"), Instance(3, 4, "run"), Instance(9, 9.5, "throw"))
    return VideoAnnotation(video, "test", 10.0, None, instances)


def many(count: int, classes: int = 12, seconds: float = 1800.0, seed: int = 0) -> Detections:
    """Random detections, many of low score, as soft-NMS leaves them."""
    rng = np.random.default_rng(seed)
    starts, lengths = rng.uniform(0, seconds - 30, count), rng.gamma(2, 4, count)
    return Detections(
        np.stack([starts, starts + lengths], axis=1),
        rng.integers(0, classes, count).astype(np.int32),
        rng.beta(1, 3, count),
        tuple(f"class {k}" for k in range(classes)),
        "many",
    )


def write_webm(path: Path, seconds: int = 10, rate: int = 10) -> Path:
    """Write a video in VP8, which every Chromium plays."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=rate, options={"deadline": "realtime", "cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 160, 90, "yuv420p", rate
        for number in range(seconds * rate):
            image = np.full((90, 160, 3), 255 * number // (seconds * rate), np.uint8)
            image[:, : 160 * number // (seconds * rate), 0] = 200
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


class Parts(HTMLParser):
    """Collects the elements of a page, and the texts of its scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[dict[str, str | None]] = []
        self.texts: dict[int, str] = {}
        self._inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append(dict(attrs))
        self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[len(self.tags) - 1] = self.texts.get(len(self.tags) - 1, "") + data

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        """Attributes and text of each element of a name."""
        return [(self.attributes[k], self.texts.get(k, "")) for k, name in enumerate(self.tags) if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script gets."""
        (text,) = [text for attributes, text in self.all("script") if attributes.get("type") == "application/json"]
        content: dict[str, Any] = json.loads(text)
        return content

    @property
    def policy(self) -> str:
        """Content-Security-Policy of the page."""
        (found,) = [a["content"] for a in self.attributes if a.get("http-equiv") == "Content-Security-Policy"]
        assert found is not None
        return found


def read(path: Path) -> Parts:
    return Parts(path.read_text(encoding="utf-8"))
