"""ActivityNet's whole way by its commands: prepare, train RGB and flow, export, evaluate with video-level scores.

Synthetic videos stand for ActivityNet's: what is tried is the way, not the quality.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime import cli
from runtime.engines import open_engine
from tests.test_own_data_guide import declared_verbs
from training.checkpoints.files import load_checkpoint
from training.synthetic.videos import make_synthetic

SIZE = [
    "model.crop_size=32", "model.backbone_multiplier=0.125", "model.head_channels=64", "model.freeze_batch_norm=false",
    "data.workers=0", "run.max_steps=2", "run.accelerator=cpu",
]  # fmt: skip
"""A toy network: everything else is the released recipe."""


@pytest.fixture
def afsd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Runs a command in an empty folder and returns what it printed."""
    monkeypatch.setattr(cli, "entry_points", lambda group: declared_verbs(group))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, status: int = 0) -> str:
        assert cli.main(list(map(str, arguments))) == status, capsys.readouterr().err
        printed = capsys.readouterr()
        return printed.out if status == 0 else printed.err

    return run


@pytest.mark.slow
def test_the_way_of_activitynet(afsd, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    annotations = make_synthetic(tmp_path / "raw", videos=4, seed=5, subset="training")
    make_synthetic(tmp_path / "raw", videos=2, seed=6, subset="validation")
    for path in list((tmp_path / "raw/videos").iterdir()):  # as released: files v_<id>, annotations <id>
        path.rename(path.with_name(f"v_{path.name}"))
    database = json.loads(annotations.read_text())["database"]
    labels = sorted({a["label"] for entry in database.values() for a in entry["annotations"]})
    printed = afsd(
        "prepare", "activitynet", "--videos", tmp_path / "raw/videos", "--annotations", annotations,
        "--out", tmp_path / "anet", "--streams", "rgb", "flow", "--flow-method", "dis",
    )  # fmt: skip
    assert "whole videos in up to 768 frames" in printed
    for name, stream in (("activitynet", "rgb"), ("activitynet_flow", "flow")):
        settings = [part for setting in [f"data.root={tmp_path / 'anet'}", *SIZE] for part in ("--set", setting)]
        afsd("train", name, "--out", tmp_path / stream, *settings)
        config = load_checkpoint(tmp_path / stream / "last.ckpt").config
        assert (config.model.stream, config.model.level_lengths) == (stream, (96, 48, 24, 12, 6, 3))
    afsd("export", tmp_path / "rgb/last.ckpt", "--flow", tmp_path / "flow/last.ckpt", "-o", tmp_path / "both.onnx")
    spec = open_engine(tmp_path / "both.onnx").spec
    assert (spec.sampling, spec.classes, spec.decoding.fusion) == ("whole_video", ("action",), "geometric")
    assert (spec.decoding.score_threshold, spec.decoding.nms_floor) == (0.0, 1e-18)

    ids = [name for name, entry in database.items() if entry["subset"] == "validation"]
    scores = {name: [float(label == labels[k % len(labels)]) for label in labels] for k, name in enumerate(ids)}
    (tmp_path / "scores.json").write_text(json.dumps({"results": scores, "class": labels}))
    judged = [tmp_path / "both.onnx", annotations, "--videos", tmp_path / "raw/videos"]
    named = ["--video-scores", tmp_path / "scores.json", "--flow-method", "dis", "--subset", "validation"]
    result = json.loads(afsd("evaluate", *judged, *named, "--save", tmp_path / "found.json", "--json"))
    assert result["ignored"] == 0
    found = json.loads((tmp_path / "found.json").read_text())["results"]
    for k, name in enumerate(ids):
        rows = found[name]
        assert rows
        assert {row["label"] for row in rows} == {labels[k % len(labels)]}
        assert all(0 <= row["segment"][0] < row["segment"][1] for row in rows)
    again = [tmp_path / "found.json", tmp_path / "anet/annotations.json", "--subset", "validation", "--json"]
    assert json.loads(afsd("evaluate", *again))["mAP"] == result["mAP"]  # the prepared file's ids are v_<id>
    (tmp_path / "scores.json").write_text(json.dumps({"results": {"other": scores[ids[0]]}, "class": labels}))
    assert "none for the video" in afsd("evaluate", *judged, *named, status=2)
