"""Frame stores: built from real files, resumed, and read with clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import InputError, VideoError
from runtime.video.resize import resize_bicubic
from runtime.video.sampling import open_frames
from tests.shared import shared
from training.stores import store_building
from training.stores.frame_store import FrameStore, index_arrays
from training.stores.store_building import build_frame_store
from training.synthetic.videos import VideoFormat, make_synthetic

TINY = VideoFormat(size=32, shortest_s=2.0, longest_s=3.0)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    make_synthetic(folder, videos=3, seed=1, subset="train", video_format=TINY, workers=1)
    return folder / "videos"


NAMES = ["train_0000", "train_0001", "train_0002"]


def build(videos: Path, out: Path, names: list[str] = NAMES, size: int = 20, workers: int = 1) -> FrameStore:
    return build_frame_store(videos, names, out, sample_fps=10, frame_size=size, workers=workers, progress=False)


def test_no_videos_give_an_empty_store(tmp_path: Path) -> None:
    store = build(tmp_path, tmp_path / "store", names=[])
    assert len(store) == 0
    with pytest.raises(InputError, match="no frames of 'x'"):
        store["x"]


def test_arrays_are_the_sampled_and_resized_frames(videos: Path, tmp_path: Path) -> None:
    store = build(videos, tmp_path / "store")
    assert sorted(store.videos) == NAMES
    for name in NAMES:
        with open_frames(videos / f"{name}.mp4", 30.0) as every_frame:
            source = list(every_frame)
        want = np.stack([resize_bicubic(frame, (20, 20)) for frame in source[2::3]])
        array = store[name]
        np.testing.assert_array_equal(array, want)
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
        assert store.videos[name].frames == len(source) // 3
        assert store.videos[name].source_fps == 30.0
        np.testing.assert_array_equal(np.load(tmp_path / "store" / f"{name}.npy"), want)


def test_processes_make_the_same_files(videos: Path, tmp_path: Path) -> None:
    build(videos, tmp_path / "a", workers=1)
    build(videos, tmp_path / "b", workers=2)
    for name in NAMES:
        assert (tmp_path / "a" / f"{name}.npy").read_bytes() == (tmp_path / "b" / f"{name}.npy").read_bytes()


def test_only_what_is_missing_or_changed_is_built(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def spy(source, *args, **kwargs):  # type: ignore[no-untyped-def]
        opened.append(Path(source).stem)
        return open_frames(source, *args, **kwargs)

    monkeypatch.setattr(store_building, "open_frames", spy)
    out = tmp_path / "store"
    build(videos, out, NAMES[:2])
    assert opened == NAMES[:2]
    build(videos, out)
    assert opened[2:] == NAMES[2:]
    build(videos, out)
    assert len(opened) == 3
    cut_off = out / "train_0001.npy"
    cut_off.write_bytes(cut_off.read_bytes()[:-5])
    (out / "train_0002.npy").unlink()
    build(videos, out)
    assert opened[3:] == ["train_0001", "train_0002"]
    assert len(build(videos, out, NAMES[:1])) == 3


def test_another_sampling_needs_another_folder(videos: Path, tmp_path: Path) -> None:
    build(videos, tmp_path, NAMES[:1])
    with pytest.raises(InputError, match="choose another folder"):
        build(videos, tmp_path, NAMES[:1], size=24)


@pytest.mark.parametrize(("fps", "size"), [(0, 20), (-1, 20), (10, 0)])
def test_bad_sampling_is_an_error(tmp_path: Path, fps: float, size: int) -> None:
    with pytest.raises(InputError, match=r"(fps|frame_size): got (0|-1)(\.0)?, expected "):
        build_frame_store(tmp_path, [], tmp_path / "store", sample_fps=fps, frame_size=size)


def test_a_missing_video_is_told_before_any_work(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"nowhere: video not found; expected nowhere\.mp4"):
        build(videos, tmp_path / "store", [*NAMES, "nowhere"])
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_array_that_cannot_be_written_does_not_end_the_build(videos: Path, tmp_path: Path, workers: int) -> None:
    out = tmp_path / "store"
    (out / f"{NAMES[0]}.npy" / "in the way").mkdir(parents=True)
    failures: dict[str, str] = {}
    store = build_frame_store(
        videos,
        NAMES[:2],
        out,
        sample_fps=10,
        frame_size=20,
        workers=workers,
        progress=False,
        on_failure=lambda name, error: failures.update({name: str(error)}),
    )
    assert list(store.videos) == [NAMES[1]]
    assert list(failures) == [NAMES[0]]
    assert "no array of this video is written" in failures[NAMES[0]]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_video_leaves_the_others_usable(videos: Path, tmp_path: Path, workers: int) -> None:
    folder, out = tmp_path / "videos", tmp_path / "store"
    folder.mkdir()
    (folder / "train_0000.mp4").write_bytes((videos / "train_0000.mp4").read_bytes())
    build(folder, out, NAMES[:1])
    (folder / "train_0001.mp4").write_bytes(b"no video at all")
    with pytest.raises(VideoError, match="train_0001"):
        build(folder, out, NAMES[:2], workers=workers)
    assert sorted(path.name for path in out.iterdir()) == ["index.json", "train_0000.npy"]
    assert list(FrameStore(out).videos) == ["train_0000"]


def test_folders_that_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="frame store not found"):
        FrameStore(tmp_path)
    for text in ("{", "[]", '{"sampling": {"fps": 0, "frame_size": 4}}', '{"sampling": {"fps": 1}}'):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(InputError, match=r"index\.json: (not the index of a frame store|not JSON)"):
            FrameStore(tmp_path)


def test_damaged_arrays_are_named(videos: Path, tmp_path: Path) -> None:
    store = build(videos, tmp_path)
    path = tmp_path / "train_0000.npy"
    good = path.read_bytes()
    for damaged in (b"", good[:50], good[:-1], b"x" + good):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"train_0000\.npy: cannot be read .*build the frame store again"):
            store["train_0000"]
    np.save(path, np.zeros((3, 20, 20, 3), np.uint8))
    with pytest.raises(InputError, match=r"got uint8 \[3, 20, 20, 3\], expected uint8 \[\d+,20,20,3\]"):
        store["train_0000"]
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        store["train_0000"]


def test_arrays_made_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \.npy file"):
        index_arrays(tmp_path, sample_fps=10, frame_size=8, channels=2)
    flow = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 2), dtype=np.uint8)
    np.save(tmp_path / "a.npy", flow)
    store = index_arrays(tmp_path, sample_fps=10, frame_size=8, channels=2)
    np.testing.assert_array_equal(store["a"], flow)
    assert json.loads((tmp_path / "index.json").read_text())["videos"]["a"]["frames"] == 5
    np.save(tmp_path / "b.npy", flow.astype(np.float32))
    with pytest.raises(InputError, match=r"b\.npy: got float32"):
        index_arrays(tmp_path, sample_fps=10, frame_size=8, channels=2)


def test_a_real_video(tmp_path: Path) -> None:
    video = shared("data/videos/demo.mp4")
    store = build(video.parent, tmp_path, ["demo"], size=112)
    with open_frames(video, 10.0) as stream:
        want = [resize_bicubic(frame, (112, 112)) for frame in stream]
    np.testing.assert_array_equal(store["demo"], np.stack(want))
