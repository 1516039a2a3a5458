"""docs/own_data.md: the files it shows and the commands it gives, from a folder of videos to mAP."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from runtime import cli
from tests.shared import ROOT
from tests.videos import write_video
from training.checkpoints.files import load_checkpoint

FILES = ("carving_ice.mp4", "demo.mp4", "drink.avi", "makeup.avi", "pool.mp4", "street.mp4")
"""The guide's videos; made-up ones of ten seconds stand for them."""


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language in the guide."""
    text = (ROOT / "docs/own_data.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def declared_verbs(group: str) -> list[EntryPoint]:
    """The verbs of pyproject.toml, which an installation made earlier may lack."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    return [EntryPoint(name, value, group) for name, value in declared.get(group, {}).items()]


@pytest.mark.slow
def test_the_guide_by_its_own_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mydata/videos").mkdir(parents=True)
    for number, name in enumerate(FILES):
        write_video(tmp_path / "mydata/videos" / name, frames=250, fps=25, level=80 + 10 * number, speed=number / 2)
    (annotations,), (config,) = blocks("json"), blocks("yaml")
    (tmp_path / "mydata/annotations.json").write_text(annotations)
    (tmp_path / "mydata.yaml").write_text(config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "entry_points", lambda group: declared_verbs(group))

    printed = {}
    for command in [line for block in blocks("sh") for line in block.splitlines()]:
        program, verb, *rest = shlex.split(command)
        assert program == "afsd"
        assert cli.main([verb, *rest]) == 0, command
        printed[verb] = capsys.readouterr().out
    assert list(printed) == ["prepare", "train", "export", "detect", "evaluate"]

    assert "1 × classes that only subset 'training' has: drink" in printed["prepare"]
    assert "failed" not in printed["prepare"]
    for run, channels in (("mydata", 3), ("mydata_flow", 2)):
        checkpoint = load_checkpoint(tmp_path / "runs" / run / "last.ckpt")
        assert checkpoint.classes == ("drink", "sport", "tool_work")
        assert (checkpoint.config.model.num_classes, checkpoint.config.model.in_channels) == (4, channels)
    assert (tmp_path / "results/street.png").stat().st_size > 1000
    rows = [line.split() for line in printed["detect"].splitlines()[2:]]
    assert {row[-1] for row in rows if len(row) == 4} <= {"drink", "sport", "tool_work"}
    scores = re.findall(r"\d+\.\d\d", printed["evaluate"].splitlines()[1])
    assert len(scores) == 6  # five thresholds and their average
    assert all(0 <= float(score) <= 100 for score in scores)


def test_the_guide_annotates_all_videos() -> None:
    database = json.loads(blocks("json")[0])["database"]
    assert sorted(database) == sorted(Path(name).stem for name in FILES)
