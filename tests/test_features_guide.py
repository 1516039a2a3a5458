"""docs/features.md: its command and its program, on a small feature set with a detector that is told the answers."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime import cli
from runtime.annotations.activitynet import VideoAnnotation
from runtime.features.feature_set import FeatureSet
from runtime.results.detections import Detections
from runtime.spec.time_axis import TimeAxis
from tests.shared import ROOT
from tests.test_own_data_guide import declared_verbs

TEXT = (ROOT / "docs/features.md").read_text(encoding="utf-8")
Detect = Callable[[NDArray[np.float32], TimeAxis, str], Detections]


def block(language: str) -> str:
    """The first block of a language; those of the later chapters need a trained network."""
    return str(re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)[0])


def make_set(root: Path) -> None:
    """Six videos of two subjects at 25 fps: channel k of the flow stream is on while class k happens."""
    rng = np.random.default_rng(0)
    entries = {}
    for name in ("S1_a", "S1_b", "S1_c", "S2_a", "S2_b", "S2_c"):
        steps = int(rng.integers(200, 300))
        times = (np.arange(steps) * 4 + 8) / 25
        flow = np.zeros((steps, 2))
        annotations = []
        for start, label in ((2.0, "cut"), (9.0, "stir"), (20.0, "cut")):
            end = start + float(rng.uniform(2, 5))
            flow[(times > start) & (times < end), ("cut", "stir").index(label)] = 1
            annotations.append({"label": label, "segment": [start, end]})
        for stream, array in (("rgb", rng.normal(size=(steps, 3))), ("flow", flow)):
            (root / stream).mkdir(parents=True, exist_ok=True)
            np.save(root / stream / f"{name}.npy", array.astype(np.float16))
        entries[name] = {"duration": (steps * 4 + 12) / 25, "fps": 25, "annotations": annotations}
    (root / "annotations.json").write_text(json.dumps({"database": entries}))


def train_somehow(features: FeatureSet, videos: tuple[VideoAnnotation, ...], seed: int) -> Detect:
    """Needs no training: an action is where a channel of the second stream is on."""
    assert features.widths == (3, 2)
    assert len({video.name[:2] for video in videos}) == 1
    classes = ("cut", "stir")

    def detect(steps: NDArray[np.float32], timing: TimeAxis, name: str) -> Detections:
        rows = []
        for label in (0, 1):
            edges = np.flatnonzero(np.diff(np.pad(steps[:, 3 + label] > 0.5, 1).astype(int)))
            rows += [(timing.seconds(low), timing.seconds(high), label) for low, high in edges.reshape(-1, 2).tolist()]
        table = np.array(rows)
        return Detections(table[:, :2], table[:, 2].astype(np.int32), np.ones(len(rows)), classes, name)

    return detect


def test_the_guide_by_its_own_command_and_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_set(tmp_path / "mydata")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "entry_points", lambda group: declared_verbs(group))
    program, *arguments = shlex.split(block("sh"))
    assert program == "afsd"
    assert cli.main(arguments) == 0
    assert "6 videos" in capsys.readouterr().out
    exec(compile(block("python"), "docs/features.md", "exec"), {"train_somehow": train_somehow})
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["%", "S1", "S2", "mean", "±", "seeds", "±", "folds"]
    strict = table[3].split()  # half a window, 0.32 s, would be too much of an action of 2 to 5 s
    assert strict[:4] == ["mAP@0.90", "100.00", "100.00", "100.00"]
    assert table[-1].startswith("6 runs, seeds 0, 1, 2")
