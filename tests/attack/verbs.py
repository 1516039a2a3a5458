"""The commands that are attacked, on networks and videos so small that one takes about a second."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Verb:
    """Describes a command under attack. Its folder holds `given`, never written to, and `out`."""

    fill: Callable[[Path], None]
    """Fills `given` and what `out` has at first; run in a child."""
    words: Callable[[Path], list[str]]
    """Returns the words of the command."""
    imports: tuple[str, ...] = ("runtime.detector", "onnxruntime", "cv2", "av")
    """Modules to import before the first fork."""
    again: Callable[[Path], list[str]] | None = None
    """Returns the words of the command that goes on after a kill; None: the same."""
    patch: Callable[[], None] = lambda: None
    """Is called in each child before the command."""
    check: Callable[[Path], None] | None = None
    """Raises an error if what lies in `out` after a kill, before the command is run again, is not usable; run in a
    child."""
    vary: tuple[str, ...] = ()
    """Ends of the names of files that differ from run to run, and are checked by `check` alone."""
    lost: Callable[[Path], float] | None = None
    """Returns how much of the work in `out` a run after the kill would do again."""
    unit: str = "videos"
    """Unit of the work that is lost."""


def make_videos(folder: Path, count: int = 3) -> list[Path]:
    from tests.videos import write_video

    folder.mkdir(parents=True)
    return [write_video(folder / f"v{k}.avi", frames=40, level=60 + 50 * k, speed=1.0 + k) for k in range(count)]


def _fill_detect(work: Path) -> None:
    from tests.tiny import write_tiny_onnx

    write_tiny_onnx(work / "given" / "tiny.onnx", None)
    make_videos(work / "given" / "videos")


def _detect(work: Path) -> list[str]:
    given = work / "given"
    formats = ["--format", "json", "csv", "srt", "vtt", "png"]
    return ["detect", str(given / "tiny.onnx"), str(given / "videos"), "--out", str(work / "out"), *formats]


def _videos_unrecorded(out: Path) -> float:
    """Count the videos whose files are written but not recorded, so that they will be done again."""
    from runtime.jobs.records import RecordFolder

    return float(len({path.stem for path in out.glob("v*.*")} - set(RecordFolder(out).names())))


def _fill_clips(work: Path) -> None:
    make_videos(work / "given" / "videos")
    one = [{"label": "jump", "score": 0.9, "segment": [start, start + 0.5]} for start in (0.2, 0.6, 2.5)]
    (work / "given" / "found.json").write_text(json.dumps({"results": {f"v{k}": one for k in range(3)}}))


def _clips(work: Path) -> list[str]:
    given = work / "given"
    words = [str(given / "found.json"), "--videos", str(given / "videos"), "--out", str(work / "out")]
    return ["clips", *words, "--exact"]


def fill_features(work: Path) -> None:
    from tests.tiny_backbone import write_tiny_backbone

    write_tiny_backbone(work / "given" / "rgb.onnx")
    make_videos(work / "given" / "videos")


def _features(work: Path) -> list[str]:
    given = work / "given"
    return [
        "features",
        str(given / "videos"),
        "--backbone",
        str(given / "rgb.onnx"),
        "--out",
        str(work / "out" / "set"),
    ]


def _unrecorded(folder: Path, index: str, key: str) -> float:
    """Count the arrays that are written but not in the index, so that they will be made again."""
    known: set[str] = set()
    if (folder / index).exists():
        known = set(json.loads((folder / index).read_text())[key])
    return float(len({path.stem for path in folder.rglob("*.npy") if not path.name.startswith(".")} - known))


def fill_prepare(work: Path) -> None:
    files = make_videos(work / "out" / "videos")
    entry = {"subset": "training", "annotations": [{"label": "a", "segment": [0.5, 2.0]}]}
    (work / "out" / "annotations.json").write_text(json.dumps({"database": {path.stem: entry for path in files}}))
    for path in files:
        os.utime(path, (10**9, 10**9))


def _prepare(work: Path) -> list[str]:
    flags = ["--size", "20", "--workers", "1", "--streams", "rgb", "flow", "--flow-method", "dis"]
    return ["prepare", "own", str(work / "out"), *flags]


def _fill_model(work: Path) -> None:
    """A small network as checkpoint and as ONNX file; AFSD_ATTACK_NETWORK: folder in which it lies already."""
    if made := os.environ.get("AFSD_ATTACK_NETWORK"):
        for name in ("small.ckpt", "small.onnx"):
            shutil.copy(Path(made) / name, work / "given" / name)
        return
    import torch

    from export.to_onnx import export_onnx
    from tests.training.small import save_small

    torch.manual_seed(0)
    export_onnx(save_small(work / "given" / "small.ckpt"))


def _scale_weight(work: Path, factor: float) -> None:
    """Make another network of the checkpoint and the ONNX file: tracing a second one takes a quarter of a minute."""
    import onnx

    from export.graph.files import save_graph
    from training.checkpoints.files import load_checkpoint, save_checkpoint

    given, name = work / "given", "coarse_pyramid_detection.loc_tower.0.0.conv1d.weight"
    checkpoint, graph = load_checkpoint(given / "small.ckpt"), onnx.load(given / "small.onnx")
    checkpoint.weights[name].mul_(factor)
    (weight,) = (w for w in graph.graph.initializer if w.name.endswith(name))
    weight.CopyFrom(onnx.numpy_helper.from_array(checkpoint.weights[name].numpy(), weight.name))
    save_checkpoint(checkpoint, given / "small.ckpt")
    save_graph(graph, given / "small.onnx")


def _fill_calibrate(work: Path) -> None:
    """Fill `out` with a calibration on other clips, which must stay whole, or change as one."""
    from runtime.cli import main

    _fill_model(work)
    make_videos(work / "given" / "videos")
    if main([*_calibrate(work), "--seed", "7"]):
        raise SystemExit("no older calibration")


def _calibrate(work: Path) -> list[str]:
    given = work / "given"
    files = [str(given / "small.onnx"), "--videos", str(given / "videos"), "-o", str(work / "out" / "small.int8.onnx")]
    return ["calibrate", *files, "--clips", "4"]


def _check_calibrated(out: Path) -> None:
    """Require that the report and the table of ranges beside a network, where there is one, are its own."""
    import json

    from calibration.ranges.table import load_table
    from export.comparison.quantisation import find_report
    from runtime.common.files import file_sha256
    from runtime.engines.artifact import read_artifact
    from runtime.engines.two_files import staged_path

    network = out / "small.int8.onnx"
    if not network.exists():
        return
    sha256 = file_sha256(network)
    assert json.loads(find_report(network, sha256).read_text())["sha256"] == sha256
    table = out / f"{network.name}.ranges.json"
    staged = staged_path(table, sha256)
    quantised = read_artifact(network).spec.quantization
    assert quantised is not None
    assert load_table(staged if staged.exists() else table).sha256 == quantised.table_sha256


def _cache_graph() -> None:
    """Take the traced graph from a file: tracing takes seconds in which no file is touched."""
    import onnx

    from export.graph import export_input

    export_input.to_graph = lambda *_: onnx.load("given/small.onnx")  # type: ignore[attr-defined]


def _cache_plan() -> None:
    """Take what the builder made of a graph from a file: it builds for seconds in which no file of ours is touched."""
    import hashlib

    from export.trt import build, worker

    run, made = build._run, (worker.PLAN, worker.RESULT, worker.LOG)

    def run_once(folder: Path, say: Callable[[str], None]) -> tuple[int, str]:
        kept = Path("given") / f"plan-{hashlib.sha256((folder / worker.GRAPH).read_bytes()).hexdigest()[:16]}"
        if not kept.is_dir():
            status, message = run(folder, say)
            if status:
                return status, message
            unfinished = Path(f"{kept}.{os.getpid()}")
            unfinished.mkdir()
            for name in made:
                shutil.copyfile(folder / name, unfinished / name)
            unfinished.rename(kept)
        for name in made:
            shutil.copyfile(kept / name, folder / name)
        return 0, ""

    build._run = run_once


def _export(to: str, source: str, name: str, *flags: str) -> Verb:
    def words(work: Path) -> list[str]:
        return ["export", str(work / "given" / source), "--to", to, "-o", str(work / "out" / name), *flags]

    def fill(work: Path) -> None:
        """Fill `out` with an artifact of another network, which must stay whole, or change as one."""
        from export.graph import export_input
        from runtime.cli import main

        _fill_model(work)
        _scale_weight(work, 2.0)
        trace = export_input.to_graph
        if source.endswith(".ckpt"):
            _cache_graph()
        if main(words(work)):
            raise SystemExit("no older artifact")
        export_input.to_graph = trace
        _scale_weight(work, 0.5)

    imports = ("torch", "onnx", "onnxruntime", "export.to_onnx", "export.to_openvino", "export.to_precision")
    imports += {"openvino": ("openvino",), "tensorrt": ("export.to_trt",)}.get(to, ())
    patch = _cache_graph if source.endswith(".ckpt") else _cache_plan if to == "tensorrt" else lambda: None
    return Verb(
        fill, words, imports, patch=patch,
        check=lambda out: _open(out / name), unit="artifacts",
        vary=(".log", ".report.json", ".engine", ".json") if to == "tensorrt" else (".xml", ".bin", ".json"),
    )  # fmt: skip


def _open(path: Path) -> None:
    if path.suffix == ".engine":  # no GPU: the digests are what can be checked
        from runtime.engines.artifact import read_artifact

        read_artifact(path)
    else:
        from runtime.engines import open_engine

        open_engine(path).close()


def _fill_train(work: Path) -> None:
    from tests.training.feature_data import make_feature_set

    make_feature_set(work / "given" / "set")


def _train(work: Path) -> list[str]:
    from tests.training.feature_data import NETWORKS, SMALL

    settings = [f"data.root={work / 'given' / 'set'}", "data.fold=b", *SMALL, *NETWORKS["a2net_gtea"]]
    settings += ["optimiser.epochs=3", "run.save_minutes=0.001"]
    return ["train", "a2net_gtea", "--out", str(work / "out" / "run"), *(w for s in settings for w in ("--set", s))]


def _resume(work: Path) -> list[str]:
    last = work / "out" / "run" / "last.ckpt"
    return [*_train(work), *(["--resume", str(last)] if last.exists() else [])]


def _steps_lost(out: Path) -> float:
    """Return the number of optimiser steps in the log beyond the last checkpoint."""
    import csv

    import torch

    log, last = out / "run" / "metrics.csv", out / "run" / "last.ckpt"
    done = 0
    if log.exists():
        with log.open(newline="") as file:
            done = max((int(row["step"]) for row in csv.DictReader(file)), default=0)
    saved = torch.load(last, weights_only=True)["training"]["progress"]["step"] if last.exists() else 0
    return float(done - saved)


VERBS: dict[str, Verb] = {
    "detect": Verb(_fill_detect, _detect, lost=_videos_unrecorded),
    "clips": Verb(_fill_clips, _clips, ("runtime.clips.cutting", "runtime.exchange.files", "cv2", "av")),
    "features": Verb(
        fill_features, _features, lost=lambda out: _unrecorded(out / "set", "extraction.json", "videos")
    ),
    "prepare": Verb(
        fill_prepare, _prepare, ("training.preparation.prepare", "tqdm", "av"),
        lost=lambda out: max(_unrecorded(out / store, "index.json", "videos") for store in ("frames", "flow")),
    ),
    "train": Verb(
        _fill_train, _train, ("torch", "training.run", "training.commands.train"), _resume,
        lost=_steps_lost, unit="optimiser steps",
    ),
    "calibrate": Verb(
        _fill_calibrate, _calibrate, ("torch", "onnx", "onnxruntime", "calibration.calibrate"),
        check=_check_calibrated, unit="networks",
    ),
    "export-onnx": _export("onnx", "small.ckpt", "small.onnx"),
    "export-openvino": _export("openvino", "small.onnx", "small.xml"),
    "export-tensorrt": _export("tensorrt", "small.onnx", "small.engine", "--library", "tensorrt-rtx", "--sm", "86"),
    "export-tensorrt-stream": _export(
        "tensorrt", "small.onnx", "small.stream.engine", "--stream", "--library", "tensorrt-rtx", "--sm", "86"
    ),
}  # fmt: skip
"""Commands under attack."""
