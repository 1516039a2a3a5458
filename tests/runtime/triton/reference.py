"""The detector's own results, in a process with the server's numpy, whose exponentials differ in the last digit.

Reads {"model", "score", "sources": [path of a video, or of an .npy of frames at 10 fps]} as JSON from standard input
and writes the detections of each source as JSON.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from runtime.detector import Detector, DetectorOptions

if __name__ == "__main__":
    asked = json.load(sys.stdin)
    with Detector(asked["model"], options=DetectorOptions(min_score=asked["score"])) as detector:
        found = [
            detector.run(np.load(source), fps=10.0) if source.endswith(".npy") else detector.run(source)
            for source in asked["sources"]
        ]
    json.dump([json.loads(one.to_json()) for one in found], sys.stdout)
