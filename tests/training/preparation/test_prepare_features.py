"""`afsd prepare features`: what it writes, what it says, and what it finds odd."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.common.console import EXIT_ERROR
from runtime.errors import AfsdError, InputError
from runtime.features.description import read_description
from runtime.features.feature_set import open_features
from tests.shared import shared
from training.commands.prepare import add_prepare


def afsd(*arguments: str | Path) -> int:
    """`afsd prepare features …`, which raises what the command line would print as one line."""
    parser = argparse.ArgumentParser()
    add_prepare(parser.add_subparsers())
    parsed = parser.parse_args(["prepare", "features", *map(str, arguments)])
    return int(parsed.func(parsed))


def odd(folder: Path) -> dict[str, dict[str, int]]:
    """What the report says was odd: what → where → how often."""
    return {group["what"]: group["where"] for group in report(folder)["odd"]}


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "prepare_report.json").read_text())
    return content


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two videos at 10 fps with two streams of snippets of 16 frames every 4."""
    rng = np.random.default_rng(0)
    for stream, width in (("rgb", 5), ("flow", 3)):
        (tmp_path / stream).mkdir()
        for name, steps in (("a", 30), ("b", 47)):
            np.save(tmp_path / stream / f"{name}.npy", rng.normal(size=(width, steps)))
    entries = {
        "a": {"duration": 13.2, "fps": 10, "subset": "training", "annotations": [annotation("x", 1, 1.1, 1)]},
        "b": {"duration": 20.0, "fps": 10, "subset": "test", "annotations": [annotation("y", 0, 4, 2)]},
    }
    (tmp_path / "a.json").write_text(json.dumps({"database": entries}))
    return tmp_path


def annotation(label: str, start: float, end: float, number: int) -> dict[str, Any]:
    return {"label": label, "segment": [start, end], "label_id": number}


def change(root: Path, video: str, **entry: Any) -> None:
    document = json.loads((root / "a.json").read_text())
    document["database"].setdefault(video, {}).update(entry)
    (root / "a.json").write_text(json.dumps(document))


SNIPPETS = ("--stride", "4", "--window", "16")


def prepare(root: Path, *arguments: str) -> int:
    streams = ("--features", root / "rgb", root / "flow")
    return afsd(*streams, "--annotations", root / "a.json", "--out", root / "made/set", *SNIPPETS, *arguments)


def test_a_file_of_others_is_not_written_over(root: Path) -> None:
    (root / "made/set").mkdir(parents=True)
    (root / "made/set/features.json").write_text('{"type": "FeatureCollection"}')
    with pytest.raises(InputError, match=r"features\.json: not the description of a feature set"):
        prepare(root)
    (root / "made/set/features.json").unlink()
    for _ in range(2):
        assert prepare(root) == 0


def test_the_description_opens_from_where_it_lies(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare(root) == 0
    made = root / "made/set"
    source = read_description(made / "features.json")
    monkeypatch.chdir("/")
    assert [stream.folder for stream in source.streams] == ["../../rgb", "../../flow"]
    assert (source.layout, source.width) == ("channels_first", 8)
    features, videos = open_features(made / "features.json", names=["b"])
    assert [video.name for video in videos] == ["b"]
    np.testing.assert_allclose(features.read("b")[:, 5:], np.load(root / "flow/b.npy").T, rtol=1e-6)
    with pytest.raises(InputError, match="'z' is not in the annotations"):
        open_features(made / "features.json", names=["a", "z"])
    said = capsys.readouterr().out
    for fact in (
        "2 videos, 77 steps of 5 + 3 channels",
        "30 to 47 (median 38.5) in a video; 0.4 s from one to the next",
        "13.2 to 20 s (median 16.6) long, 0.6 minutes together",
        "2: 0.1 to 4 s (median 2.05); 0.25 to 10 steps (median 5.125)",
        "2: x 1, y 1",
        "test 1, training 1",
    ):
        assert fact in said
    assert odd(made) == {
        "classes that only subset 'training' has": {"x": 1},
        "classes that only subset 'test' has": {"y": 1},
        "actions shorter than one step": {"a": 1},
    }


def test_what_is_odd(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = [annotation("y", 3, 13.5, 1), annotation("y", 13, 14, 2), annotation("x", 5, 5, 1), annotation("x", 0, 9, 4)]
    late += late[:1]
    change(root, "a", duration=20.0, annotations=late)
    change(root, "b", annotations=[])
    np.save(root / "rgb/c.npy", np.ones((5, 9)))
    assert prepare(root) == 0
    assert odd(root / "made/set") == {
        "feature files without annotation, left out": {"c.npy": 1},
        "actions without length, left out in training": {"a": 1},
        "annotated durations that disagree with the file": {"a": 1},
        "actions that end after the last frame": {"a": 1},
        "actions annotated twice": {"a": 1},
        "videos without any action": {"b": 1},
        "classes that only subset 'training' has": {"x": 1, "y": 1},
        "labels with several label_id; classes go by label": {"x": 1, "y": 1},
        "label_id that several labels share; classes go by label": {"1": 1},
    }
    assert "failed" not in capsys.readouterr().out


def test_videos_without_sound_features_fail_and_the_others_go_on(root: Path) -> None:
    for name in ("nan", "cut", "gone"):
        change(root, name, duration=9.0, fps=10, subset="test", annotations=[])
    for stream, width in (("rgb", 5), ("flow", 3)):
        for name in ("nan", "cut"):
            np.save(root / stream / f"{name}.npy", np.ones((width, 20)))
    spoiled = np.ones((3, 20))
    spoiled[1, 7] = np.nan
    np.save(root / "flow/nan.npy", spoiled)
    (root / "rgb/cut.npy").write_bytes((root / "rgb/cut.npy").read_bytes()[:-8])
    assert prepare(root) == EXIT_ERROR
    failed = report(root / "made/set")["failed"]
    assert sorted(failed) == ["cut", "gone", "nan"]
    assert "flow/nan.npy: step 7, channel 1 is nan (1 such values)" in failed["nan"]
    assert "cut off" in failed["cut"]
    assert "no features of 'gone'" in failed["gone"]
    assert report(root / "made/set")["made"]["features"].startswith("2 videos, 77 steps")


def test_features_of_folds(root: Path) -> None:
    for fold, steps in (("1", 30), ("2", 30), ("2b", 31)):
        (root / f"split{fold}").mkdir()
        np.save(root / f"split{fold}/a.npy", np.ones((steps, 6)))
    change(root, "a", duration=3.0)
    document = json.loads((root / "a.json").read_text())
    del document["database"]["b"]
    (root / "a.json").write_text(json.dumps(document))
    made = root / "out"
    assert afsd("--features", root / "split{fold}", "--annotations", root / "a.json", "--out", made) == 0
    assert "3 folds: 1, 2, 2b" in report(made)["made"]["features"]
    assert odd(made) == {"videos with other numbers of steps in fold 2b": {"a": 1}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--classes", "{root}/classes.txt"],
            "classes.txt: lacks 1 of the 2 labels of the annotations, the first is 'y'",
        ),
        (["--width", "9"], r"features of 5 \+ 3 channels, expected 9; correct one"),
        (["--resize", "5"], "resize is 5, expected 1 or more, and only with sampling.whole_video"),
        (["--stride", "0"], "stride: got 0.0, expected above 0"),
        (["--features", "{root}/nowhere"], "nowhere: folder not found"),
        (["--features", "{root}/split{{fold}}"], r"split\{fold\}: no folder found, expected one per fold"),
        (["--features", "{root}/{{fold}}/rgb"], "expected {fold} only in the last folder's name"),
        (["--annotations", "{root}/gone.json"], "gone.json: file not found; expected a file of annotations"),
    ],
)
def test_what_cannot_be_prepared_is_one_line(root: Path, arguments: list[str], message: str) -> None:
    (root / "classes.txt").write_text("x\nz\n")
    with pytest.raises(AfsdError, match=message) as caught:
        prepare(root, *(argument.format(root=root) for argument in arguments))
    assert "\n" not in str(caught.value)
    assert not (root / "made/set/features.json").exists()


def test_no_rate_and_no_sound_video(root: Path) -> None:
    change(root, "a", fps=None)
    with pytest.raises(AfsdError, match="a: no frames per second: give one for all videos"):
        prepare(root)
    assert prepare(root, "--fps", "10") == 0
    for stream in ("rgb", "flow"):
        for path in (root / stream).iterdir():
            path.unlink()
    with pytest.raises(AfsdError, match="no features of 'a'"):
        prepare(root)


def test_gtea(tmp_path: Path) -> None:
    data = shared("data/gtea")
    assert afsd("--features", data / "split{fold}", "--annotations", data / "gtea.json", "--out", tmp_path) == 0
    made = report(tmp_path)["made"]
    assert made["features"].startswith("28 videos, 29822 steps of 128 channels")
    assert made["features"].endswith("4 folds: 1, 2, 3, 4")
    assert made["actions"].startswith("526: ")
    assert "(median 2)" in made["actions"]
    assert made["classes"].startswith("10: close ")
    assert report(tmp_path)["failed"] == {}
    assert odd(tmp_path) == {}
