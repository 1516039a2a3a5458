"""Feature files in an object store give the detections of the same files on a disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.detector import Detector, DetectorOptions
from runtime.errors import InputError, VideoError
from tests.runtime.test_detector_on_features import ACTIONS, LoudEngine, features_with
from tests.tiny_backbone import feature_model_spec


def test_feature_files_of_a_store_are_those_of_a_disk(tmp_path: Path) -> None:
    memory = pytest.importorskip("fsspec").filesystem("memory")
    top = f"memory://bucket-{tmp_path.name}"
    features = features_with(41, *ACTIONS)
    np.save(tmp_path / "v.npy", features)
    np.savez(tmp_path / "w.npz", feats=features)
    (tmp_path / "x.npy").write_bytes(b"no array")
    for name in ("v.npy", "w.npz", "x.npy"):
        memory.pipe_file(f"{top}/{name}", (tmp_path / name).read_bytes())
    detector = Detector(LoudEngine(feature_model_spec("afsd")), options=DetectorOptions(min_score=0.5))
    for name in ("v.npy", "w.npz"):
        here, there = detector.run(str(tmp_path / name), fps=20), detector.run(f"{top}/{name}", fps=20)
        assert len(here) > 0
        assert (there.video, there.segments.tolist(), there.scores.tolist()) == (
            here.video, here.segments.tolist(), here.scores.tolist()
        )  # fmt: skip
    with pytest.raises(InputError, match=rf"^{top}/x.npy: "):
        detector.run(f"{top}/x.npy", fps=20)
    with pytest.raises(VideoError, match=rf"^{top}/gone.npy: cannot be read"):
        detector.run(f"{top}/gone.npy", fps=20)
