"""Days of a camera and runs of a watch: what `afsd watch` writes, read back by all three readers."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from runtime import cli
from runtime.errors import InputError
from runtime.exchange.files import read_segments
from runtime.exchange.found import load_found
from runtime.live.day_files import DayFiles
from runtime.live.events import Detected, Event, Gap, Started
from runtime.results.json_lines import JsonLineFiles


def unix(day: int, hour: int, second: int = 0) -> float:
    return datetime.fromisoformat(f"2026-11-{day:02}T{hour:02}:00:{second:02}Z").timestamp()


def started(at: float, video: str = "cam", source: str = "rtsp://cam", live: bool = True) -> Started:
    return Started(video, at, source, at + 0.12 if live else None, "m.onnx", 0.5, "0.1")


def detected(at: float, start_s: float, video: str = "cam") -> Detected:
    return Detected(video, at, "rock", 0.75, (start_s, start_s + 2), (at, at + 2))


def write(folder: Path, *events: Event) -> None:
    files = DayFiles(folder, 30)
    for event in events:
        files.append(event.video, event.to_json(), event.at)


def read(path: Path) -> tuple[dict[str, list[float]], list[str]]:
    """Return the starts of the segments by video, the same by both readers, and the notes."""
    notes: list[str] = []
    found = {one.video: list(one.segments[:, 0]) for one in load_found(path, notes.append)}
    assert {one.name: [s.start_s for s in one.segments] for one in read_segments(path)} == found
    return found, notes


@pytest.mark.parametrize("place", ["", "hall/"])
def test_days_of_a_camera_are_one_video(tmp_path: Path, place: str) -> None:
    """The order is that of the days, not of the names, of which `cam` is from a time without --keep-days."""
    name, other = f"{place}cam", f"{place}a"
    before = JsonLineFiles(tmp_path)
    for event in (started(unix(27, 12), name), detected(unix(27, 12, 9), 1.0, name)):
        before.append(name, event.to_json())
    days = [(28, 86_400.0), (30, 260_000.0)]
    write(tmp_path, *(detected(unix(day, 1), start_s, name) for day, start_s in days))
    write(tmp_path, started(unix(28, 1), other), Gap(other, unix(28, 2), (1, 2), (1, 2), "x"))
    found, notes = read(tmp_path)
    assert found == {other: [], name: [1.0, 86_400.0, 260_000.0]}
    assert notes == []
    one = next(one for one in load_found(tmp_path) if one.video == name)
    assert one.facts is not None
    assert (one.facts.path, one.facts.model, one.facts.threshold) == ("rtsp://cam", "m.onnx", 0.5)


def test_runs_of_a_camera_are_kept_apart(tmp_path: Path) -> None:
    """The first run's start has been removed with its day; one run finds nothing; the last goes on over midnight."""
    write(
        tmp_path,
        detected(unix(28, 1), 500.0),
        started(unix(28, 12, 5)),
        detected(unix(28, 13), 7.0),
        started(unix(29, 12)),
        started(unix(29, 23)),
        detected(unix(29, 23, 30), 7.0),
        detected(unix(30, 1), 7200.0),
    )
    found, notes = read(tmp_path)
    second, third = "cam-2026-11-28T12-00-05Z", "cam-2026-11-29T23-00-00Z"
    assert found == {"cam": [500.0], second: [7.0], third: [7.0, 7200.0]}
    assert notes == [f"{tmp_path}: 'cam': 2 further runs, with seconds counted anew, kept apart as {second}, {third}"]


def test_runs_without_a_time_of_day_are_numbered_and_those_of_a_file_replaced(tmp_path: Path) -> None:
    lines = [
        *(started(1.0, source="a/cam.mp4", live=False), detected(1.0, 1.0)),
        *(started(2.0, source="b/cam.mp4", live=False), detected(2.0, 2.0)),
        *(started(3.0, source="a/cam.mp4", live=False), detected(3.0, 3.0)),
    ]
    texts = [one.to_json() for one in lines]
    texts += [json.dumps({"event": "started", "video": "cam", "utc": "9999-99"}), detected(4.0, 4.0).to_json()]
    texts += [detected(4.0, 9.0, "cam-run-3").to_json()]
    (tmp_path / "all.jsonl").write_text("".join(f"{text}\n" for text in texts))
    found, notes = read(tmp_path / "all.jsonl")
    assert found == {"cam": [2.0], "cam-run-2": [3.0], "cam-run-3-2": [4.0], "cam-run-3": [9.0]}
    assert len(notes) == 2
    assert "1 line: the start of a further run on a file, of which the last is read" in notes[0]


@pytest.mark.parametrize("names", [("x", "y"), ("cam.2026-11-28", "x.2026-11-29"), ("cam", "cam.2026-11-2x")])
def test_files_with_other_names_are_not_joined(tmp_path: Path, names: tuple[str, str]) -> None:
    """They may be of two places, whose cameras have the same name."""
    for name in names:
        (tmp_path / f"{name}.jsonl").write_text(f"{detected(unix(28, 1), 1.0).to_json()}\n")
    for load in (load_found, read_segments):
        with pytest.raises(InputError, match="two videos are called 'cam', expected a name for each; rename one"):
            load(tmp_path)


def test_convert_and_clips_take_the_folder_of_days(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "wk", started(unix(28, 1)), detected(unix(28, 1), 1.0), detected(unix(30, 1), 2e5))
    assert cli.main(["convert", str(tmp_path / "wk"), str(tmp_path / "x.csv")]) == 0
    rows = [row.split(",")[0] for row in (tmp_path / "x.csv").read_text("utf-8-sig").splitlines()]
    assert rows == ["video", "cam", "cam"]
    assert cli.main(["clips", str(tmp_path / "wk"), "--out", str(tmp_path / "clips")]) == 2  # a camera has no file
    assert "two videos" not in capsys.readouterr().err
