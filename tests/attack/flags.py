"""Attack the command line: every verb with flags of odd values, judged by what a user sees."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

from runtime.cli import main, make_parser
from tests.attack.mutation import NUMBERS, TEXTS
from tests.attack.sandbox import FoundError, Target
from tests.tiny import tiny_spec, write_tiny_onnx
from tests.videos import write_video

ARGUMENTS: dict[str, list[str]] = {
    "detect": ["detect", "model.onnx", "clip.mp4", "--out", "out"],
    "watch": ["watch", "model.onnx", "clip.mp4"],
    "evaluate": ["evaluate", "found.json", "truth.json"],
    "benchmark": ["benchmark", "model.onnx", "--runs", "1", "--warmup", "1"],
    "features": ["features", "model.onnx", "clip.mp4", "--out", "out"],
    "convert": ["convert", "found.json", "out.csv"],
    "clips": ["clips", "found.json", "--videos", ".", "--out", "out"],
    "triton": ["triton", "model.onnx", "--out", "out"],
}
"""Verb → arguments with which it ends well, or with one line, within a second."""
LONG = ("--metrics", "--seconds", "--runs", "--video-runs", "--warmup", "--threads")
"""Flags whose larger values mean long work, or a server: they get odd values that are not larger."""
ELSEWHERE = ("--ray",)
"""Flags that name other machines, which are waited for: they are left out."""
INSIDE = tuple(text for text in TEXTS if not text.startswith(("/", "..", "~", "file:")))
"""Texts that ask for nothing outside of the folder: what a user asks for is done."""
EXIT_STATUSES = (0, 2)


def _make(verb: str) -> Any:
    def make(folder: Path) -> Sequence[str]:
        from tests.attack.targets import _annotations, _detections

        write_tiny_onnx(folder / "model.onnx", tiny_spec())
        write_video(folder / "clip.mp4", frames=24)
        if verb == "clips":
            write_video(folder / "video_1.mp4", frames=24)
        (folder / "truth.json").write_text(_annotations())
        (folder / "found.json").write_text(_detections())
        (folder / "argv.json").write_text(json.dumps(_base(verb)))
        return ["argv.json"]

    return make


def _base(verb: str) -> list[str]:
    known = {option for action in _parser(verb)._actions for option in action.option_strings}
    arguments = ARGUMENTS[verb]
    while arguments[-2].startswith("--") and arguments[-2] not in known:
        arguments = arguments[:-2]
    return arguments


def _parser(verb: str) -> argparse.ArgumentParser:
    (choices,) = (a.choices for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    parser: argparse.ArgumentParser = choices[verb]
    return parser


_OPTIONS: dict[str, list[argparse.Action]] = {}


def _mutate(verb: str) -> Any:
    def mutate(data: bytes, rng: Random) -> bytes:
        argv = json.loads(data)
        if verb not in _OPTIONS:
            options = [a for a in _parser(verb)._actions if a.option_strings and a.dest != "help"]
            _OPTIONS[verb] = [a for a in options if not set(ELSEWHERE) & set(a.option_strings)]
        for _ in range(rng.choice((1, 1, 2, 3))):
            action = rng.choice(_OPTIONS[verb])
            argv.append(rng.choice(action.option_strings))
            if action.nargs != 0:  # for a watch, a word too many would be a camera, which is waited for
                argv += [_value(action, rng) for _ in range(1 if verb == "watch" else rng.choice((1, 1, 1, 0, 2)))]
        if rng.random() < 0.15 and verb != "watch":
            argv[rng.randrange(1, len(argv))] = rng.choice(INSIDE)
        return json.dumps(argv).encode()

    return mutate


def _value(action: argparse.Action, rng: Random) -> str:
    if action.choices and rng.random() < 0.6:
        return str(rng.choice(list(action.choices)))
    if set(LONG) & set(action.option_strings):
        return rng.choice(("0", "-1", "NaN", "1e400", "x", "", "1"))
    if rng.random() < 0.3:
        return rng.choice(("0.5", "1", "2", "3", "model.onnx", "clip.mp4", "truth.json", "out", "test"))
    return rng.choice(NUMBERS if rng.random() < 0.6 else INSIDE)


def _read(folder: Path) -> Any:
    """Run the command, and look at its exit status and at what it prints (FoundError: not as promised)."""
    argv = json.loads((folder / "argv.json").read_bytes())
    out, errors = _Terminal(), _Terminal()
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            status = main([text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape") for text in argv])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 2
    said = errors.text
    if status not in EXIT_STATUSES:
        raise FoundError(f"exit status {status}: {said[-300:]}")
    if "Traceback" in said:
        raise FoundError(f"traceback: {said[-300:]}")
    if "secret" in said.replace(" ".join(argv), "") or "secret" in out.text:
        raise FoundError(f"the password of a URL is shown: {(said + out.text)[:300]}")
    if any((letter < " " and letter not in "\n\t\r") or letter in "\x7f\u202e" for letter in said + out.text):
        raise FoundError("control characters are printed")
    problems = [line for line in said.splitlines() if line.startswith("afsd: error:")]
    if status == 2 and not problems:
        raise FoundError(f"exit status 2 without a line: {said[-200:]}")
    if "usage:" in said or (len(problems) > 1 and " failed: " not in said):
        raise FoundError(f"more than one line: {said[-300:]}")
    return status


class _Terminal(io.TextIOWrapper):
    """Keeps what is printed, as a terminal of UTF-8 would be sent it."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True)

    @property
    def text(self) -> str:
        raw: Any = self.buffer
        return raw.getvalue().decode("utf-8", "replace")


def _flags_of(verb: str) -> Target:
    root = Path(__file__).resolve().parents[2]
    modules = (str(root / f"runtime/commands/{verb}.py"), str(root / "runtime/common/ranges.py"))
    return Target(f"flags of {verb}", _make(verb), _read, _mutate(verb), modules)


FLAGS = tuple(_flags_of(verb) for verb in ARGUMENTS)
"""The verbs of the runtime."""
