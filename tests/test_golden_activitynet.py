"""ActivityNet's test path on the published networks' recorded raw outputs, against a slow restatement of F5."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.detector import Detector, DetectorOptions
from tests.golden_network import GOLDEN, NETWORKS, golden_frames
from tests.slow import plain_scores, plain_segments, plain_soft_nms
from training.config.files import load_config
from training.deployment.views import model_spec

FRAMES, FPS = 768, 12.5
LEVELS = (96, 48, 24, 12, 6, 3)


class Recorded:
    """The recorded outputs of one network, for its recorded frames alone."""

    library, device, precision = "recorded", "cpu", "fp32"

    def __init__(self, network: str, share: float) -> None:
        config = load_config(NETWORKS[network])
        self.spec = replace(model_spec(config, config.data.classes), sampling="whole_video")
        with np.load(GOLDEN / f"{network}.npz") as arrays:
            self.crc = int(arrays["frames_crc32"])
            self.outputs = {
                t.name: arrays[t.name].reshape(1, len(arrays["loc"].reshape(-1, 2)), -1) for t in self.spec.outputs
            }

        self.outputs["prop_loc"] = self.outputs["prop_loc"] * np.float32(share)

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        assert zlib.crc32(inputs["frames"].tobytes()) == self.crc
        assert inputs["lengths"].tolist() == [FRAMES]
        return self.outputs

    def close(self) -> None:
        """Nothing to release."""


@pytest.mark.parametrize("stream", [*(pytest.param(s, marks=pytest.mark.slow) for s in ("rgb", "flow")), "fusion"])
@pytest.mark.parametrize(("share", "least"), [(1.0, 7), (0.1, 100)])
def test_published_outputs_as_f5_has_them(stream: str, share: float, least: int) -> None:
    """As recorded, where most random offsets turn segments around, and with a tenth of the offsets."""
    rgb, flow = Recorded("anet_rgb", share), Recorded("anet_flow", share)
    frames, motion = golden_frames(FRAMES, 3), golden_frames(FRAMES, 2)
    options = DetectorOptions(nms="reference")
    if stream == "fusion":
        found = Detector(rgb, flow_engine=flow, options=options).run(frames, fps=FPS, flow=motion)
        a, b = (plain_segments(engine.outputs, LEVELS, FRAMES) for engine in (rgb, flow))
        segments = [((p[0] * q[0]) ** 0.5, (p[1] * q[1]) ** 0.5, 0.0) for p, q in zip(a, b, strict=True)]
        outputs = {name: (rgb.outputs[name].astype(float) + flow.outputs[name]) / 2 for name in rgb.outputs}
        threshold, floor = 0.0, 1e-18
    else:
        engine = rgb if stream == "rgb" else flow
        found = Detector(engine, options=options).run(frames if stream == "rgb" else motion, fps=FPS)
        segments, outputs = plain_segments(engine.outputs, LEVELS, FRAMES), engine.outputs
        threshold, floor = 1e-9, 1e-9
    rows = np.array(
        [(s / FPS, e / FPS, score) for (s, e, _), score in zip(segments, plain_scores(outputs, 1), strict=True)]
    )
    kept = plain_soft_nms(rows[rows[:, 2] > threshold], 0.85, floor, False, np.float32)
    expected = np.array([(max(s, 0), min(e, FRAMES / FPS), score) for s, e, score in kept])
    expected = expected[expected[:, 1] > expected[:, 0]]
    ours = np.column_stack([found.segments, found.scores])
    assert len(expected) >= least
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours[:, :2], expected[:, :2], atol=1e-3)
    np.testing.assert_allclose(ours[:, 2], expected[:, 2], rtol=1e-3, atol=1e-6)
