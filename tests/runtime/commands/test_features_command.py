"""`afsd features`, and `afsd detect` with backbones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.cli import main, make_parser
from runtime.common.npy_writer import grow_npy
from runtime.errors import EngineError, InputError
from runtime.features.description import read_description
from runtime.features.extractor import FeatureExtractor
from runtime.features.feature_set import list_features, open_features
from runtime.features.files import read_features
from runtime.features.folder import ExtractionOptions, FeatureFolder
from tests.streaming import peak_memory
from tests.tiny_backbone import (
    SAMPLING,
    SIZE,
    SNIPPET,
    STRIDE,
    MixingModel,
    TinyBackbone,
    feature_model_spec,
    snippet_features,
    write_tiny_backbone,
)


def write_video(path: Path, count: int, fps: float = 25.0, seed: int = 0) -> NDArray[np.uint8]:
    """A lossless video; the frames, RGB, as OpenCV decodes them."""
    rng = np.random.default_rng(seed)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), fps, (SIZE[1], SIZE[0]))
    for level in rng.integers(0, 200, count):
        writer.write(rng.integers(0, 55, (*SIZE, 3), np.uint8) + np.uint8(level))
    writer.release()
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, image = capture.read()
        if not there:
            return np.stack(frames)
        frames.append(image[..., ::-1])


def plain_steps(frames: NDArray[np.uint8], stream: str = "rgb") -> NDArray[np.float32]:
    count = (len(frames) - SNIPPET) // STRIDE + 1
    return np.concatenate(
        [snippet_features(frames[None, STRIDE * k : STRIDE * k + SNIPPET], stream) for k in range(count)]
    )


@pytest.fixture
def rgb(tmp_path: Path) -> str:
    return str(write_tiny_backbone(tmp_path / "rgb.onnx"))


def told(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_features_are_written_as_a_set_that_training_reads(tmp_path: Path, rgb: str, capsys: Any) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    frames = {"a": write_video(videos / "a.avi", 90), "b": write_video(videos / "b.avi", 61, fps=10.0, seed=1)}
    out = tmp_path / "set"
    assert main(["features", str(videos), "--backbone", rgb, "--out", str(out)]) == 0
    printed, _ = told(capsys)
    assert f"{videos / 'a.avi'}: 21 steps of 3 channels of 90 frames in " in printed
    features, annotated = open_features(out / "features.json")
    assert [(v.name, v.fps, v.duration_s, v.instances) for v in annotated] == [
        ("a", 25.0, 3.6, ()),
        ("b", 10.0, 6.1, ()),
    ]
    for name, pixels in frames.items():
        np.testing.assert_allclose(features.read(name), plain_steps(pixels), rtol=1e-5, atol=1e-5)
        stored = read_features(out / "rgb" / f"{name}.npy")
        assert (stored.dtype, stored.flags.c_contiguous) == (np.float32, True)
    assert features.width == 3
    # the middle of step 5 is the middle of its snippet: frames 20 to 27, from second 20 / fps to 28 / fps
    assert features.time_axis("b").seconds(5.5) == pytest.approx(24 / 10)
    assert read_description(out / "features.json").sampling == SAMPLING
    assert not list(out.rglob(".afsd-*"))


def test_what_is_there_is_left_and_what_is_lost_made_again(tmp_path: Path, rgb: str, capsys: Any) -> None:
    write_video(tmp_path / "a.avi", 40)
    command = ["features", str(tmp_path / "a.avi"), "--backbone", rgb, "--out", str(tmp_path / "set")]
    assert main(command) == 0
    path = tmp_path / "set" / "rgb" / "a.npy"
    made, content = path.stat().st_mtime_ns, path.read_bytes()
    (tmp_path / "set" / "features.json").write_text("{}")  # somebody's own
    assert main(command) == 0
    assert "9 steps are there already" in told(capsys)[0]
    assert path.stat().st_mtime_ns == made
    path.unlink()
    assert main(command) == 0
    assert path.read_bytes() == content
    assert (tmp_path / "set" / "features.json").read_text() == "{}"


@pytest.mark.thorough
def test_features_of_a_tree_are_found_by_the_names_of_its_annotations(tmp_path: Path, rgb: str, capsys: Any) -> None:
    frames = {}
    for number, name in enumerate(("x", "day1/x", "day2/x")):
        path = tmp_path / "videos" / f"{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        frames[name] = write_video(path, 40 + 4 * number, seed=number)
    out = tmp_path / "set"
    words = ["--backbone", rgb, "--out", str(out)]
    command = ["features", str(tmp_path / "videos"), "--recursive", *words]
    (out / "rgb" / "day2").mkdir(parents=True)
    (out / "rgb" / "day2" / ".afsd-abcde.npy").touch()  # of a process that is dead
    assert main(command) == 0
    assert sorted(str(path.relative_to(out / "rgb")) for path in (out / "rgb").rglob("*.*")) == [
        "day1/x.npy", "day2/x.npy", "x.npy",
    ]  # fmt: skip
    features, annotated = open_features(out / "features.json")
    assert sorted(video.name for video in annotated) == sorted(frames)
    for name, pixels in frames.items():
        np.testing.assert_allclose(features.read(name), plain_steps(pixels), rtol=1e-5, atol=1e-5)
    told(capsys)
    assert main(command) == 0
    assert told(capsys)[0].count("steps are there already") == 3
    listed = list_features([out / "rgb"], feature_model_spec("afsd"))
    assert [(one.name, one.paths) for one in listed] == [
        (name, (out / "rgb" / f"{name}.npy",)) for name in ("day1/x", "day2/x", "x")
    ]
    with pytest.raises(InputError, match=r"got the folder of a feature set, expected its features\.json"):
        list_features([out], feature_model_spec("afsd"))
    (tmp_path / "videos" / "x.avi").unlink()
    old = ["features", str(tmp_path / "videos" / "day1" / "x.avi"), "--backbone", rgb, "--out", str(tmp_path / "old")]
    assert main(old) == 0  # as older releases named it
    told(capsys)
    assert main([*command[:-1], str(tmp_path / "old")]) == 0
    assert told(capsys)[1].count("holds the features of ../videos/day1/x.avi as 'x', too, so the video is twice") == 1


def test_other_settings_and_other_videos_are_refused(tmp_path: Path, rgb: str, capsys: Any) -> None:
    write_video(tmp_path / "a.avi", 40)
    out = ["--out", str(tmp_path / "set")]
    source = ["features", str(tmp_path / "a.avi")]
    assert main([*source, "--backbone", rgb, *out]) == 0
    other = str(write_tiny_backbone(tmp_path / "other.onnx", checkpoint_sha256="of others"))
    for flags, name in (
        (["--backbone", other], "backbone 1's weights_sha256"),
        (["--backbone", rgb, "--sample-fps", "10"], "sample_fps"),
        (["--backbone", rgb, "--fps", "10"], "fps"),
    ):
        told(capsys)
        assert main([*source, *flags, *out]) == 2
        error = told(capsys)[1]
        assert f"its features were made with {name} " in error
        assert error.count("\n") == 1
    (tmp_path / "more").mkdir()
    write_video(tmp_path / "more" / "a.avi", 50, seed=3)
    assert main(["features", str(tmp_path / "more" / "a.avi"), "--backbone", rgb, *out]) == 2
    assert "holds features of another video named a" in told(capsys)[1]
    (tmp_path / "strange" / "rgb").mkdir(parents=True)
    np.save(tmp_path / "strange" / "rgb" / "z.npy", np.zeros((3, 3), np.float32))
    assert main([*source, "--backbone", rgb, "--out", str(tmp_path / "strange")]) == 2
    assert "of unknown origin" in told(capsys)[1]
    (tmp_path / "set" / "extraction.json").write_text('{"settings": 1}')
    assert main([*source, "--backbone", rgb, *out]) == 2
    assert "not the record of afsd features" in told(capsys)[1]


def write_images(folder: Path, levels: list[int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, level in enumerate(levels):
        cv2.imwrite(str(folder / f"img_{number:03}.png"), np.full((*SIZE, 3), level, np.uint8))
    return folder


def steps_of(out: Path, name: str) -> list[list[float]]:
    return [[round(float(x), 4) for x in row] for row in np.load(out / "rgb" / f"{name}.npy")]


def test_two_folders_of_one_name_are_two_videos_and_new_images_new_features(tmp_path: Path) -> None:
    """Whatever can be confused: equal names, equal sizes, the folder's own age."""
    cat, dog = write_images(tmp_path / "cat" / "frames", [10] * 12), write_images(tmp_path / "dog/frames", [90] * 12)
    out = tmp_path / "set"
    folder = FeatureFolder(out, FeatureExtractor([TinyBackbone()]))
    folder.add(str(cat))
    with pytest.raises(InputError, match=r"another video named frames, \.\./cat/frames; rename one, or use another"):
        folder.add(str(dog))
    before = steps_of(out, "frames")
    assert folder.add(str(cat))[2] is None
    (tmp_path / "moved").mkdir()
    moved = cat.rename(tmp_path / "moved" / "frames")
    assert folder.add(str(moved))[2] is None  # the same images
    moved.rename(cat)
    write_images(cat, [10] * 11 + [11])
    assert folder.add(str(cat))[2] is not None
    assert steps_of(out, "frames") != before
    alone = FeatureFolder(tmp_path / "other", FeatureExtractor([TinyBackbone()]))
    alone.add(str(cat))
    assert steps_of(tmp_path / "other", "frames") == steps_of(out, "frames")


def test_a_file_whose_content_has_changed_is_made_anew(tmp_path: Path) -> None:
    folder = FeatureFolder(tmp_path / "set", FeatureExtractor([TinyBackbone()]))
    path = tmp_path / "a.avi"
    write_video(path, 40)
    folder.add(str(path))
    before, stat = steps_of(tmp_path / "set", "a"), path.stat()
    write_video(path, 40, seed=1)
    os.truncate(path, stat.st_size)
    with path.open("ab") as file:
        file.write(bytes(stat.st_size - path.stat().st_size))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = FeatureFolder(tmp_path / "set", FeatureExtractor([TinyBackbone()]), ExtractionOptions(allow_truncated=True))
    assert again.add(str(path))[2] is not None
    assert steps_of(tmp_path / "set", "a") != before


def test_a_url_is_read_anew_and_another_of_its_name_refused(tmp_path: Path) -> None:
    for place, seed in (("one", 0), ("two", 1)):
        (tmp_path / place).mkdir()
        write_video(tmp_path / place / "a.avi", 40, seed=seed)
    folder = FeatureFolder(tmp_path / "set", FeatureExtractor([TinyBackbone()]))
    with serve(tmp_path) as address:
        folder.add(f"{address}/one/a.avi")
        before = steps_of(tmp_path / "set", "a")
        with pytest.raises(InputError, match="holds features of another video named a; rename"):
            folder.add(f"{address}/two/a.avi")
        (tmp_path / "one" / "a.avi").write_bytes((tmp_path / "two" / "a.avi").read_bytes())
        assert folder.add(f"{address}/one/a.avi")[2] is not None
    assert steps_of(tmp_path / "set", "a") != before


def test_an_object_of_a_store_is_read_again_when_its_tag_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = pytest.importorskip("fsspec").filesystem("memory")
    top = f"memory://bucket-{tmp_path.name}"
    tags: dict[str, str] = {}
    monkeypatch.setattr(
        type(memory), "info", lambda self, path, **_: {"name": path, "size": 5, "type": "file", "ETag": tags[path[-7:]]}
    )
    for place, seed in (("1", 0), ("2", 1)):
        write_video(tmp_path / "a.avi", 40, seed=seed)
        memory.pipe_file(f"{top}/{place}/a.avi", (tmp_path / "a.avi").read_bytes())
        tags[f"{place}/a.avi"] = f'"{seed}"'
    backbone = FeatureExtractor([TinyBackbone()])
    folder = FeatureFolder(tmp_path / "set", backbone)
    assert folder.add(f"{top}/1/a.avi")[2] is not None
    before = steps_of(tmp_path / "set", "a")
    with monkeypatch.context() as patch:
        patch.setattr("runtime.features.folder.open_streams", lambda *_, **__: pytest.fail("it was opened"))
        assert FeatureFolder(tmp_path / "set", backbone).add(f"{top}/1/a.avi")[2] is None
        with pytest.raises(InputError, match=f"another video named a, {top}/1/a.avi; rename"):
            folder.add(f"{top}/2/a.avi")
    memory.pipe_file(f"{top}/1/a.avi", memory.cat_file(f"{top}/2/a.avi"))
    tags["1/a.avi"] = '"1"'
    assert folder.add(f"{top}/1/a.avi")[2] is not None
    assert steps_of(tmp_path / "set", "a") != before


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_several_processes_add_is_all_in_the_records(tmp_path: Path) -> None:
    """Two writers in turn: each would otherwise write the record that it read first, with its own videos alone."""
    out = tmp_path / "set"
    writers = [FeatureFolder(out, FeatureExtractor([TinyBackbone()])) for _ in range(2)]
    names = [f"v{k}" for k in range(6)]
    for k, name in enumerate(names):
        write_video(tmp_path / f"{name}.avi", 20, seed=k)
        writers[k % 2].add(str(tmp_path / f"{name}.avi"))
    assert list(json.loads((out / "extraction.json").read_text())["videos"]) == names
    assert list(json.loads((out / "videos.json").read_text())["database"]) == names
    write_images(tmp_path / "cat" / "v9", [10] * 12)
    write_images(tmp_path / "dog" / "v9", [90] * 12)
    writers[0].add(str(tmp_path / "cat" / "v9"))
    before = steps_of(out, "v9")
    with pytest.raises(InputError, match="another video named v9"):
        writers[1].add(str(tmp_path / "dog" / "v9"))  # which had not seen the first
    assert steps_of(out, "v9") == before
    assert not list(out.rglob(".afsd-*"))
    (tmp_path / "new").mkdir()
    other = FeatureFolder(tmp_path / "new", FeatureExtractor([TinyBackbone()]))
    later = FeatureFolder(tmp_path / "new", FeatureExtractor([TinyBackbone()], sample_fps=10.0))
    later.add(str(tmp_path / "v0.avi"))
    with pytest.raises(InputError, match="were made with sample_fps"):
        other.add(str(tmp_path / "v1.avi"))


def test_a_description_that_is_there_is_not_written_over(tmp_path: Path, rgb: str, capsys: Any) -> None:
    write_video(tmp_path / "a.avi", 20)
    (tmp_path / "videos.json").write_text("my own")
    assert main(["features", str(tmp_path / "a.avi"), "--backbone", rgb, "--out", str(tmp_path)]) == 2
    assert "videos.json: of unknown origin" in told(capsys)[1]
    assert (tmp_path / "videos.json").read_text() == "my own"


def test_a_failed_command_claims_no_folder(tmp_path: Path, rgb: str, capsys: Any) -> None:
    out = ["--out", str(tmp_path / "set")]
    other = str(write_tiny_backbone(tmp_path / "other.onnx", checkpoint_sha256="of others"))
    (tmp_path / "broken.avi").write_bytes(b"no video")
    assert main(["features", str(tmp_path / "broken.avi"), "--backbone", other, *out]) == 2
    write_video(tmp_path / "a.avi", 40)
    assert main(["features", str(tmp_path / "a.avi"), "--backbone", rgb, *out]) == 0
    record = json.loads((tmp_path / "set" / "extraction.json").read_text())
    assert record["settings"]["backbones"][0]["weights_sha256"] != "of others"
    told(capsys)


def test_a_backbone_of_the_other_stream_is_refused(tmp_path: Path, rgb: str, capsys: Any) -> None:
    write_video(tmp_path / "a.avi", 40)
    assert main(["detect", rgb, str(tmp_path / "a.avi"), "--flow-backbone", rgb]) == 2
    error = told(capsys)[1]
    assert "--flow-backbone" in error
    assert "it sees rgb, expected an engine on flow" in error
    assert error.count("\n") == 1


def test_a_video_that_fails_is_told_and_the_others_go_on(tmp_path: Path, rgb: str, capsys: Any) -> None:
    (tmp_path / "0_broken.avi").write_bytes(b"no video")
    write_video(tmp_path / "short.avi", 5)
    out = tmp_path / "set"
    sources = [str(tmp_path / name) for name in ("0_broken.avi", "short.avi")]
    assert main(["features", *sources, "--backbone", rgb, "--out", str(out)]) == 2
    _, error = told(capsys)
    assert "0_broken.avi: not a video" in error
    assert "afsd: warning: short: 5 frames are less than a snippet of 8; the last frame is repeated" in error
    assert read_features(out / "rgb" / "short.npy").shape == (1, 3)
    assert list(json.loads((out / "videos.json").read_text())["database"]) == ["short"]


def test_features_that_cannot_be_written_do_not_end_the_batch(tmp_path: Path, rgb: str, capsys: Any) -> None:
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}.avi", 20)
    out = tmp_path / "set"
    (out / "rgb" / "a.npy" / "in the way").mkdir(parents=True)
    sources = [str(tmp_path / "a.avi"), str(tmp_path / "b.avi")]
    (out / "rgb" / "a.npy").rename(out / "rgb" / "aside")
    assert main(["features", sources[1], "--backbone", rgb, "--out", str(out)]) == 0
    (out / "rgb" / "aside").rename(out / "rgb" / "a.npy")
    (out / "rgb" / "b.npy").unlink()
    assert main(["features", *sources, "--backbone", rgb, "--out", str(out)]) == 2
    assert told(capsys)[1].splitlines()[1:] == ["afsd: 1 of 2 videos failed: a"]
    assert read_features(out / "rgb" / "b.npy").shape == (4, 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no backbone; give --backbone, --flow-backbone, or both"),
        (["--backbone", "RGB", "--sample-fps", "0"], "--sample-fps: got 0.0"),
        (["--backbone", "RGB", "--batch", "0"], "batch_size: got 0, expected 1 … 2147483647"),
        (["--backbone", "none.onnx"], "file not found"),
        (["--flow-backbone", "RGB", "--backbone", "RGB"], "it sees rgb, expected an engine on flow"),
    ],
)
def test_flags_that_do_not_fit(tmp_path: Path, rgb: str, flags: list[str], message: str, capsys: Any) -> None:
    write_video(tmp_path / "a.avi", 20)
    given = [rgb if flag == "RGB" else flag for flag in flags]
    assert main(["features", str(tmp_path / "a.avi"), "--out", str(tmp_path / "set"), *given]) == 2
    assert message in told(capsys)[1]
    assert not (tmp_path / "set" / "rgb").exists()


def test_a_live_source_is_refused(tmp_path: Path, rgb: str, capsys: Any) -> None:
    assert main(["features", "0", "--backbone", rgb, "--out", str(tmp_path / "set")]) == 2
    assert "0: a live source has no end" in told(capsys)[1]


def test_nothing_of_an_interrupted_video_counts(tmp_path: Path) -> None:
    """The second stream fails in the middle: neither file appears, and the next run makes both."""

    class Failing(TinyBackbone):
        def infer(self, inputs: Any) -> dict[str, NDArray[np.float32]]:
            if len(self.batches) == 2:
                raise EngineError("out of memory")
            return super().infer(inputs)

    write_video(tmp_path / "a.avi", 90)
    source, out = str(tmp_path / "a.avi"), tmp_path / "set"
    folder = FeatureFolder(out, FeatureExtractor([TinyBackbone(), Failing("flow")]))
    with pytest.raises(EngineError):
        folder.add(source)
    assert [path for path in out.rglob("*") if path.is_file()] == [out / "extraction.json"]
    both = FeatureFolder(out, FeatureExtractor([TinyBackbone(), TinyBackbone("flow")]))
    name, record, timing = both.add(source)
    assert (name, record.steps, timing is not None) == ("a", 21, True)
    features, _ = open_features(out / "features.json")
    assert features.widths == (3, 2)
    assert both.add(source)[2] is None


def test_a_file_that_grows(tmp_path: Path) -> None:
    """As numpy reads it, at lengths whose numbers have one to five digits; memory is that of one piece."""
    values = np.random.default_rng(0).normal(size=(12345, 6)).astype(np.float32)
    for steps in (0, 1, 99, 12345):
        with grow_npy(tmp_path / "x.npy", (6,), "<f4") as append:
            for first in range(0, steps, 7):
                append(values[first : min(first + 7, steps)])
        np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), values[:steps])

    def pieces(count: int) -> Any:
        with grow_npy(tmp_path / "y.npy", (6,), "<f4") as append:
            for _ in range(count):
                yield append(values[:50])

    peak_memory(pieces(2))
    assert peak_memory(pieces(400)) < 1.5 * peak_memory(pieces(20))
    with (
        pytest.raises(ValueError, match="could not convert"),
        grow_npy(tmp_path / "z.npy", (6,), "<f4") as append,
    ):
        append([["no number"]])  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy", "y.npy"]


def test_detecting_with_backbones_is_detecting_in_their_features(
    tmp_path: Path, rgb: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Both streams, flow computed; the detector's engine alone is none of a file."""
    from runtime.commands import detect
    from runtime.commands.flags import engine
    from runtime.detector import Detector
    from runtime.engines import open_engine
    from runtime.features.video_features import Features

    write_video(tmp_path / "a.avi", 200)
    flow, out = str(write_tiny_backbone(tmp_path / "flow.onnx", "flow")), tmp_path / "set"
    model = MixingModel(feature_model_spec("a2net", width=5))
    opened = lambda path, arguments: model if path == "MODEL" else open_engine(path)  # noqa: E731
    make_parser()  # imports all verbs: one that was imported meanwhile would keep this function
    monkeypatch.setattr(detect, "open_with", opened)
    monkeypatch.setattr(engine, "open_with", opened)
    backbones = ["--backbone", rgb, "--flow-backbone", flow, "--flow-method", "dis"]
    assert main(["features", str(tmp_path / "a.avi"), *backbones, "--out", str(out)]) == 0
    files = [out / stream / "a.npy" for stream in ("rgb", "flow")]
    expected = Detector(model).run(Features(files, fps=25.0))
    told(capsys)
    assert main(["detect", "MODEL", str(tmp_path / "a.avi"), *backbones, "--score", "0", "--json"]) == 0
    entries = json.loads(told(capsys)[0])["results"]["a"]
    assert len(entries) == len(expected) > 0
    assert sorted(e["score"] for e in entries) == pytest.approx(sorted(expected.scores.tolist()))
    shown, wanted = (sorted(map(tuple, rows)) for rows in ([e["segment"] for e in entries], expected.segments.tolist()))
    np.testing.assert_allclose(shown, wanted, atol=2e-3)
    assert main(["detect", "MODEL", str(tmp_path / "a.avi"), "--backbone", rgb]) == 2
    assert "features of 3 channels, the model takes 5" in told(capsys)[1]


def test_making_features_needs_no_torch(tmp_path: Path, rgb: str) -> None:
    write_video(tmp_path / "a.avi", 40)
    arguments = ["features", str(tmp_path / "a.avi"), "--backbone", rgb, "--out", str(tmp_path / "set")]
    script = (
        "import argparse, sys; from runtime.commands.features import add_features; parser = argparse.ArgumentParser(); "
        f"add_features(parser.add_subparsers()); given = parser.parse_args({arguments!r}); given.func(given); "
        "print(sorted({'torch', 'onnx', 'training', 'export'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
