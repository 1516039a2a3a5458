"""Serve whole videos: a Python model of Triton that takes a video as bytes, path or address, and detects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.common.names import require_safe_name
from runtime.common.temporaries import scratch_folder
from runtime.common.text import public_url
from runtime.detector import Detector
from runtime.errors import InputError
from runtime.results.detections import Detections
from runtime.results.facts import VideoFacts
from runtime.triton.reading import BoundedReader, Bounds, detect_file, detect_frames
from runtime.triton.serving import (
    Engines,
    Place,
    cancellation_of,
    error_response,
    input_of,
    number_of,
    outputs_of,
    text_of,
)
from runtime.triton.settings import Settings
from runtime.triton.sources import allowed_url, path_below
from runtime.video.sources import is_live, name_of

UNNAMED = "video"
"""Name of a video that is sent as bytes, in the results, unless the request names it."""
SOURCES = ("VIDEO", "PATH", "URL")
SUFFIXES = {b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz"}
"""Suffix of features by their first bytes; videos are told by FFmpeg."""


class TritonPythonModel:
    """Detects actions in whole videos; Triton makes one for each instance."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the engines."""
        import triton_python_backend_utils as pb_utils

        self._pb = pb_utils
        self._place = Place.of(args)
        self._engines = Engines(self._place, pb_utils)
        self._detector = self._engines.detector(self._place)
        self._engines.warm_up(self._place.settings.detector)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return a response for each request; an error is that request's alone."""
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        """Close the engines."""
        self._engines.close()

    def _respond(self, request: Any) -> Any:
        try:
            return self._pb.InferenceResponse(output_tensors=outputs_of(self._detect(request), self._pb))
        except Exception as error:  # whatever it is, the server goes on
            return error_response(error, self._pb)

    def _detect(self, request: Any) -> Detections:
        video, path, url = (
            input_of(request, "VIDEO", self._pb),
            text_of(request, "PATH", self._pb),
            text_of(request, "URL", self._pb),
        )
        given = [name for name, value in zip(SOURCES, (video, path, url), strict=True) if value is not None]
        if len(given) != 1:
            raise InputError(f"got {' and '.join(given) or 'no video'}, expected one of {', '.join(SOURCES)}")
        name, fps = text_of(request, "NAME", self._pb), number_of(request, "FPS", self._pb)
        if name is not None:
            require_safe_name(name, what="NAME")
        settings, cancelled = self._place.settings, cancellation_of(request)
        if video is not None:
            bounds = Bounds("VIDEO", settings, cancelled)
            return detect_bytes(self._detector, video, name or UNNAMED, fps, settings, bounds)
        if path is not None:
            file, bounds = path_below(settings.root, path), Bounds(path, settings, cancelled)
            with naming(str(file), path):
                return described(detect_file(self._detector, file, bounds, fps), name, path, settings.model)
        assert url is not None
        address = allowed_url(settings.url_prefixes, url)
        if is_live(address):
            raise InputError(f"URL: {name_of(address)[1]} has no end; send its frames to the stream model")
        bounds = Bounds(name_of(address)[1], settings, cancelled)
        found = detect_frames(self._detector, BoundedReader(address, bounds), bounds, fps)
        return described(found, name, public_url(address), settings.model)


def detect_bytes(
    detector: Detector, video: NDArray[np.uint8], name: str, fps: float | None, settings: Settings, bounds: Bounds
) -> Detections:
    """Detect actions in a video that is sent as bytes, which lie in a temporary file meanwhile.

    Args:
        detector: the detector.
        video: content of a video file, uint8 [n]; of a model on features also of an .npy or .npz.
        name: name of the video in the results.
        fps: frames per second; None: as the video says.
        settings: limits of the server, and the name of the model in the results.
        bounds: those of the request.

    Raises:
        InputError: no bytes, or too many.
        VideoError, RequestCancelledError: see `detect_file`.
    """
    if not 0 < video.size <= settings.max_bytes:
        raise InputError(f"VIDEO: got {video.size:,} bytes, expected 1 … {settings.max_bytes:,}")
    content = np.ascontiguousarray(video, np.uint8).reshape(-1).data
    suffix = ""
    if detector.spec.features is not None:
        suffix = next((end for start, end in SUFFIXES.items() if bytes(content[: len(start)]) == start), "")
    with scratch_folder() as folder:
        file = folder / f"{UNNAMED}{suffix}"
        file.write_bytes(content)
        with naming(str(file), "VIDEO"):
            found = detect_file(detector, file, bounds, fps)
    return described(found, name, "", settings.model)


@contextmanager
def naming(file: str, name: str) -> Iterator[None]:
    """Name a file of the server in errors as the request does."""
    try:
        yield
    except Exception as error:
        error.args = tuple(str(part).replace(file, name) for part in error.args)
        raise


def described(found: Detections, name: str | None, path: str, model: str) -> Detections:
    """Return detections under the name that the request gives, without paths of the server."""
    facts = replace(found.facts or VideoFacts(), path=path, model=model)
    return replace(found, video=found.video if name is None else name, facts=facts)
