"""Kill `afsd detect` over a folder of videos at random moments, start it again, and compare with an undisturbed run.

    python -m tests.attack.overnight --videos 200 --kills 5 --seed 1 [--workers 2] [--model model.xml]

Every kill is SIGKILL to the whole group of processes. Compared is every file in the folder of the results, byte for
byte, records included, and what --jsonl prints. Printed are the moments, seconds, and hours of video per hour.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import ROOT
from tests.videos import write_video

BESIDE = {"all-video", "all-video-2", "index-video"}
"""Files of videos beside the shared ones, which have others of their own names."""
SECONDS = 2.0
"""Length of each video."""
SOURCES = 8
"""Number of different contents."""
FORMATS = ("json", "csv", "srt", "vtt", "png", "html")
STEMS = (
    "plain", "two words", "ümläut", "動画", "🎬 film", "quote's", 'double"quote', "a.b.c", "-dash", "100%", "#hash",
    "$HOME", "[brackets]", "a&b;c", "<tag>", "all", "all-video", "index", "v_abc", "UPPER", "x" * 190, "é" * 90,
    "~tilde", "@at", "{brace}", "10:30:00", "cafe\u0301", "\udcff\udcfe", "a,b", "=1+1", "failures", "shared", "clip",
)  # fmt: skip
"""Names of every odd kind; the others are numbered."""
FOLDERS = ("", "day 1", "day 1/#%2F", "")
"""Folders of the videos, each of six after the other."""
OUT, ERRORS = "printed", "errors"
"""Files for what the command prints."""
LIMIT_S = 240.0
WITHIN_S = 1.0
"""Longest time from the moment at which so many videos are done to the kill; the first is so soon after its start."""


@dataclass
class Report:
    """Holds what was seen."""

    undisturbed_s: float = 0.0
    kills_s: list[float] = field(default_factory=list)
    """Seconds from each start to its kill."""
    records: list[int] = field(default_factory=list)
    """Number of records after each kill."""
    unrecorded: list[int] = field(default_factory=list)
    """Number of videos after each kill that have files and no record."""
    last_s: float = 0.0
    different: list[str] = field(default_factory=list)
    files: int = 0
    summary: str = ""
    """What the undisturbed run said at its end."""
    last_summary: str = ""


def make_folder(folder: Path, count: int) -> None:
    """Write videos of few contents under many names, some in folders; two of one name have other suffixes."""
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    made = [
        write_video(folder.parent / f"source{number}.mp4", frames=round(10 * SECONDS), level=20 + 25 * number)
        for number in range(SOURCES)
    ]
    for number in range(count):
        stem = STEMS[number] if number < len(STEMS) else f"clip {number}" if number % 3 else f"clip {number - 1}"
        suffix = "mp4" if number % 3 else "m4v"
        place = folder / FOLDERS[number // 6 % len(FOLDERS)]
        shutil.copy(made[number % SOURCES], place / f"{stem}.{suffix}")
    assert sum(path.is_file() for path in folder.rglob("*")) == count


def attack(work: Path, model: Path, videos: int, kills: int, seed: int, flags: Sequence[str] = ()) -> Report:
    """Run the command undisturbed and disturbed, and compare.

    The first kill comes soon after the start; the others when a random number of videos is done, and a bit later.

    Args:
        work: empty folder for the videos and the results.
        model: file of the model.
        videos: number of videos.
        kills: number of kills.
        seed: decides the moments, as far as the machine's speed allows.
        flags: further flags of the command.
    """
    report, rng = Report(), random.Random(seed)
    make_folder(work / "videos", videos)
    began = time.monotonic()
    whole, report.summary = _finish(_start(model, work, "whole", flags), work)
    report.undisturbed_s = time.monotonic() - began
    for kill in range(kills):
        began = time.monotonic()
        process = _start(model, work, "killed", flags)
        if kill:
            _wait_for(process, work / "killed", rng.randint(1, max(2 * videos // kills, 1)))
        time.sleep(rng.uniform(0.0, WITHIN_S))
        late, at = process.poll() is not None, time.monotonic() - began
        if not late:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        known, unrecorded = _progress(work / "killed")
        print(
            f"kill {kill + 1}: {at:.2f} s after the start{', after the end' if late else ''}, {known} records, "
            f"{unrecorded} videos with files and no record",
            flush=True,
        )
        report.kills_s.append(at)
        report.records.append(known)
        report.unrecorded.append(unrecorded)
    began = time.monotonic()
    after, report.last_summary = _finish(_start(model, work, "killed", flags), work)
    report.last_s = time.monotonic() - began
    contents = [_contents(work / name) for name in ("whole", "killed")]
    report.files = len(contents[0])
    names = contents[0].keys() | contents[1].keys()
    report.different = sorted(name for name in names if contents[0].get(name) != contents[1].get(name))
    if sorted(whole.splitlines()) != sorted(after.splitlines()):
        report.different.append("what --jsonl prints")
    return report


def _start(model: Path, work: Path, out: str, flags: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the command in a group of its own; what it prints goes to files, since nobody reads it meanwhile."""
    words = [
        "detect",
        str(model),
        str(work / "videos"),
        "--recursive",
        "--out",
        str(work / out),
        "--format",
        *FORMATS,
        "--jsonl",
        *flags,
    ]
    with (work / OUT).open("wb") as printed, (work / ERRORS).open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "runtime", *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=printed,
            stderr=errors,
            start_new_session=True,
        )


def _wait_for(process: subprocess.Popen[bytes], out: Path, more: int) -> None:
    """Wait until a command has recorded so many more videos, or has ended."""
    records, deadline = out / ".afsd" / "records", time.monotonic() + LIMIT_S
    first = _count(records)
    while _count(records) < first + more and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def _count(records: Path) -> int:
    return sum(1 for path in records.glob("[!.]*.json")) if records.is_dir() else 0


def _finish(process: subprocess.Popen[bytes], work: Path) -> tuple[str, str]:
    """Wait for a command that must succeed; return what it printed, and the last line of its errors."""
    status = process.wait(LIMIT_S)
    errors = (work / ERRORS).read_text()
    if status != 0:
        raise SystemExit(f"ended with status {status}: {errors[-2000:]}")
    return (work / OUT).read_text(), errors.splitlines()[-1]


def _progress(out: Path) -> tuple[int, int]:
    """Return the number of records, and of videos that have files and no record."""
    from runtime.jobs.records import RecordFolder

    records = list(RecordFolder(out).all()) if out.is_dir() else []
    known = {name for record in records for name in record.files}
    others = known | {"all.csv", "index.html"}
    files = (path.relative_to(out) for path in out.rglob("[!.]*.*") if path.is_file()) if out.is_dir() else ()
    shown = (path for path in files if path.parts[0][0] != "." and path.as_posix() not in others)
    stray = {path.with_suffix("").as_posix() for path in shown}
    return len(records), len(stray - BESIDE)


def _contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files of a folder, hidden ones too, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def main(argv: Sequence[str] | None = None) -> int:
    """Attack, print the figures, and return 1 if a file differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--model", type=Path, help="default: the tiny network of the tests")
    given = parser.parse_args(argv)
    flags = [] if given.workers is None else ["--workers", str(given.workers)]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if given.model is None:
            from tests.tiny import write_tiny_onnx

            given.model = write_tiny_onnx(work / "tiny.onnx", None)
        report = attack(work, given.model.resolve(), given.videos, given.kills, given.seed, flags)
    hours = given.videos * SECONDS / 3600
    print(
        f"undisturbed: {report.undisturbed_s:.1f} s, {hours * 3600 / report.undisturbed_s:.1f} hours of video per hour"
    )
    print(f"    {report.summary}")
    spent = sum(report.kills_s) + report.last_s
    print(f"killed {given.kills} times and finished: {spent:.1f} s in all, the last run {report.last_s:.1f} s")
    print(f"    {report.last_summary}")
    print(f"{report.files} files, different: {len(report.different)} {report.different[:5] or ''}")
    return int(bool(report.different))


if __name__ == "__main__":
    sys.exit(main())
