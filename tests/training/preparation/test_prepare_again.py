"""Data sets prepared more than once: other subsets, replaced and vanished videos, arrays made elsewhere, names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.errors import AfsdError, AnnotationError, InputError, VideoError
from runtime.video.names import find_video, other_name
from tests.shared import ROOT
from training.preparation.prepare import StoreOptions, prepare_activitynet, prepare_own, prepare_thumos14
from training.preparation.thumos14 import read_tables
from training.preparation.thumos_check import check_thumos14
from training.stores.flow_store import build_flow_store
from training.stores.frame_store import FrameStore, StoreIndex, index_arrays, read_index, write_index
from training.stores.store_building import build_frame_store

OPTIONS = StoreOptions(frame_size=20, workers=1, progress=False)
FLOW = StoreOptions(streams=("rgb", "flow"), flow_method="dis", frame_size=20, workers=1, progress=False)


def tables(folder: Path, subset: str, video: str) -> None:
    (folder / f"{subset}_video_info.csv").write_text(
        f"video,fps,sample_fps,count,sample_count\n{video},30.0,10.0,60.0,20\n"
    )
    (folder / f"{subset}_Annotation.csv").write_text(
        f"video,type,type_idx,start,end,startFrame,endFrame\n{video},Diving,26,0.5,1.5,15,45\n"
    )


def test_subsets_prepared_one_after_the_other_are_both_there(source: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for subset, name in (("val", "a"), ("test", "b")):
        tables(tmp_path, subset, name)
        shutil.copy(source / "train_0000.mp4", videos / f"{name}.mp4")
    for subset in ("val", "test", "val"):
        prepare_thumos14(videos, tmp_path, tmp_path / "out", subsets=(subset,), options=OPTIONS)  # type: ignore[arg-type]
    database = json.loads((tmp_path / "out/annotations.json").read_text())["database"]
    assert {name: entry["subset"] for name, entry in database.items()} == {"a": "training", "b": "test"}
    assert set(FrameStore(tmp_path / "out/frames").videos) == {"a", "b"}


def test_activitynet_does_not_write_over_what_it_reads(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"database": {"x": {"subset": "training", "annotations": []}}}))
    before = path.read_text()
    with pytest.raises(InputError, match="is there already, not written by afsd prepare, and would be lost"):
        prepare_activitynet(source, path, tmp_path, options=OPTIONS)
    assert path.read_text() == before


def test_files_of_others_in_the_folder_are_not_written_over(source: Path, tmp_path: Path) -> None:
    """Own annotations, an own list of classes, and downloaded arrays."""
    videos, given, out = tmp_path / "videos", tmp_path / "given.json", tmp_path / "out"
    videos.mkdir()
    out.mkdir()
    shutil.copy(source / "train_0000.mp4", videos / "v_x.mp4")
    entry = {"subset": "training", "annotations": [{"label": "x", "segment": [0.1, 0.9]}]}
    given.write_text(json.dumps({"database": {"x": entry}}))
    tables(tmp_path, "val", "v_x")
    for name in ("annotations.json", "classes.txt"):
        (out / name).write_text(given.read_text())
        with pytest.raises(InputError, match=rf"{name}: is there already.* and would be lost; use another --out"):
            prepare_activitynet(videos, given, out, options=OPTIONS)
        if name == "annotations.json":
            with pytest.raises(InputError, match="is there already"):
                prepare_thumos14(videos, tmp_path, out, subsets=("val",), options=OPTIONS)
        assert (out / name).read_text() == given.read_text()
        (out / name).unlink()
    (out / "frames").mkdir()
    np.save(out / "frames/v_x.npy", np.zeros((8, 20, 20, 3), np.uint8))
    with pytest.raises(InputError, match=r"v_x\.npy: of unknown origin \(index\.json is missing\)"):
        prepare_activitynet(videos, given, out, options=OPTIONS)
    assert not np.load(out / "frames/v_x.npy").any()
    (out / "frames/v_x.npy").unlink()
    (out / "classes.txt").write_text("x\ny\n")
    for _ in range(2):
        prepare_activitynet(videos, given, out, classes_file=out / "classes.txt", options=OPTIONS)


def test_activitynet_ids_that_begin_like_its_file_names(source: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(source / "train_0000.mp4", videos / "v_v_odd.mp4")
    shutil.copy(source / "train_0001.mp4", videos / "plain.mp4")
    entry = {"subset": "training", "annotations": [{"label": "x", "segment": [0.1, 0.9]}]}
    (tmp_path / "a.json").write_text(json.dumps({"database": {"v_odd": entry, "plain": entry}}))
    prepared = prepare_activitynet(videos, tmp_path / "a.json", tmp_path / "out", options=OPTIONS)
    assert not prepared.failed
    assert set(json.loads((tmp_path / "out/annotations.json").read_text())["database"]) == {"v_v_odd", "v_plain"}


def test_finding_a_video_by_either_of_its_names(tmp_path: Path) -> None:
    assert (other_name("abc"), other_name("v_abc")) == ("v_abc", "abc")
    for name in ("v_one.mp4", "two.MKV", "both.avi", "v_both.avi"):
        (tmp_path / name).touch()
    assert find_video(tmp_path, "one").name == find_video(tmp_path, "v_one").name == "v_one.mp4"
    assert find_video(tmp_path, "v_two").name == "two.MKV"
    assert (find_video(tmp_path, "both").name, find_video(tmp_path, "v_both").name) == ("both.avi", "v_both.avi")
    with pytest.raises(VideoError, match="video not found"):
        find_video(tmp_path, "v_three")


def test_a_name_of_several_files_is_refused_and_one_in_another_normal_form_is_found(tmp_path: Path) -> None:
    for name in ("x.avi", "x.mp4", "cafe\u0301.mp4", "na\u00efve.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(VideoError, match=r"x\.avi: x\.mp4 beside it has the same name, expected one video v_x"):
        find_video(tmp_path, "v_x")
    with pytest.raises(VideoError, match="video not found"):
        find_video(tmp_path, "x" * 255)
    assert find_video(tmp_path, "caf\u00e9").name == "cafe\u0301.mp4"
    assert find_video(tmp_path, "v_nai\u0308ve").name == "na\u00efve.mp4"


@pytest.mark.parametrize("name", ["../a", "/a", "b/../../a", "..", "", "..\\a", "a\0"])
def test_a_name_that_leads_out_of_the_store_is_refused(name: str, source: Path, tmp_path: Path) -> None:
    root = own(source, tmp_path / "own")
    shutil.copy(source / "train_0000.mp4", root / "a.mp4")  # where "../a" leads from videos/
    entry = {"subset": "training", "annotations": [{"label": "x", "segment": [0.1, 0.9]}]}
    (root / "annotations.json").write_text(json.dumps({"database": {"a": entry, name: entry}}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"the name of a video is .*, which (leads out of|has a )"):
        prepare_own(root, options=OPTIONS)
    assert sorted(tmp_path.rglob("*")) == before


def own(source: Path, root: Path) -> Path:
    """A data set of one video, a."""
    (root / "videos").mkdir(parents=True)
    shutil.copy(source / "train_0000.mp4", root / "videos/a.mp4")
    entry = {"subset": "training", "annotations": [{"label": "x", "segment": [0.1, 0.9]}]}
    (root / "annotations.json").write_text(json.dumps({"database": {"a": entry}}))
    return root


def test_flow_follows_a_video_that_was_replaced(source: Path, tmp_path: Path) -> None:
    root = own(source, tmp_path / "own")
    prepare_own(root, options=FLOW)
    before = FrameStore(root / "flow")["a"].copy()
    count = len(before)
    frames = np.random.default_rng(0).integers(0, 256, (count, 20, 20, 3), np.uint8)
    store = FrameStore(root / "frames")
    np.save(root / "frames/a.npy", frames)  # another video with as many frames: its array has the same size
    changed = store.videos["a"].__class__(**{**vars(store.videos["a"]), "source_bytes": 1})
    write_index(root / "frames/index.json", StoreIndex(store.sampling, {"a": changed}))
    flow = build_flow_store(FrameStore(root / "frames"), ["a"], root / "flow", method="dis", progress=False)
    assert len(flow["a"]) == count
    assert not np.array_equal(flow["a"], before)


def test_another_video_of_equal_size_is_noticed_and_one_that_was_only_copied_not_made_again(
    source: Path, tmp_path: Path
) -> None:
    """Frames and flow; both videos are padded to one size, and moved into place with an age of their own."""
    root = own(source, tmp_path / "own")
    contents = [(source / f"train_000{k}.mp4").read_bytes() for k in range(2)]
    size = max(map(len, contents)) + 8
    free = [content + (size - len(content)).to_bytes(4, "big") + b"free" for content in contents]  # a box of MP4
    first, second = (content.ljust(size, b"\0") for content in free)

    def prepare(video: bytes) -> tuple[int, bytes, bytes]:
        (root / "videos/a.mp4").write_bytes(video)
        os.utime(root / "videos/a.mp4", ns=(0, next(ages)))
        assert not prepare_own(root, options=FLOW).failed
        frames, flow = root / "frames/a.npy", root / "flow/a.npy"
        return frames.stat().st_mtime_ns, frames.read_bytes(), flow.read_bytes()

    ages = iter(range(1, 9))
    made, frames, flow = prepare(first)
    assert prepare(first) == (made, frames, flow)
    again, other_frames, other_flow = prepare(second)
    assert again != made
    assert other_frames != frames
    assert other_flow != flow
    assert prepare(first)[1:] == (frames, flow)


def test_what_several_processes_prepare_is_all_in_the_records(source: Path, tmp_path: Path) -> None:
    """Each of the two reads the index, makes its videos and writes; the second one knows nothing of the first."""
    videos, out = tmp_path / "videos", tmp_path / "store"
    videos.mkdir()
    names = [f"v{k}" for k in range(8)]
    for name in names:
        shutil.copy(source / "train_0000.mp4", videos / f"{name}.mp4")
    code = (
        "import sys; from training.stores.store_building import build_frame_store;"
        "build_frame_store(sys.argv[1], sys.argv[3:], sys.argv[2], frame_size=20, sample_fps=10.0, workers=1)"
    )
    command = [sys.executable, "-c", code, str(videos), str(out)]
    processes = [subprocess.Popen([*command, *names[k::2]], cwd=ROOT) for k in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert sorted(FrameStore(out).videos) == names
    assert len(list(out.iterdir())) == len(names) + 1


def test_an_index_written_meanwhile_is_added_to_and_one_of_another_sampling_refused(
    source: Path, tmp_path: Path
) -> None:
    videos, out = tmp_path / "videos", tmp_path / "store"
    videos.mkdir()
    for name in "ab":
        shutil.copy(source / "train_0000.mp4", videos / f"{name}.mp4")

    def build(name: str, **options: Any) -> None:
        build_frame_store(videos, [name], out, frame_size=20, workers=1, progress=False, **options)

    def fail_after(other: str, **options: Any) -> Callable[[str, AfsdError], None]:
        return lambda name, error: build(other, **options)

    (videos / "broken.mp4").write_bytes(b"no video")
    broken = ["broken", "a"]  # while the first is said to be broken, another process builds b
    options = {"frame_size": 20, "workers": 1, "progress": False, "sample_fps": 10.0}
    build_frame_store(videos, broken, out, on_failure=fail_after("b", sample_fps=10.0), **options)  # type: ignore[arg-type]
    assert sorted(FrameStore(out).videos) == ["a", "b"]
    shutil.rmtree(out)
    with pytest.raises(InputError, match="asked for are RGB, 20 pixels, 5 fps"):
        build_frame_store(videos, broken, out, on_failure=fail_after("b", sample_fps=5.0), **options)  # type: ignore[arg-type]
    assert not list(out.glob("*.npy"))


def test_a_subset_that_another_process_prepares_meanwhile_stays(source: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for subset, name in (("val", "a"), ("test", "b")):
        tables(tmp_path, subset, name)
        shutil.copy(source / "train_0000.mp4", videos / f"{name}.mp4")
    code = (
        "import sys; from pathlib import Path; from training.preparation.prepare import *;"
        "prepare_thumos14(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[2]) / 'out', subsets=(sys.argv[3],),"
        "options=StoreOptions(frame_size=20, workers=1, progress=False))"
    )
    command = [sys.executable, "-c", code, str(videos), str(tmp_path)]
    processes = [subprocess.Popen([*command, subset], cwd=ROOT) for subset in ("val", "test")]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert set(json.loads((tmp_path / "out/annotations.json").read_text())["database"]) == {"a", "b"}


def test_arrays_stay_when_their_videos_are_gone_and_nothing_is_written(source: Path, tmp_path: Path) -> None:
    root = own(source, tmp_path / "own")
    prepare_own(root, options=FLOW)
    (root / "videos/a.mp4").unlink()
    stamps = {path: path.stat().st_mtime_ns for path in root.glob("*/*.json")}
    os.utime(root / "frames/index.json")
    stamps[root / "frames/index.json"] = (root / "frames/index.json").stat().st_mtime_ns
    assert not prepare_own(root, options=FLOW).failed
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_flow_of_another_release_of_opencv_is_taken_of_another_method_not(source: Path, tmp_path: Path) -> None:
    root = own(source, tmp_path / "own")
    prepare_own(root, options=FLOW)
    index = read_index(root / "flow/index.json")
    write_index(root / "flow/index.json", StoreIndex(index.sampling, index.videos, "DIS (OpenCV 4.5)"))
    assert not prepare_own(root, options=FLOW).failed
    write_index(root / "flow/index.json", StoreIndex(index.sampling, index.videos, "TV-L1 (OpenCV 4.5 contrib)"))
    with pytest.raises(InputError, match="holds flow by TV-L1"):
        prepare_own(root, options=FLOW)


def test_published_arrays_beside_videos_are_not_made_again(source: Path, tmp_path: Path) -> None:
    videos, rgb, flow = tmp_path / "videos", tmp_path / "rgb", tmp_path / "flow"
    for folder in (videos, rgb, flow):
        folder.mkdir()
    shutil.copy(source / "train_0000.mp4", videos / "v_a.mp4")
    np.save(rgb / "v_a.npy", np.zeros((8, 20, 20, 3), np.uint8))
    np.save(flow / "v_a.npy", np.zeros((8, 20, 20, 2), np.uint8))
    index_arrays(rgb, frame_size=20, rates={"v_a": 12.5}, whole_frames=768)
    index_arrays(flow, frame_size=20, rates={"v_a": 12.5}, whole_frames=768, channels=2)
    store = build_frame_store(videos, ["v_a"], rgb, frame_size=20, whole_frames=768, progress=False)
    assert store.sample_fps("v_a") == 12.5
    assert not store["v_a"].any()
    assert not build_flow_store(store, ["v_a"], flow, progress=False)["v_a"].any()
    with pytest.raises(InputError, match="1 video without a rate, the first is 'v_a'"):
        index_arrays(rgb, frame_size=20, rates={"v_b": 1.0}, whole_frames=768)


@pytest.mark.parametrize(
    ("column", "value"), [("type_idx", "nan"), ("start", "nan"), ("endFrame", "inf"), ("startFrame", "")]
)
def test_numbers_that_are_none_are_named(column: str, value: str, tmp_path: Path) -> None:
    for subset in ("val", "test"):
        tables(tmp_path, subset, "a")
    header, row = (tmp_path / "val_Annotation.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True)) | {column: value}
    (tmp_path / "val_Annotation.csv").write_text(f"{header}\n{','.join(cells.values())}\n")
    with pytest.raises(AnnotationError, match=f"line 2: {column}: got '{value}', expected a number"):
        check_thumos14(tmp_path)


def test_tables_with_a_byte_order_mark(tmp_path: Path) -> None:
    tables(tmp_path, "val", "a")
    for path in tmp_path.glob("*.csv"):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    assert [video.name for video in read_tables(tmp_path, "val").videos] == ["a"]


def test_tables_without_rows_disagree_but_do_not_break(tmp_path: Path) -> None:
    for subset in ("val", "test"):
        tables(tmp_path, subset, "a")
    header = (tmp_path / "val_Annotation.csv").read_text().splitlines()[0]
    (tmp_path / "val_Annotation.csv").write_text(f"{header}\n")
    values, _ = check_thumos14(tmp_path)
    assert not any(value.agrees for value in values if value.what.startswith(("training", "instances", "th at")))


@pytest.mark.thorough
def test_the_files_of_an_annotation_tool_are_prepared_and_trained_on(source: Path, tmp_path: Path) -> None:
    """A folder with a file of ELAN per video, in place of annotations.json."""
    from runtime.exchange.files import write_segments
    from runtime.exchange.record import Segment, VideoSegments
    from tests.training.small import small_config
    from training.training_set import open_training_set

    (tmp_path / "videos").mkdir()
    shutil.copy(source / "train_0000.mp4", tmp_path / "videos" / "a.mp4")
    segments = (Segment(0.2, 0.9, "jump"), Segment(0.5, 1.4, "run"))
    write_segments(tmp_path / "eaf", [VideoSegments("a", segments)], "elan")
    report = prepare_own(tmp_path, annotations="eaf", options=replace(OPTIONS, frame_size=36))
    assert report.facts["classes"] == "jump, run"
    settings = (f"data.root={tmp_path}", "data.annotations=eaf", "data.classes=[]", "model.num_classes=0")
    assert open_training_set(small_config(*settings)).classes == ("jump", "run")
