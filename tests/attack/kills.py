"""Kill commands at random moments, run them again, and compare with an undisturbed run.

    python -m tests.attack.kills --verb train detect --kills 200 --seed 1 [--signal TERM]

Heavy libraries are imported once, in a process that forks a child for each command. Half of the kills fall at a random
time, half before a random operation on a file (open for writing, rename, removal, synchronisation).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.common.temporaries import NAME

LIMIT_S = 120.0
"""Seconds after which a command counts as hung."""
STOP_S = 2.0
"""Seconds in which a command that gets SIGTERM must end."""
FILE_EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
HUNG = -1


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


@dataclass
class Figures:
    """Counts what the kills of one verb did."""

    kills: int = 0
    after_end: int = 0
    """Kills that came too late."""
    bad: list[str] = field(default_factory=list)
    """Files that were neither the old nor the new ones after a kill, or could not be used."""
    different: list[str] = field(default_factory=list)
    """Files that differ from an undisturbed run's after the command was run again."""
    slow: list[str] = field(default_factory=list)
    """Commands that hung, failed when run again, or took too long to end at SIGTERM."""
    left: list[str] = field(default_factory=list)
    """Temporary files that were left after the next run."""
    lost: float = 0.0
    unit: str = ""
    seconds: float = 0.0

    def line(self, verb: str) -> str:
        """Format the figures."""
        return (
            f"{verb:<16} kills {self.kills:4} (late {self.after_end:3})  files bad {len(self.bad)}  "
            f"other results {len(self.different)}  work lost at most {self.lost:g} {self.unit}  "
            f"temporary files {len(self.left)}  slow or failed {len(self.slow)}  "
            f"{self.seconds / max(self.kills, 1):.2f} s per kill"
        )

    @property
    def faults(self) -> list[str]:
        return [*self.bad, *self.different, *self.slow, *self.left]


def attack(name: str, kills: int, seed: int, number: int = signal.SIGKILL) -> Figures:
    """Kill one verb `kills` times; what happens depends on the seed, as far as the machine's speed allows."""
    verb, rng = VERBS[name], random.Random(f"{name} {seed}")
    for module in verb.imports:
        importlib.import_module(module)
    place = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        return _Attack(verb, place, rng, number).run(kills)
    finally:
        shutil.rmtree(place, ignore_errors=True)


class _Attack:
    def __init__(self, verb: Verb, place: Path, rng: random.Random, number: int) -> None:
        self.verb, self.place, self.rng, self.number = verb, place, rng, number
        self.work = place / "work"
        self.figures = Figures(unit=verb.unit)

    def run(self, kills: int) -> Figures:
        verb, figures = self.verb, self.figures
        (self.work / "out").mkdir(parents=True)
        (self.work / "given").mkdir()
        self._require(self._child(lambda: verb.fill(self.work)), "cannot be set up")
        (self.work / "out").rename(self.place / "first")
        old = fingerprints(self.place / "first")
        results, times, operations = [], [], 0
        for _ in range(2):  # twice, to know what differs by itself
            self._reset()
            began = time.monotonic()
            self._require(self._command(verb.words, count=True), "fails undisturbed")
            times.append(time.monotonic() - began)
            operations = int((self.place / "operations").read_text())
            results.append(fingerprints(self.work / "out"))
        new = results[1]
        varying = {path for path in new if path.endswith(verb.vary)} if verb.vary else set()
        unsteady = {path for path in new if results[0].get(path) != new[path]} - varying
        if unsteady or results[0].keys() != new.keys():
            raise SystemExit(f"two undisturbed runs differ in {sorted(unsteady)}")
        began = time.monotonic()
        for k in range(kills):
            self._reset()
            self._kill(times[1], operations if k % 2 else 0)
            self._look(old, new, varying)
        figures.kills, figures.seconds = kills, time.monotonic() - began
        return figures

    def _kill(self, seconds: float, operations: int) -> None:
        """Run the command until it is killed, before one of its `operations` on files or after some of the seconds."""
        at = self.rng.randrange(1, operations + 1) if operations else 0
        child = self._start(self.verb.words, at)
        began = time.monotonic()
        if not at:
            time.sleep(self.rng.uniform(0, seconds))
            began = time.monotonic()
            os.kill(child, self.number)
        status = _wait(child)
        if self.number == signal.SIGKILL or at:
            expected: tuple[int, ...] = (-self.number, 128 + self.number)
        else:
            expected = (128 + self.number, -self.number)  # before the command begins, the signal kills
        if status == 0:
            self.figures.after_end += 1
        elif status not in expected:
            self.figures.slow.append(f"ended with {status}: {self._said()}")
        elif self.number != signal.SIGKILL and not at and time.monotonic() - began > STOP_S:
            self.figures.slow.append(f"took {time.monotonic() - began:.1f} s to end")

    def _look(self, old: dict[str, str], new: dict[str, str], varying: set[str]) -> None:
        """Look at what the kill left, run the command again, and compare."""
        verb, figures, out = self.verb, self.figures, self.work / "out"
        there = fingerprints(out)
        figures.bad += [f"{path}: cannot be read" for path, content in there.items() if content == UNREADABLE]
        if verb.check is not None and self._child(lambda: verb.check and verb.check(out)) != 0:
            figures.bad.append(f"not usable: {self._said()}")
        before = verb.lost(out) if verb.lost is not None else 0.0
        figures.lost = max(figures.lost, before)
        gone = [path for path in old if path not in there and path not in varying]
        figures.bad += [f"{path}: gone" for path in gone]
        status = self._command(verb.again or verb.words)
        if status != 0:
            figures.slow.append(f"run again, ended with {status}: {self._said()}")
            return
        after = fingerprints(out)
        paths = (after.keys() | new.keys()) - varying
        figures.different += [path for path in paths if after.get(path) != new.get(path)]
        hidden = [path for path in out.rglob(".*") if path.name != "." and (NAME.fullmatch(path.name) or True)]
        figures.left += [str(path.relative_to(out)) for path in hidden]

    def _reset(self) -> None:
        shutil.rmtree(self.work / "out", ignore_errors=True)
        shutil.copytree(self.place / "first", self.work / "out")

    def _command(self, words: Callable[[Path], list[str]], count: bool = False) -> int:
        return _wait(self._start(words, count=count))

    def _start(self, words: Callable[[Path], list[str]], at: int = 0, count: bool = False) -> int:
        """Start a command in a child that ends before its operation number `at` on files; 0: never."""

        def run() -> int:
            from runtime.cli import main

            self.verb.patch()
            watched = _watch_files(self.work, at, self.number)
            status = main(words(self.work))
            if count:
                (self.place / "operations").write_text(str(watched()))
            return status

        return self._fork(run)

    def _child(self, work: Callable[[], object]) -> int:
        def run() -> int:
            work()
            return 0

        return _wait(self._fork(run))

    def _fork(self, run: Callable[[], int]) -> int:
        """Run a function in a forked child, which ends with what it returns; what it prints is kept for messages."""
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child:
            return child
        status = 99
        try:
            said = os.open(self.place / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            sys.stdout, sys.stderr = (open(k, "w", buffering=1, closefd=False) for k in (1, 2))  # noqa: SIM115
            os.chdir(self.work)
            status = run()
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 98
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)

    def _said(self) -> str:
        lines = (self.place / "said").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "nothing"

    def _require(self, status: int, what: str) -> None:
        if status:
            raise SystemExit(f"{what}, status {status}:\n{(self.place / 'said').read_text(errors='replace')}")


def _wait(child: int) -> int:
    """Wait for a child and return its exit status, or minus the signal that ended it; kill it if it hangs."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return HUNG


def _watch_files(folder: Path, at: int, number: int) -> Callable[[], int]:
    """Count this process's operations on files below a folder, and send it a signal before number `at`."""
    count, inside = 0, str(folder)

    def step() -> None:
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), number)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes, os.PathLike)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                name = os.fsdecode(path)
                if name.startswith(inside) or not name.startswith("/"):
                    step()
        elif event in FILE_EVENTS:
            step()

    fsync = os.fsync

    def synchronise(descriptor: int) -> None:
        step()
        fsync(descriptor)

    sys.addaudithook(audit)
    os.fsync = synchronise  # type: ignore[assignment]
    return lambda: count


UNREADABLE = "unreadable"


def fingerprints(folder: Path) -> dict[str, str]:
    """Map the files below a folder, without temporary ones, to what of their content is the same in every run."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not any(part.startswith(".") for part in Path(name).parts) and "tensorboard" not in name:
            try:
                found[name] = _fingerprint(path)
            except Exception as error:  # half a file
                print(f"{path}: {error!r}", file=sys.stderr)
                found[name] = UNREADABLE
    return found


def _fingerprint(path: Path) -> str:
    if path.name == "metrics.csv":
        import csv

        with path.open(newline="") as file:
            rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
        return _digest(json.dumps(rows).encode())
    if path.suffix == ".ckpt":
        return _digest(repr(sorted(_flatten_checkpoint(path))).encode())
    if path.suffix == ".json":
        json.loads(path.read_bytes())
    return _digest(path.read_bytes())


def _flatten_checkpoint(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the entries of a checkpoint, tensors as digests, without wall times."""
    import torch

    def walk(name: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, torch.Tensor):
            yield name, _digest(value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key, entry in value.items():
                if key not in ("seconds", "sha256", "digest"):
                    yield from walk(f"{name}/{key}", entry)
        elif isinstance(value, (list, tuple)) and len(value) < 100:
            for key, entry in enumerate(value):
                yield from walk(f"{name}/{key}", entry)
        else:
            yield name, repr(value)

    yield from walk("", torch.load(path, map_location="cpu", weights_only=True))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _videos(folder: Path, count: int = 3) -> list[Path]:
    from tests.videos import write_video

    folder.mkdir(parents=True)
    return [write_video(folder / f"v{k}.avi", frames=40, level=60 + 50 * k, speed=1.0 + k) for k in range(count)]


def _fill_detect(work: Path) -> None:
    from tests.tiny import write_tiny_onnx

    write_tiny_onnx(work / "given" / "tiny.onnx", None)
    _videos(work / "given" / "videos")


def _detect(work: Path) -> list[str]:
    given = work / "given"
    formats = ["--format", "json", "csv", "srt", "vtt", "png"]
    return ["detect", str(given / "tiny.onnx"), str(given / "videos"), "--out", str(work / "out"), *formats]


def _fill_features(work: Path) -> None:
    from tests.tiny_backbone import write_tiny_backbone

    write_tiny_backbone(work / "given" / "rgb.onnx")
    _videos(work / "given" / "videos")


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


def _fill_prepare(work: Path) -> None:
    files = _videos(work / "out" / "videos")
    entry = {"subset": "training", "annotations": [{"label": "a", "segment": [0.5, 2.0]}]}
    (work / "out" / "annotations.json").write_text(json.dumps({"database": {path.stem: entry for path in files}}))
    for path in files:
        os.utime(path, (10**9, 10**9))


def _prepare(work: Path) -> list[str]:
    flags = ["--size", "20", "--workers", "1", "--streams", "rgb", "flow", "--flow-method", "dis"]
    return ["prepare", "own", str(work / "out"), *flags]


def _fill_model(work: Path) -> None:
    """A small network as checkpoint and as ONNX file."""
    import torch

    from export.to_onnx import export_onnx
    from tests.training.small import save_small

    torch.manual_seed(0)
    export_onnx(save_small(work / "given" / "small.ckpt"))


def _fill_calibrate(work: Path) -> None:
    _fill_model(work)
    _videos(work / "given" / "videos")


def _calibrate(work: Path) -> list[str]:
    given = work / "given"
    files = [str(given / "small.onnx"), "--videos", str(given / "videos"), "-o", str(work / "out" / "small.int8.onnx")]
    return ["calibrate", *files, "--clips", "4"]


def _cache_graph() -> None:
    """Take the traced graph from a file: tracing takes seconds in which no file is touched."""
    import onnx

    from export.graph import export_input

    export_input.to_graph = lambda *_: onnx.load("given/small.onnx")  # type: ignore[attr-defined]


def _export(to: str, source: str, name: str, *flags: str) -> Verb:
    def words(work: Path) -> list[str]:
        return ["export", str(work / "given" / source), "--to", to, "-o", str(work / "out" / name), *flags]

    def fill(work: Path) -> None:
        """Fill `out` with an older artifact, which must stay whole."""
        from runtime.cli import main

        _fill_model(work)
        if main(words(work)):
            raise SystemExit("no older artifact")

    imports = ("torch", "onnx", "onnxruntime", "export.to_onnx", "export.to_openvino", "export.to_precision")
    imports += {"openvino": ("openvino",), "tensorrt": ("export.to_trt",)}.get(to, ())
    return Verb(
        fill, words, imports, patch=_cache_graph if source.endswith(".ckpt") else lambda: None,
        check=lambda out: _open(out / name), unit="artifacts",
        vary=(".log", ".report.json", ".engine", ".json") if to == "tensorrt" else (".xml", ".bin", ".json"),
    )  # fmt: skip


def _open(path: Path) -> None:
    if path.suffix == ".engine":  # no GPU: the checksum is what can be checked
        from runtime.engines.sidecar import read_sidecar

        read_sidecar(path, [path])
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
    "detect": Verb(_fill_detect, _detect),
    "features": Verb(
        _fill_features, _features, lost=lambda out: _unrecorded(out / "set", "extraction.json", "videos")
    ),
    "prepare": Verb(
        _fill_prepare, _prepare, ("training.preparation.prepare", "tqdm", "av"),
        lost=lambda out: max(_unrecorded(out / store, "index.json", "videos") for store in ("frames", "flow")),
    ),
    "train": Verb(
        _fill_train, _train, ("torch", "training.run", "training.commands.train"), _resume,
        lost=_steps_lost, unit="optimiser steps",
    ),
    "calibrate": Verb(_fill_calibrate, _calibrate, ("torch", "onnx", "onnxruntime", "calibration.calibrate")),
    "export-onnx": _export("onnx", "small.ckpt", "small.onnx"),
    "export-openvino": _export("openvino", "small.onnx", "small.xml"),
    "export-tensorrt": _export("tensorrt", "small.onnx", "small.engine", "--library", "tensorrt-rtx", "--sm", "86"),
}  # fmt: skip
"""Commands under attack."""


def main(argv: Sequence[str] | None = None) -> int:
    """Attack the verbs given, print a line for each, and return 1 if anything was bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verb", nargs="+", choices=tuple(VERBS), default=list(VERBS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT", "HUP"), default="KILL")
    given = parser.parse_args(argv)
    failed = False
    for name in given.verb:
        figures = attack(name, given.kills, given.seed, getattr(signal, f"SIG{given.signal}"))
        print(figures.line(name), flush=True)
        for fault in figures.faults:
            print(f"    {fault}")
        failed |= bool(figures.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
