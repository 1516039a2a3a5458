"""OpenVINO with several batches in flight: the same results, in order, in both modes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import cli
from runtime.commands import detect
from runtime.detector import Detector
from runtime.engines import open_engine
from runtime.engines.pipeline import OverlappingEngine, infer_in_turn
from runtime.errors import EngineError, InputError
from runtime.results.detections import Detections
from tests.shared import ROOT
from tests.tiny import CROP, LENGTH, TinyEngine, write_tiny_openvino

MODES = ["latency", "throughput"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_openvino(tmp_path_factory.mktemp("model") / "tiny.xml")


def batch(k: int) -> tuple[int, dict[str, np.ndarray]]:
    frames = np.random.default_rng(k).integers(0, 256, (1, LENGTH, *CROP, 3), np.uint8)
    return k, {"frames": frames, "lengths": np.array([LENGTH - k % 3], np.int32)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_outputs_come_in_order_and_are_those_of_one_run_alone(model: Path, mode: str, threads: int) -> None:
    engine = open_engine(model, mode=mode, threads=threads)  # type: ignore[arg-type]
    assert isinstance(engine, OverlappingEngine)
    at_once = min(threads, len(os.sched_getaffinity(0))) if mode == "throughput" else 1
    assert engine.depth == at_once + 1
    alone = open_engine(model, threads=1)
    found = list(infer_in_turn(engine, map(batch, range(20))))
    assert [k for k, _ in found] == list(range(20))
    for k, outputs in found:
        for name, expected in alone.infer(batch(k)[1]).items():
            np.testing.assert_array_equal(outputs[name], expected)


@pytest.mark.parametrize("mode", MODES)
def test_run_is_the_concatenation_of_stream(model: Path, mode: str) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (200, *CROP, 3), dtype=np.uint8)
    detector = Detector(open_engine(model, mode=mode))  # type: ignore[arg-type]
    whole = detector.run(frames)
    parts = Detections.concatenate(list(detector.stream(frames)))
    plain = Detector(TinyEngine()).run(frames)
    assert len(whole) == len(plain) > 50
    np.testing.assert_array_equal(whole.segments, parts.segments)
    np.testing.assert_array_equal(whole.scores, parts.scores)
    np.testing.assert_allclose(whole.scores, plain.scores, atol=1e-5)


class Broken:
    """A request that fails when it is begun, or while it runs."""

    def __init__(self, at: str) -> None:
        self.at = at

    def start_async(self, inputs: Any, share_inputs: bool) -> None:
        if self.at == "start":
            raise RuntimeError("no memory\n")

    def wait(self) -> None:
        raise RuntimeError("Exception from somewhere.cpp:1:\nthe kernel failed")


@pytest.mark.parametrize("at", ["start", "wait"])
@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_fails_loses_nothing_before_it(model: Path, mode: str, at: str) -> None:
    engine: Any = open_engine(model, mode=mode)  # type: ignore[arg-type]

    def given() -> Any:
        for k in range(9):
            if k == 5:
                engine._idle.append(Broken(at))
            yield batch(k)

    seen = []
    with pytest.raises(EngineError, match=r"the run failed: (no memory|the kernel failed)$"):
        seen.extend(k for k, _ in infer_in_turn(engine, given()))
    assert seen == [0, 1, 2, 3, 4]
    engine.infer(batch(1)[1])  # the engine is as good as before


def test_a_closed_engine_still_gives_what_is_in_flight(model: Path) -> None:
    engine: Any = open_engine(model, mode="throughput")
    expected = engine.infer(batch(4)[1])
    ticket = engine.submit(batch(4)[1])
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.submit(batch(5)[1])
    np.testing.assert_array_equal(engine.collect(ticket)["conf"], expected["conf"])


def test_wrong_arrays_are_refused_before_they_fly(model: Path) -> None:
    engine: Any = open_engine(model, mode="throughput")
    with pytest.raises(InputError, match="expected frames, lengths"):
        engine.submit({})


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "throughput"),
        (["--stream"], "throughput"),
        (["--mode", "latency"], "latency"),
        (["-", "--stream"], "latency"),
    ],
)
def test_detect_chooses_by_its_sources(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    expected: str,
) -> None:
    asked = []
    opened = detect.open_with

    def spy(path: str, arguments: Any) -> Any:
        asked.append(arguments.mode)
        return opened(path, arguments)

    cli.make_parser()  # imports all verbs: one that was imported meanwhile would keep this function
    monkeypatch.setattr(detect, "open_with", spy)
    missing = tmp_path / "missing.mp4"
    assert cli.main(["detect", str(model), str(missing), *flags]) == 2  # after the engine was opened
    assert asked == [expected]
    assert json.dumps(str(missing))[1:-1] in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="the signal stack of a thread, as on Linux")
def test_signals_are_handled_after_engines_were_closed(model: Path) -> None:
    """OpenVINO's plug-in left a signal stack behind whose memory was gone; the next signal ended the process."""
    script = f"""
import gc, signal
from runtime import open_engine
first, second = open_engine({str(model)!r}), open_engine({str(model)!r})
for name in ("first", "second"):
    globals().pop(name).close()
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
