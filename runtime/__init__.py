"""Detect actions in videos on a deployed machine, with numpy, OpenCV for decoding, and one engine library.

    from runtime import Detector
    detections = Detector("model.onnx").run("video.mp4")

Importing this package loads none of these libraries; each public name is imported when first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from runtime.detector import Detector, DetectorOptions
    from runtime.engines import open_engine
    from runtime.features.video_features import Features
    from runtime.results.detections import Detections
    from runtime.spec.model import ModelSpec

__all__ = ["Detections", "Detector", "DetectorOptions", "Features", "ModelSpec", "open_engine"]

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
"""ONNX Runtime's wheels for Linux and macOS otherwise report what they run to their maker, and keep a number that names
the machine in the user's cache folder. It is read when that library is imported; a value of the user's own stays."""

_HOME = {
    "Detections": "runtime.results.detections",
    "Detector": "runtime.detector",
    "DetectorOptions": "runtime.detector",
    "Features": "runtime.features.video_features",
    "ModelSpec": "runtime.spec.model",
    "open_engine": "runtime.engines",
}
"""Module of each public name."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    """Return the version of the installed package; "0+unknown" in a source tree that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("afsd")
    except PackageNotFoundError:
        return "0+unknown"
