"""Tables of all videos for data tools hold what was found, and what is not known."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from runtime.errors import InputError
from runtime.jobs.row_tables import detection_schema, require_own_tables, row_writer
from runtime.results.detections import Detections
from runtime.results.facts import VideoFacts

BOTH = ("parquet", "jsonl")


def make_found(name: str, labels: list[int], path: str, **facts: object) -> Detections:
    classes = ('=cmd("x")', "ä\n\u202e|", "three")
    segments = np.array([[0.1 * k, 1 / 3 + k] for k in range(len(labels))]).reshape(-1, 2)
    known = VideoFacts(path=path, duration_s=9.5, fps=25.0, model="m.onnx", threshold=0.2, **facts)  # type: ignore[arg-type]
    scores = np.linspace(0.9, 0.3, len(labels))
    return Detections(segments, np.array(labels, np.int32), scores, classes, name, known)


def test_tables_hold_every_number_and_name_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("runtime.jobs.row_tables.ROWS_PER_GROUP", 2)  # rows of a video in several groups
    videos = [
        make_found("a", [0, 1, 2], "dir/a.mp4", exclusive="class", merge_gap=0.5, min_length=0.25),
        make_found("none", [], "n.mp4"),
        make_found("b\udcff", [1, 1], "b\udcff.mp4"),
    ]
    with row_writer(tmp_path, BOTH) as add:
        for video in videos:
            add(video)
    table = pandas.read_parquet(tmp_path / "detections.parquet")
    assert list(table["video"]) == ["a", "a", "a", "b\\udcff", "b\\udcff"]
    assert list(table["label"]) == ['=cmd("x")', "ä\n\u202e|", "three", "ä\n\u202e|", "ä\n\u202e|"]
    expected = np.concatenate([video.segments for video in videos])
    np.testing.assert_array_equal(table[["start_s", "end_s"]].to_numpy(), expected)
    assert list(table["score"]) == [score for video in videos for score in video.scores.tolist()]
    assert set(zip(table["fps"], table["duration_s"], table["threshold"], table["model"], strict=True)) == {
        (25.0, 9.5, 0.2, "m.onnx")
    }
    assert list(table["exclusive"]) == ["class"] * 3 + [""] * 2
    np.testing.assert_array_equal(table["merge_gap"], [0.5] * 3 + [np.nan] * 2)
    np.testing.assert_array_equal(table["min_length"], [0.25] * 3 + [np.nan] * 2)
    lines = [json.loads(line) for line in (tmp_path / "detections.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert lines == table.astype(object).where(table.notna(), None).to_dict("records")
    require_own_tables(tmp_path, ["detections.parquet", "detections.jsonl"])  # its own are written over
    with row_writer(tmp_path, BOTH):
        pass
    assert list(pandas.read_parquet(tmp_path / "detections.parquet").columns) == detection_schema().names
    assert (tmp_path / "detections.jsonl").read_bytes() == b""
    require_own_tables(tmp_path, ["detections.parquet", "detections.jsonl"])


@pytest.mark.parametrize("name", ["detections.parquet", "detections.jsonl"])
def test_tables_of_others_are_not_written_over(tmp_path: Path, name: str) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    if name.endswith("parquet"):
        pandas.DataFrame({"video": ["mine"]}).to_parquet(tmp_path / name)
    else:
        (tmp_path / name).write_text('{"mine": 1}\n')
    with pytest.raises(InputError, match=f"{name}: is there already and no table of afsd, so it is not written over"):
        require_own_tables(tmp_path, [name])
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="no table of afsd"):
        require_own_tables(tmp_path, [name])


def test_a_table_that_fails_midway_leaves_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "detections.jsonl").write_text("before")
    broken = SimpleNamespace(facts=None, video="b", __iter__=None)  # no detections
    with pytest.raises(TypeError), row_writer(tmp_path, ["jsonl"]) as add:
        [add(found) for found in (make_found("a", [0], "a.mp4"), broken)]  # type: ignore[arg-type]
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("detections.jsonl", "before")]
