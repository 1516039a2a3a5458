"""`afsd prepare`: what it writes, what it finds odd, and that an interruption costs nothing."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from runtime.annotations.activitynet import load_annotations
from runtime.errors import AfsdError, AnnotationError, InputError
from runtime.video.flow import FlowEstimator
from runtime.video.resize import resize_bicubic
from runtime.video.sampling import open_frames
from tests.shared import ROOT, shared
from training.commands.prepare import add_prepare
from training.config.files import load_config
from training.preparation.prepare import StoreOptions, prepare_activitynet, prepare_own, prepare_thumos14
from training.stores.flow_store import build_flow_store, flow_method_of
from training.stores.frame_store import FrameStore
from training.training_set import open_clips

OPTIONS = StoreOptions(frame_size=20, workers=1, progress=False)
INFO = "video,fps,sample_fps,count,sample_count\n"
ROWS = "video,type,type_idx,start,end,startFrame,endFrame\n"


def afsd(*arguments: str) -> int:
    """`afsd prepare …`, which raises what the command line would print as one line."""
    parser = argparse.ArgumentParser()
    add_prepare(parser.add_subparsers())
    parsed = parser.parse_args(["prepare", *arguments])
    return int(parsed.func(parsed))


def report(folder: Path) -> dict[str, dict[str, int]]:
    """What the report says was odd: what → where → how often."""
    content = json.loads((folder / "prepare_report.json").read_text())
    assert all(group["cases"] == sum(group["where"].values()) for group in content["odd"])
    return {group["what"]: group["where"] for group in content["odd"]}


def frames_of(path: Path) -> list[np.ndarray]:
    with open_frames(path, 30.0) as stream:
        return list(stream)


# --- THUMOS14


def thumos(source: Path, folder: Path) -> dict[str, int]:
    """Videos a (good), b (declared 25 fps, frame numbers at 30), c (only Ambiguous); gone and stray; their tables."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    counts = {}
    for name, file in zip(("a", "b", "c"), sorted(source.glob("*.mp4")), strict=True):
        shutil.copy(file, videos / f"{name}.mp4")
        counts[name] = len(frames_of(file))
    shutil.copy(videos / "a.mp4", videos / "stray.mp4")
    (videos / "notes.txt").write_text("no video")
    a, b, c = (counts[name] for name in "abc")
    tables = folder / "tables"
    tables.mkdir()
    (tables / "val_video_info.csv").write_text(
        INFO + f"a,30.0,10.0,{a}.0,{a // 3}\nb,25.0,10.0,{b}.0,{b // 3 + 1}\nc,30.0,10.0,{c + 1}.0,{c // 3}\n"
        "gone,30.0,10.0,90.0,30\n"
    )
    (tables / "val_Annotation.csv").write_text(
        ROWS + "a,CliffDiving,22,0.5,1.5,15,45\na,Diving,26,0.5,1.5,15,45\na,Diving,26,0.2,99.0,6,2970\n"
        "b,HighJump,40,0.5,1.0,15,30\na,Ambiguous,0,1.0,1.1,30,33\nc,Ambiguous,0,0.1,0.2,3,6\n"
        "gone,Billiards,12,0.5,1.5,15,45\nnowhere,Ambiguous,0,0.1,0.2,3,6\n"
    )
    return counts


def test_thumos14_kept(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = thumos(source, tmp_path)
    out = tmp_path / "out"
    status = afsd("thumos14", "--tables", f"{tmp_path}/tables", "--videos", f"{tmp_path}/videos", "--out", str(out),
                  "--subset", "val", "--workers", "1")  # fmt: skip
    assert status == 2  # of the missing video
    odd = report(out)
    assert odd == {
        "videos of the annotation table that the info table lacks (only Ambiguous rows), left out": {"nowhere": 1},
        "frame numbers made with 30 fps for a 25.00-fps video, +20.0% in time (kept)": {"b": 1},
        "annotations that end after the last frame (kept)": {"a": 1},
        "Ambiguous rows, left out": {"a": 1, "c": 1},
        "CliffDiving rows that are Diving rows too (kept)": {"a": 1},
        "videos without any action": {"c": 1},
        "videos without annotation, left out": {"stray.mp4": 1},
        "videos with another number of sampled frames than the table's sample_count": {"b": 1},
        "videos with another number of frames than the table's count": {"c": 1},
    }
    printed = capsys.readouterr().out
    assert "failed: gone: " in printed
    assert "video not found" in printed
    assert "2 × Ambiguous rows, left out: a, c" in printed
    store = FrameStore(out / "frames")
    assert {name: video.frames for name, video in store.videos.items()} == {n: k // 3 for n, k in counts.items()}
    videos = {video.name: video for video in load_annotations(out / "annotations.json", "training")}
    assert sorted(videos) == ["a", "b", "c"]
    ratio = (counts["b"] // 3 + 1) / counts["b"]
    (jump,) = videos["b"].instances
    assert (jump.start_s * 10.0, jump.end_s * 10.0) == pytest.approx((15 * ratio, 30 * ratio), rel=1e-15)
    assert [i.label for i in videos["a"].instances] == ["CliffDiving", "Diving", "Diving"]


def test_thumos14_repaired(source: Path, tmp_path: Path) -> None:
    counts = thumos(source, tmp_path)
    made = prepare_thumos14(tmp_path / "videos", tmp_path / "tables", tmp_path / "out", subsets=("val",),
                            faults="repair", options=OPTIONS)  # fmt: skip
    assert list(made.findings.failures) == ["gone"]
    videos = {video.name: video for video in load_annotations(tmp_path / "out/annotations.json")}
    assert [(i.start_s, i.end_s) for i in videos["b"].instances] == [(0.5, 1.0)]
    assert videos["a"].instances[2].end_s == counts["a"] / 30


@pytest.mark.thorough
def test_the_published_training_set_from_its_tables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = shared("data/thumos14")
    assert afsd("thumos14", "--tables", str(folder), "--check") == 0
    out = capsys.readouterr().out
    assert "training clips: 7842  ok" in out
    assert "the same clips from annotations.json: 7842  ok" in out
    assert "test windows: 3485  ok" in out
    assert "+20.0% in time (kept): video_validation_0000666" in out
    assert "185 × Ambiguous rows" in out  # 3096 − 3007 and 3457 − 3358 rows, less the video of them alone
    assert "30 × annotations that end after the last frame" in out
    for path in folder.glob("*.csv"):
        shutil.copy(path, tmp_path / path.name)
    table = tmp_path / "val_Annotation.csv"
    table.chmod(0o600)
    table.write_text("\n".join(table.read_text().splitlines()[:-200]) + "\n")
    assert afsd("thumos14", "--tables", str(tmp_path), "--check") == 2
    assert "DIFFERS, published: 7842" in capsys.readouterr().out


# --- ActivityNet


def activitynet(source: Path, folder: Path) -> Path:
    """Videos v_one.mp4 and two.mp4 with an annotation file."""
    folder.mkdir()
    shutil.copy(source / "train_0000.mp4", folder / "v_one.mp4")
    shutil.copy(source / "train_0001.mp4", folder / "two.mp4")
    database = {
        "one": {"subset": "training", "duration": 50.0,
                "annotations": [{"label": "run", "segment": [0.2, 1.0]}, {"label": "run", "segment": [1.0, 0.5]}]},
        "two": {"subset": "validation", "annotations": [{"label": "swim", "segment": [0.5, 9.0]}]},
        "three": {"subset": "testing", "annotations": []},
    }  # fmt: skip
    (folder / "anet.json").write_text(json.dumps({"database": database}))
    return folder


def test_activitynet_samples_whole_videos(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = activitynet(source, tmp_path / "videos"), tmp_path / "out"
    options = StoreOptions(
        ("rgb", "flow"), "dis", sample_fps=None, whole_frames=64, frame_size=40, workers=1, progress=False
    )
    made = prepare_activitynet(folder, folder / "anet.json", out, options=options)
    assert not made.failed
    rgb, flow = FrameStore(out / "frames"), FrameStore(out / "flow")
    assert sorted(rgb.videos) == sorted(flow.videos) == ["v_one", "v_two"]
    for name, file in (("v_one", "v_one.mp4"), ("v_two", "two.mp4")):
        every = frames_of(folder / file)
        step = max(len(every) / 64, 1)
        counter, want = 0.0, []
        for frame in every:
            counter += 1
            if counter >= step - 1e-9:
                counter -= step
                want.append(resize_bicubic(frame, (40, 40)))
        np.testing.assert_array_equal(rgb[name], np.stack(want[:64]))
        assert rgb.sample_fps(name) == flow.sample_fps(name) == 30 * min(64 / len(every), 1)
        assert len(flow[name]) == len(rgb[name])
    assert report(out) == {
        "actions that do not end after they start, left out": {"one": 1},
        "annotated durations that disagree with the file": {"v_one": 1},
        "actions that end after the last frame": {"v_two": 1},
        "classes that only subset 'training' has": {"run": 1},
        "classes that only subset 'validation' has": {"swim": 1},
    }
    assert (out / "classes.txt").read_text().split() == ["run", "swim"]
    settings = [f"data.root={out}", "model.clip_length=64", "model.num_levels=3", "model.level_units=[4, 8, 16]",
                "model.crop_size=32", "data.frame_size=40",
                "loss.location_ranges=[[0, 30], [15, 60], [30, 64]]"]  # fmt: skip
    opened = open_clips(load_config("activitynet", settings))
    dataset, classes = opened.dataset, opened.classes
    assert (len(dataset), classes) == (1, ("action",))
    (target,) = dataset[0].targets.tolist()
    assert target == pytest.approx([t * rgb.sample_fps("v_one") / 64 for t in (0.2, 1.0)] + [1])
    assert int(dataset[0].valid.sum()) == rgb.videos["v_one"].frames


def test_activitynet_class_lists(source: Path, tmp_path: Path) -> None:
    folder = activitynet(source, tmp_path / "videos")
    (tmp_path / "names.txt").write_text("run\n\n")
    with pytest.raises(AnnotationError, match=r"names\.txt: lacks 1 of the 2 labels .*, the first is 'swim'"):
        prepare_activitynet(folder, folder / "anet.json", tmp_path / "out", classes_file=tmp_path / "names.txt",
                            options=OPTIONS)  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"database": []}', '{"database": {"a": 3}}', '{"database": {}}'])
def test_activitynet_files_that_are_none(source: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "anet.json").write_text(text)
    with pytest.raises(AnnotationError, match=r"anet\.json: "):
        prepare_activitynet(source, tmp_path / "anet.json", tmp_path / "out", options=OPTIONS)


# --- Own data, and what all have in common


def own(source: Path, folder: Path, **videos: list[dict[str, object]]) -> Path:
    """A folder with copies of the three videos a, b, c and annotations of `videos`."""
    (folder / "videos").mkdir(parents=True)
    for name, file in zip("abc", sorted(source.glob("*.mp4")), strict=True):
        shutil.copy(file, folder / "videos" / f"{name}.mp4")
    database = {name: {"subset": "training", "annotations": given} for name, given in videos.items()}
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    return folder


def action(start: float, end: float, label: str = "x") -> dict[str, object]:
    return {"label": label, "segment": [start, end]}


def test_own_data_reports_what_is_odd(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = own(source, tmp_path / "mine", a=[action(0.2, 1.0), action(1.0, 1.0)], b=[action(0.1, 50)], d=[])
    shutil.copy(root / "videos/a.mp4", root / "videos/a.mov")
    for folder in ("day1", ".trash"):
        (root / "videos" / folder).mkdir()
        shutil.copy(root / "videos/a.mp4", root / "videos" / folder / "d.mp4")
    before = (root / "annotations.json").read_bytes()
    assert afsd("own", str(root), "--size", "20", "--workers", "1") == 2
    out = capsys.readouterr().out
    assert "failed: d: " in out
    assert "a.mp4 beside it has the same name, expected one video a; rename or move the others" in out
    assert report(root) == {
        "videos without annotation, left out": {"c.mp4": 1},
        "videos in folders, left out; annotations name one with its folder, as in day1/v": {"day1/d.mp4": 1},
        "files that share their name with another file; rename them": {"a.mp4": 1},
        "actions without length, left out in training": {"a": 1},
        "actions that end after the last frame": {"b": 1},
        "videos without any action": {"d": 1},
    }
    assert (root / "annotations.json").read_bytes() == before
    assert sorted(FrameStore(root / "frames").videos) == ["b"]


def test_own_data_compares_frame_rates_with_the_files(source: Path, tmp_path: Path) -> None:
    root = own(source, tmp_path / "mine", a=[action(0.2, 1.0)], b=[action(0.1, 1.0)], c=[action(0.1, 1.0)])
    document = json.loads((root / "annotations.json").read_text())
    for name, fps in (("a", 30), ("b", 29.97), ("c", 25)):
        document["database"][name]["fps"] = fps
    (root / "annotations.json").write_text(json.dumps(document))
    assert afsd("own", str(root), "--size", "20", "--workers", "1") == 0
    assert report(root) == {"annotated frame rates that disagree with the file": {"c (25 fps, file 30)": 1}}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_damaged_video_is_told_and_the_others_go_on(
    source: Path, tmp_path: Path, workers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = own(source, tmp_path / "mine", a=[action(0.2, 1.0)], b=[action(0.2, 1.0)], c=[action(0.2, 1.0)])
    (root / "videos/b.mp4").write_bytes(b"no video at all")
    assert afsd("own", str(root), "--size", "20", "--workers", workers, "--streams", "rgb", "flow") == 2
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("failed")]
    assert line.startswith("failed: b: ")
    assert sorted(FrameStore(root / "flow").videos) == ["a", "c"]
    shutil.copy(root / "videos/a.mp4", root / "videos/b.mp4")
    assert afsd("own", str(root), "--size", "20", "--workers", workers, "--streams", "rgb", "flow") == 0
    assert sorted(FrameStore(root / "flow").videos) == ["a", "b", "c"]


def test_flow_is_that_of_the_stored_frames(source: Path, tmp_path: Path) -> None:
    root = own(source, tmp_path / "mine", a=[action(0.2, 1.0)])
    options = StoreOptions(("flow",), "dis", frame_size=40, workers=1, progress=False)
    prepare_own(root, options=options)
    rgb, flow = FrameStore(root / "frames"), FrameStore(root / "flow")
    estimator = FlowEstimator("dis")
    want = [one for frame in rgb["a"] for one in estimator.push(frame)] + estimator.finish()
    np.testing.assert_array_equal(flow["a"], np.stack(want))
    assert flow.flow_method == estimator.name
    assert flow.sampling.channels == 2
    index = json.loads((root / "flow/index.json").read_text())
    (root / "flow/index.json").write_text(json.dumps({**index, "flow_method": "TV-L1 (OpenCV 4.9 contrib)"}))
    with pytest.raises(InputError, match=r"flow: holds flow by TV-L1 .* expected DIS"):
        build_flow_store(rgb, ["a"], root / "flow", method="dis", progress=False)


def test_flow_through_jpeg_is_another_flow(source: Path, tmp_path: Path) -> None:
    root = own(source, tmp_path / "mine", a=[action(0.2, 1.0)])
    options = StoreOptions(("flow",), "dis", flow_jpeg=True, frame_size=40, workers=1, progress=False)
    prepare_own(root, options=options)
    rgb, flow = FrameStore(root / "frames"), FrameStore(root / "flow")
    estimator = FlowEstimator("dis", jpeg=True)
    want = [one for frame in rgb["a"] for one in estimator.push(frame)] + estimator.finish()
    np.testing.assert_array_equal(flow["a"], np.stack(want))
    assert flow_method_of(root / "flow") == ("dis", True)
    with pytest.raises(InputError, match=r"holds flow by DIS .*, through JPEG, expected DIS"):
        build_flow_store(rgb, ["a"], root / "flow", method="dis", progress=False)


def test_stores_of_an_older_index_stay_readable(source: Path, tmp_path: Path) -> None:
    root = own(source, tmp_path / "mine", a=[action(0.2, 1.0)])
    prepare_own(root, options=OPTIONS)
    path = root / "frames/index.json"
    index = json.loads(path.read_text())
    old = {"fps": 10.0, "frame_size": 20, "channels": 3}
    kept = {k: index["videos"]["a"][k] for k in ("frames", "array_bytes", "source_bytes", "source_fps")}
    path.write_text(json.dumps({"sampling": old, "videos": {"a": kept}, "schema": 1}))
    changed = (root / "frames/a.npy").stat().st_mtime_ns
    assert FrameStore(root / "frames").sample_fps("a") == 10.0
    prepare_own(root, options=OPTIONS)
    assert (root / "frames/a.npy").stat().st_mtime_ns == changed


def test_a_killed_run_goes_on_where_it_was(source: Path, tmp_path: Path) -> None:
    names = [f"v{k}" for k in range(12)]
    for folder in ("killed", "whole"):
        (tmp_path / folder / "videos").mkdir(parents=True)
        for name in names:
            shutil.copy2(source / "train_0000.mp4", tmp_path / folder / "videos" / f"{name}.mp4")
        database = {name: {"subset": "training", "annotations": []} for name in names}
        (tmp_path / folder / "annotations.json").write_text(json.dumps({"database": database}))
    code = (
        "import sys; from pathlib import Path; from training.preparation.prepare import *;"
        "prepare_own(Path(sys.argv[1]), options=StoreOptions(frame_size=20, workers=1, progress=False))"
    )
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", code, str(killed)], cwd=ROOT)
    until = time.monotonic() + 60
    while not list((killed / "frames").glob("v*.npy")) and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = list((killed / "frames").glob("v*.npy"))
    assert 0 < len(there) < len(names)
    assert not (killed / "prepare_report.json").exists()
    for folder in (killed, tmp_path / "whole"):
        prepare_own(folder, options=OPTIONS)
    files = sorted(path.name for path in (killed / "frames").iterdir())
    assert files == sorted(["index.json", *(f"{name}.npy" for name in names)])
    for file in files:
        assert (killed / "frames" / file).read_bytes() == (tmp_path / "whole/frames" / file).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["own", "nowhere"], "nowhere: folder not found; expected one with videos"),
        (["thumos14", "--tables", "nowhere", "--check"], "val_video_info.csv: cannot be read as a table"),
        (["thumos14", "--tables", "nowhere"], "needs --videos DIR, or --check"),
        (["activitynet", "--videos", "nowhere", "--annotations", "nowhere.json"], "nowhere.json: file not found"),
        (["own", "nowhere", "--workers", "0"], "workers: got 0, expected 1 … 1024 processes"),
    ],
)
def test_what_cannot_be_prepared_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AfsdError, match=message) as caught:
        afsd(*arguments)
    assert "\n" not in str(caught.value)


def test_a_folder_without_videos(source: Path, tmp_path: Path) -> None:
    root = own(source, tmp_path / "mine", a=[])
    shutil.rmtree(root / "videos")
    with pytest.raises(
        InputError, match=r"videos: folder of videos not found; expected one with .*: a\.mp4 or another"
    ):
        prepare_own(root, options=OPTIONS)
    with pytest.raises(InputError, match=r"sample_fps: got 0.0, expected above 0"):
        prepare_own(own(source, tmp_path / "more", a=[]), options=StoreOptions(sample_fps=0.0, progress=False))
