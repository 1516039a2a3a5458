"""Every reader of the project, with valid input for it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime  # noqa: F401 — before children are forked, which would each import it
import openvino  # noqa: F401
import pytest
import torch

from calibration.ranges.table import load_table
from runtime.annotations.ground_truth import load_ground_truth
from runtime.annotations.thumos14 import AMBIGUOUS, CLASS_IDS, KIT_SUFFIX
from runtime.decoding.candidates import Candidates
from runtime.engines import open_engine
from runtime.engines.artifact import read_artifact
from runtime.engines.sidecar import write_sidecar
from runtime.engines.tensorrt.build_facts import EngineBuild
from runtime.exchange.files import read_segments, write_segments
from runtime.exchange.formats import FORMATS
from runtime.exchange.record import Segment, VideoSegments
from runtime.features.feature_set import open_features
from runtime.features.files import read_features
from runtime.live.numbers import SourceNumbers, WatchNumbers
from runtime.metrics.server import MetricsServer
from runtime.results.detections import load_detections
from runtime.results.thumos14 import read_text_detections
from runtime.results.video_scores import load_video_scores
from runtime.spec.model import spec_from_json
from runtime.video.readers.choice import ReaderName
from runtime.video.readers.images import read_image
from runtime.video.sampling import open_frames
from runtime.video.sources import expand_sources
from tests.attack.flags import FLAGS
from tests.attack.mutation import (
    Mutation,
    make_pickle,
    mutate_artifact,
    mutate_bytes,
    mutate_json,
    mutate_text,
)
from tests.attack.sandbox import FoundError, Target
from tests.media import find_ffmpeg, make_media, write_frames
from tests.tiny import tiny_spec, write_tiny_onnx, write_tiny_openvino
from tests.training.feature_data import make_feature_set
from tests.videos import write_video
from training.checkpoints.files import load_checkpoint, read_weights
from training.config.files import CONFIG_FOLDER, config_to_mapping, load_config
from training.cross_validation.kept_candidates import KeptCandidates, VideoCandidates, read_candidates, write_candidates
from training.data.folds import FoldRule, make_folds, read_list
from training.preparation.thumos14 import read_table_files
from training.stores.frame_store import FrameStore, index_arrays

FRAMES = np.random.default_rng(0).integers(0, 256, (1, 16, 8, 10, 3), dtype=np.uint8)
LENGTHS = np.array([16], np.int32)
CLASSES = ("jump", "throw")
CLIPS = (
    "container.mkv", "container.ts", "container.mov", "flash.flv", "animation.gif", "windows.wmv", "program.mpg",
    "hevc.mp4", "vp9.webm", "av1.mp4", "sound_with_cover.mp3", "fragments.mp4", "elementary.h264", "mpeg4_sound.avi",
)  # fmt: skip
"""Recipes of `tests.media`, one for each container and codec."""
LIMIT = 200
"""Frames read of a damaged video, whose header may declare any number."""


def _write(name: str, content: Callable[[], str]) -> Callable[[Path], Sequence[str]]:
    def make(folder: Path) -> Sequence[str]:
        (folder / name).write_text(content(), encoding="utf-8")
        return [name]

    return make


def _annotations() -> str:
    database = {
        f"video_{k}": {
            "subset": "test",
            "duration": 20.0 + k,
            "fps": 25,
            "annotations": [{"label": CLASSES[i % 2], "segment": [i, i + 1.5]} for i in range(k)],
        }
        for k in range(1, 4)
    }
    return json.dumps({"version": "1", "taxonomy": [], "database": database}, indent=1)


def _detections() -> str:
    results = {
        f"video_{k}": [{"label": CLASSES[i % 2], "score": 0.1 * i, "segment": [i, i + 1.5]} for i in range(4)]
        for k in range(3)
    }
    return json.dumps({"version": "1", "results": results, "external_data": {}}, indent=1)


def _infer(path: Path) -> dict[str, Any]:
    """Open an engine file and run it; a damaged one is refused, or finds the same."""
    engine = open_engine(path, device="cpu", threads=1)
    try:
        outputs = engine.infer({"frames": FRAMES, "lengths": LENGTHS})
        return {**outputs, "classes": list(engine.spec.classes), "spec": engine.spec.to_json()}
    finally:
        engine.close()


def _make_onnx(folder: Path) -> Sequence[str]:
    write_tiny_onnx(folder / "model.onnx", tiny_spec())
    return ["model.onnx"]


def _make_openvino(folder: Path) -> Sequence[str]:
    write_tiny_openvino(folder / "model.xml")
    return sorted(path.name for path in folder.iterdir())


def _make_plan(folder: Path) -> Sequence[str]:
    (folder / "model.engine").write_bytes(np.random.default_rng(0).bytes(2000))
    build = EngineBuild("tensorrt", "10.9.0.34", ("8.6",), "fp16", (1, 1, 8), "plugin", "a GPU")
    write_sidecar(folder / "model.engine", tiny_spec(), build)
    return sorted(path.name for path in folder.iterdir())


def _read_plan(folder: Path) -> Any:
    artifact = read_artifact(folder / "model.engine")
    return artifact.spec.to_json(), repr(artifact.build), artifact.weights.read_bytes()


def _make_checkpoint(name: str) -> Callable[[Path], Sequence[str]]:
    def make(folder: Path) -> Sequence[str]:
        import torch

        from tests.training.small import small_config
        from training.checkpoints.files import Checkpoint, save_checkpoint

        torch.manual_seed(0)
        weights = {f"block.{k}.weight": torch.randn(3, 5) for k in range(4)}
        training = {"weights": weights, "progress": {"step": 3}, "optimizer": {"state": {0: torch.ones(3)}}}
        save_checkpoint(Checkpoint(weights, small_config(), ("a", "b"), {"map": 0.5}, training), folder / name)
        return [name]

    return make


def _read_checkpoint(path: Path) -> Any:

    checkpoint = load_checkpoint(path)
    training = repr(checkpoint.training)
    weights = {name: value.numpy() for name, value in checkpoint.weights.items()}
    return weights, config_to_mapping(checkpoint.config), checkpoint.classes, checkpoint.metrics, training


def _make_published(folder: Path) -> Sequence[str]:

    state = {f"backbone.{k}.weight": torch.randn(3, 4) for k in range(3)}
    torch.save({"epoch": 3, "model": state, "optimizer": {}}, folder / "model.pth")
    return ["model.pth"]


def _read_published(folder: Path) -> Any:

    return sorted(read_weights(folder / "model.pth"))


def _make_config(folder: Path) -> Sequence[str]:

    for name in ("synthetic", "a2net_gtea", "two_stage_gtea"):
        shutil.copy(CONFIG_FOLDER / f"{name}.yaml", folder)
    return sorted(path.name for path in folder.iterdir())


def _read_configs(folder: Path) -> Any:

    return [load_config(str(path)) for path in sorted(folder.glob("*.yaml"))]


def _make_array(name: str) -> Callable[[Path], Sequence[str]]:
    def make(folder: Path) -> Sequence[str]:
        array = np.random.default_rng(0).normal(0, 1, (12, 6)).astype(np.float32)
        if name.endswith(".npz"):
            np.savez_compressed(folder / name, features=array)
        else:
            np.save(folder / name, array)
        return [name]

    return make


def _read_array(name: str) -> Callable[[Path], Any]:
    return lambda folder: np.array(read_features(folder / name)).shape


def _make_feature_set(folder: Path) -> Sequence[str]:

    make_feature_set(folder)
    return ["features.json", "annotations.json"]


def _make_kit(folder: Path) -> Sequence[str]:
    for label in [*CLASS_IDS, AMBIGUOUS]:
        (folder / f"{label}{KIT_SUFFIX}").write_text(f"video_test_0000004 0.2 1.1\nvideo_test_0000006 {2.5} 7\n")
    return [f"{label}{KIT_SUFFIX}" for label in [*CLASS_IDS, AMBIGUOUS][:3]]


def _make_tables(folder: Path) -> Sequence[str]:
    with (folder / "val_video_info.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["video", "fps", "sample_fps", "count", "sample_count"], ["video_a", 30, 10, 300, 100]]
        )
    with (folder / "val_Annotation.csv").open("w", newline="") as file:
        rows = [["video", "type", "type_idx", "start", "end", "startFrame", "endFrame"]]
        rows += [["video_a", "BaseballPitch", 7, 1.0 + k, 1.5 + k, 30 + 30 * k, 45 + 30 * k] for k in range(4)]  # type: ignore[list-item]
        csv.writer(file).writerows(rows)
    return ["val_video_info.csv", "val_Annotation.csv"]


def _read_tables(folder: Path) -> Any:

    return read_table_files(folder / "val_video_info.csv", folder / "val_Annotation.csv")


def _make_store(folder: Path) -> Sequence[str]:

    for k in range(2):
        np.save(folder / f"video_{k}.npy", np.zeros((6, 12, 12, 3), np.uint8))
    index_arrays(folder, sample_fps=10.0, frame_size=12)
    return ["index.json", "video_0.npy"]


def _read_store(folder: Path) -> Any:

    store = FrameStore(folder)
    return [store[name].sum() for name in store.videos]


def _make_folds(folder: Path) -> Sequence[str]:
    database = {f"g{k}_v{v}": {"duration": 5.0, "annotations": []} for k in range(3) for v in range(3)}
    splits = {"a": {"train": [*database][:6], "test": [*database][6:]}}
    (folder / "annotations.json").write_text(json.dumps({"database": database, "splits": splits}))
    (folder / "train.txt").write_text("\n".join([*database][:6]))
    return ["annotations.json", "train.txt"]


def _read_folds(folder: Path) -> Any:

    return read_list(folder / "train.txt"), make_folds(folder / "annotations.json", FoldRule("splits"))


def _make_table(folder: Path) -> Sequence[str]:
    point = {
        "tensors": ["x"], "layers": ["conv"], "low": -0.01, "high": 0.03, "bin_width": 0.01, "first_bin": -1,
        "counts": [1, 2, 3, 4],
    }  # fmt: skip
    content = {
        "network_sha256": "0" * 64, "equalised": False, "seed": 0, "clips": [], "clips_sha256": "", "videos": {},
        "points": {"point_0": point, "point_1": point},
    }  # fmt: skip
    (folder / "table.json").write_text(json.dumps(content))
    load_table(folder / "table.json")
    return ["table.json"]


def _read_table(folder: Path) -> Any:

    table = load_table(folder / "table.json")
    return {name: point.histogram for name, point in table.points.items()}


def _make_candidates(folder: Path) -> Sequence[str]:

    found = Candidates(np.array([[0.0, 1.0], [2, 4]]), np.zeros(2, np.int32), np.array([0.5, 0.25]))
    video = VideoCandidates("x", 0.0, 9.0, 0.5, found, np.zeros(2, np.int8), np.zeros(2, np.int64))
    write_candidates(folder / "kept.npz", KeptCandidates(tiny_spec(), (video,)))
    return ["kept.npz"]


def _read_candidates(folder: Path) -> Any:

    return [len(video.offsets) for video in read_candidates(folder / "kept.npz").videos]


def _make_videos(folder: Path) -> Sequence[str]:
    """Write clips of 1.2 s: those that OpenCV writes, and, where FFmpeg is, other containers with sound and pauses."""
    names = ["a.mp4", "b.avi"]
    for name in names:
        write_video(folder / name, frames=12)

    try:
        find_ffmpeg()
    except pytest.skip.Exception:
        return names
    write_frames(folder / "frames.rgb")
    for name in CLIPS:
        make_media(name, folder / "frames.rgb", folder)
        names.append(name)
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()
    return names


def _read_videos(reader: ReaderName) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        counts = []
        changed = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)  # the attack's
        for path in [changed]:
            with open_frames(path, 10.0, reader=reader, allow_truncated=len(path.name) % 2 == 0) as stream:
                for number, _ in enumerate(stream):
                    if number == LIMIT:
                        break
                counts.append(stream.name)
        return counts

    return read


def _make_images(folder: Path) -> Sequence[str]:
    rng = np.random.default_rng(0)
    for k, suffix in enumerate((".png", ".jpg", ".bmp", ".webp", ".tif")):
        image = rng.integers(0, 256, (24, 32, 3), np.uint8)
        cv2.imwrite(str(folder / f"frame_{k:03}{suffix}"), image)
    return sorted(path.name for path in folder.iterdir())


def _read_images(folder: Path) -> Any:

    changed = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return read_image(changed).shape


def _make_list(folder: Path) -> Sequence[str]:
    (folder / "a.mp4").write_bytes(b"x")
    (folder / "list.txt").write_text("a.mp4\n# comment\nrtsp://user:secret@host:554/x\n3\n*.mp4\n")
    return ["list.txt"]


def _make_pickle_file(folder: Path) -> Sequence[str]:
    (folder / "model.pth").write_bytes(b"\x80\x02}.")
    return ["model.pth"]


def _make_spec(folder: Path) -> Sequence[str]:
    (folder / "spec.json").write_text(tiny_spec().to_json())
    return ["spec.json"]


def _make_text_detections(folder: Path) -> Sequence[str]:
    (folder / "found.txt").write_text("video_test_0000004 0.2 1.1 7 0.9\nvideo_test_0000006 2.5 7 9 0.5\n")
    return ["found.txt"]


def _make_scores(folder: Path) -> Sequence[str]:
    (folder / "scores.json").write_text(json.dumps({"results": {"a": [0.1, 0.9]}, "class": ["x", "y"]}))
    return ["scores.json"]


def _make_csv(folder: Path) -> Sequence[str]:
    (folder / "truth.csv").write_text("video,type,start,end\nvideo_a,Diving,1.0,2.5\nvideo_b,Billiards,0,9\n")
    return ["truth.csv"]


def _make_safetensors(folder: Path) -> Sequence[str]:
    return _make_checkpoint("model.safetensors")(folder)


class _Watched:
    """A watch whose metrics are served."""

    def numbers(self) -> WatchNumbers:
        camera = SourceNumbers("camera", True, True, *range(9), 0.5, 0.25, {"jump": 1})
        return WatchNumbers((camera,), {"read": 1.0}, True, 0.25)

    def health(self) -> tuple[bool, dict[str, Any]]:
        return True, {"ok": True}


_SERVERS: dict[int, MetricsServer] = {}
"""Server of this process, by its number."""


def _ask(folder: Path) -> Any:
    """Send the requests to a server, then ask for its health (FoundError: it does not answer as it should)."""
    if os.getpid() not in _SERVERS:
        _SERVERS[os.getpid()] = MetricsServer(_Watched(), ("127.0.0.1", 0))
    port = int(_SERVERS[os.getpid()].address.rpartition(":")[2])
    answer = _exchange(port, (folder / "request").read_bytes())
    starts = b"HTTP/1.", b"expected /metrics", b"# HELP", b'{"ok"'  # HTTP 0.9 has no header
    if answer and not answer.startswith(starts) and b"Error code" not in answer:
        raise FoundError(f"answered {answer[:80]!r}")
    if b"Traceback" in answer or str(folder).encode() in answer:
        raise FoundError(f"answered {answer[:200]!r}")
    if not _exchange(port, b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200"):
        raise FoundError("no longer answers")
    return len(answer)


def _exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        answer = b""
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        except OSError:  # the server has closed before it read all
            pass
        return answer


def _make_request(folder: Path) -> Sequence[str]:
    accept = "application/openmetrics-text; version=1.0.0; escaping=underscores"
    request = (
        f"GET /metrics HTTP/1.1\r\nHost: camera\r\nAccept: {accept}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    (folder / "request").write_text(request)
    return ["request"]


def _make_tools(folder: Path) -> Sequence[str]:
    segments = (Segment(1.0, 2.0, "Diving", 0.5), Segment(1.5, 3.0, "Diving", 0.25))
    video = VideoSegments("v", segments, "v.mp4", 9.0, 25.0, (64, 48), "test")
    for name, format in FORMATS.items():
        if name not in ("actionformer", "thumos14"):  # no detections, and a folder, which the kit's target attacks
            write_segments(folder / f"{name}{format.suffix}", [video], name)
    return sorted(path.name for path in folder.iterdir())


def _read_tools(folder: Path) -> Any:
    changed = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)  # the attack's
    return read_segments(changed, fps=25.0)


def _mutate_tools(data: bytes, rng: Any) -> bytes:
    is_lines = len(data.splitlines()) > 1 and all(line[:1] == b"{" for line in data.splitlines())  # JSON, a line each
    is_json = data[:1] in (b"{", b"[") and not is_lines and rng.random() < 0.7
    return mutate_json(data, rng) if is_json else _any(mutate_text, mutate_bytes)(data, rng)


def _json_artifact(data: bytes, rng: Any) -> bytes:
    return mutate_json(data, rng) if data[:1] == b"{" and rng.random() < 0.5 else mutate_artifact(data, rng)


def _any(*mutations: Mutation) -> Mutation:
    return lambda data, rng: rng.choice(mutations)(data, rng)


def _target(name: str, make: Any, read: Any, mutate: Mutation, *modules: str, artifact: bool = False) -> Target:
    root = Path(__file__).resolve().parents[2]
    return Target(name, make, read, mutate, tuple(str(root / module) for module in modules), artifact)


TARGETS: tuple[Target, ...] = (
    _target("ONNX model", _make_onnx, lambda f: _infer(f / "model.onnx"), mutate_artifact,
            "runtime/engines/*.py", "runtime/engines/onnx/*.py", "runtime/spec/*.py", artifact=True),
    _target("OpenVINO model", _make_openvino, lambda f: _infer(f / "model.xml"), mutate_artifact,
            "runtime/engines/*.py", "runtime/engines/openvino/*.py", "runtime/spec/*.py", artifact=True),
    _target("TensorRT sidecar", _make_plan, _read_plan, _json_artifact,
            "runtime/engines/sidecar.py", "runtime/spec/*.py", artifact=True),
    _target("checkpoint", _make_checkpoint("model.ckpt"), lambda f: _read_checkpoint(f / "model.ckpt"),
            mutate_artifact, "training/checkpoints/*.py", artifact=True),
    _target("safetensors", _make_safetensors, lambda f: _read_checkpoint(f / "model.safetensors"), mutate_artifact,
            "training/checkpoints/*.py", artifact=True),
    _target("published weights", _make_published, _read_published, mutate_bytes, "training/checkpoints/*.py"),
    _target("hostile pickle", _make_pickle_file, _read_published, make_pickle, "training/checkpoints/*.py"),
    _target("model spec", _make_spec, lambda f: spec_from_json((f / "spec.json").read_text(errors="replace"), "x"),
            mutate_json, "runtime/spec/*.py", "runtime/common/mappings.py"),
    _target("configuration", _make_config, _read_configs, mutate_text, "training/config/*.py"),
    _target("annotations", _write("truth.json", _annotations), lambda f: load_ground_truth(f / "truth.json", ""),
            mutate_json, "runtime/annotations/*.py"),
    _target("kit annotations", _make_kit, load_ground_truth, mutate_text, "runtime/annotations/thumos14.py"),
    _target("annotation table", _make_csv, lambda f: load_ground_truth(f / "truth.csv"), mutate_text,
            "runtime/annotations/thumos14.py"),
    _target("preparation tables", _make_tables, _read_tables, mutate_text, "training/preparation/thumos14.py"),
    _target("detections", _write("found.json", _detections), lambda f: load_detections(f / "found.json"), mutate_json,
            "runtime/results/detections.py"),
    _target("text detections", _make_text_detections, lambda f: read_text_detections(f / "found.txt"), mutate_text,
            "runtime/results/thumos14.py"),
    _target("video scores", _make_scores, lambda f: load_video_scores(f / "scores.json"), mutate_json,
            "runtime/results/video_scores.py"),
    _target("features .npy", _make_array("a.npy"), _read_array("a.npy"), _any(mutate_bytes, mutate_text),
            "runtime/features/files.py", "runtime/features/axes.py"),
    _target("features .npz", _make_array("a.npz"), _read_array("a.npz"), mutate_bytes, "runtime/features/files.py"),
    _target("feature set", _make_feature_set, lambda f: open_features(f / "features.json"), mutate_json,
            "runtime/features/feature_set.py", "runtime/features/description.py", "runtime/features/scan.py"),
    _target("frame store", _make_store, _read_store, _any(mutate_bytes, mutate_text), "training/stores/frame_store.py"),
    _target("folds", _make_folds, _read_folds, _any(mutate_bytes, mutate_text), "training/data/folds.py"),
    _target("range table", _make_table, _read_table, mutate_json, "calibration/ranges/table.py"),
    _target("kept candidates", _make_candidates, _read_candidates, mutate_bytes,
            "training/cross_validation/kept_candidates.py"),
    _target("videos by PyAV", _make_videos, _read_videos("pyav"), mutate_bytes,
            "runtime/video/readers/pyav.py", "runtime/video/readers/clock.py", "runtime/video/sampling.py"),
    _target("videos by OpenCV", _make_videos, _read_videos("opencv"), mutate_bytes,
            "runtime/video/readers/opencv.py", "runtime/video/readers/clock.py", "runtime/video/sampling.py"),
    _target("images", _make_images, _read_images, mutate_bytes, "runtime/video/readers/images.py"),
    _target("list of sources", _make_list, lambda f: expand_sources(["@list.txt"]), mutate_text,
            "runtime/video/sources.py"),
    _target("requests for metrics", _make_request, _ask, _any(mutate_bytes, mutate_text),
            "runtime/metrics/server.py", "runtime/metrics/exposition.py"),
    *FLAGS,
    _target("files of tools", _make_tools, _read_tools, _mutate_tools, "runtime/exchange/*.py"),
)  # fmt: skip
"""All readers, by the kind of what they read."""
