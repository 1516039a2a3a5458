"""Put pictures into a page."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

QUALITY = 72
"""Quality of the JPEG files, 0–100."""


def data_address(picture: NDArray[np.uint8]) -> str:
    """Return a picture, RGB [H,W,3], as the data: address of a JPEG file."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
