"""Short attacks on the commands, and the long ones; each runs in a process that forks children (see `place`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked and killed as on Linux")


def attack(kind: str, *words: str, limit_s: float = 600, network: Path | None = None) -> None:
    """Run an attack; it must find no fault.

    Args:
        kind: module of the attack.
        words: its command line.
        limit_s: seconds after which it is ended.
        network: folder of the small network; None: one is traced where a verb needs it.
    """
    for module in ("torch", "onnx"):
        pytest.importorskip(module)
    command = [sys.executable, "-m", f"tests.attack.{kind}", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if network is not None:
        environment["AFSD_ATTACK_NETWORK"] = str(network)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit_s, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.thorough
def test_commands_that_a_signal_ends_lose_nothing() -> None:
    attack("kills", "--verb", "features", "--kills", "2", "--signal", "TERM")


@pytest.mark.thorough
def test_a_full_disk_leaves_nothing_broken() -> None:
    attack("disks", "--verb", "detect", "--few")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "verb",
    [
        "detect",
        *(
            pytest.param(verb, marks=pytest.mark.slow)
            for verb in ("train", "clips", "features", "prepare", "calibrate", "export-onnx")
        ),
    ],
)
def test_every_command_killed(verb: str, request: pytest.FixtureRequest) -> None:
    network = None
    if verb in ("calibrate", "export-onnx"):
        network = request.getfixturevalue("exported").onnx.parent
    attack("kills", "--verb", verb, "--kills", "2", "--signal", "KILL", "TERM", network=network)


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["2", "3"])
def test_every_command_at_once(processes: str) -> None:
    attack("together", "--rounds", "1", "--processes", processes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb", ["detect", "clips", "features", "prepare", "train", "calibrate", "export-onnx", "export-openvino"]
)
def test_every_command_on_a_full_disk(verb: str) -> None:
    if verb == "export-openvino":
        pytest.importorskip("openvino")
    attack("disks", "--verb", verb)


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb",
    [
        "detect", "clips", "features", "prepare", "train", "calibrate", "export-onnx", "export-openvino",
        "export-tensorrt", "export-tensorrt-stream",
    ],
)  # fmt: skip
def test_two_hundred_kills(verb: str) -> None:
    libraries = {"export-openvino": "openvino"} | dict.fromkeys(
        ("export-tensorrt", "export-tensorrt-stream"), "tensorrt_rtx"
    )
    library = libraries.get(verb)
    if library is not None:
        pytest.importorskip(library, exc_type=ImportError)
    attack("kills", "--verb", verb, "--kills", "200", limit_s=3 * 3600)
