"""Compute optical flow as in the published arrays: TV-L1 or DIS, clipped at ±20 pixels, 8 bits (AFSD, flow → npy)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError, MissingDependencyError

FlowMethod = Literal["auto", "tvl1", "dis"]
"""Optical-flow method: "tvl1" as published; "dis", hundreds of times as fast; "auto": TV-L1 if OpenCV has it."""

FLOW_METHODS: tuple[FlowMethod, ...] = ("auto", "tvl1", "dis")

BOUND = 20.0
"""Largest displacement in pixels per frame; larger ones are clipped, as in the published arrays (denseflow -b=20)."""
LEVELS = 255
"""Highest level: −BOUND maps to 0 and BOUND to 255, so no motion is level 128 (127.5, rounded half to even)."""
MIN_SIDE = 12
"""Shortest side of a frame in pixels: DIS cannot place its patches on a shorter one."""
CONTRIB = "opencv-contrib-python-headless"


def quantise(flow: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Convert displacements [...] in pixels to levels uint8 [...].

    v ≥ 20 → 255, v ≤ −20 → 0, else round(255·(v + 20)/40), half to even, in float64 as denseflow computes it.
    """
    cut = np.clip(flow.astype(np.float64), -BOUND, BOUND)
    return np.asarray(np.rint(LEVELS * (cut + BOUND) / (2 * BOUND)).astype(np.uint8))


class FlowEstimator:
    """Computes the optical flow of one video, frame by frame, and holds one grey frame.

    Flow i is the motion from frame i to frame i + 1 in the order (x, y). The last flow is a copy of the one before,
    so there are as many flows as frames. Make a new estimator for each video.
    """

    def __init__(self, method: FlowMethod = "auto", *, jpeg: bool = False) -> None:
        """Prepare the method.

        Args:
            method: see `FlowMethod`.
            jpeg: compress frames and flow as JPEG of OpenCV's default quality, as for the published arrays.

        Raises:
            InputError: the method is unknown.
            MissingDependencyError: `method` is "tvl1" and OpenCV is built without its contrib modules.
        """
        import cv2

        if method not in FLOW_METHODS:
            raise InputError(f"flow method: got {method!r}, expected one of {', '.join(FLOW_METHODS)}")
        library: Any = cv2  # OpenCV's type stubs lack the contrib modules
        self._cv2 = library
        self._jpeg = jpeg
        self._previous: NDArray[np.uint8] | None = None
        self._latest: NDArray[np.uint8] | None = None
        self._finished = False
        version = ".".join(cv2.__version__.split(".")[:2])
        create_tvl1 = getattr(getattr(library, "optflow", None), "createOptFlow_DualTVL1", None)
        if method == "tvl1" and create_tvl1 is None:
            raise MissingDependencyError(CONTRIB, "", "TV-L1 optical flow", instead_of="opencv-python-headless")
        if method != "dis" and create_tvl1 is not None:
            self._algorithm = create_tvl1()
            self.name = f"TV-L1 (OpenCV {version} contrib)"
        else:
            self._algorithm = library.DISOpticalFlow_create(library.DISOPTICAL_FLOW_PRESET_MEDIUM)
            self.name = f"DIS (OpenCV {version})"

    def push(self, frame: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Take a frame [H,W,3] uint8 RGB and return the flow [H,W,2] uint8 of the frame before; [] for the first frame.

        Raises:
            InputError: another dtype or shape, another size than the first frame, or a push after `finish`.
        """
        if self._finished:
            raise InputError("a frame was pushed after finish(); make a new FlowEstimator for the next video")
        grey, previous = self._grey(frame), self._previous
        if previous is not None and previous.shape != grey.shape:
            raise InputError(f"frame: got size {grey.shape}, expected {previous.shape} as the frames before")
        self._previous = grey
        if previous is None:
            return []
        flow = quantise(self._algorithm.calc(previous, grey, None))
        self._latest = self._compress(flow) if self._jpeg else flow
        return [self._latest]

    def finish(self) -> list[NDArray[np.uint8]]:
        """Return the flow of the last frame: a copy of the flow before, no motion for a single frame, [] for none."""
        self._finished = True
        if self._previous is None:
            return []
        if self._latest is None:
            return [np.broadcast_to(quantise(np.zeros(2)), (*self._previous.shape, 2)).copy()]
        return [self._latest.copy()]

    def _grey(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Convert a frame to grey, [H,W] uint8, after JPEG compression if `jpeg` is set."""
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or min(frame.shape[:2]) < MIN_SIDE:
            expected = f"uint8 [H,W,3] RGB of at least {MIN_SIDE}×{MIN_SIDE} pixels"
            raise InputError(f"frame: got {frame.dtype} {list(frame.shape)}, expected {expected} for optical flow")
        if self._jpeg:
            _, data = self._cv2.imencode(".jpg", self._cv2.cvtColor(frame, self._cv2.COLOR_RGB2BGR))
            bgr = self._cv2.imdecode(data, self._cv2.IMREAD_COLOR)
            return np.asarray(self._cv2.cvtColor(bgr, self._cv2.COLOR_BGR2GRAY))
        return np.asarray(self._cv2.cvtColor(np.ascontiguousarray(frame), self._cv2.COLOR_RGB2GRAY))

    def _compress(self, flow: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Encode and decode each component as a grey JPEG image."""
        images = [self._cv2.imencode(".jpg", np.ascontiguousarray(flow[..., axis]))[1] for axis in (0, 1)]
        return np.stack([self._cv2.imdecode(image, self._cv2.IMREAD_GRAYSCALE) for image in images], axis=-1)
