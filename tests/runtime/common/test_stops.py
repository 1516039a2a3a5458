"""Signals end a command in time with what is final given out, whatever it is doing, and its children with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.processes import started

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")

HEAD = """
import hashlib, sys, time
from runtime.common.console import run_command
from runtime.common.stops import LONGEST_SAVE_S, end_well_at_stop, give_out_at_stop, shield

def native():
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in a native library that no signal interrupts

def out(text):
    print(text, flush=True)

def run():
    with give_out_at_stop(lambda: out("final")):
        BODY
    return 0

sys.exit(run_command(run))
"""
BUSY = 'out("ready")\n        while True: time.sleep(0.01)'
NATIVE = 'out("ready"); native()'


def command(body: str, *before: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """A command whose work is `body`, once it has printed that it is ready."""
    return started([*before, sys.executable, "-c", HEAD.replace("BODY", body)], stderr=subprocess.PIPE)


def end(process: subprocess.Popen[str], *signals: signal.Signals) -> tuple[int, str, str]:
    """Send signals; return exit status, rest of the output and errors of a process that must end in time."""
    for number in signals:
        process.send_signal(number)
        time.sleep(0.05)
    out, errors = process.communicate(timeout=20)
    return process.returncode, out, errors


@pytest.mark.parametrize("body", [BUSY, NATIVE])
@pytest.mark.parametrize(
    ("signals", "status", "said"),
    [
        ((signal.SIGTERM,), 143, "afsd: ended by SIGTERM\n"),
        ((signal.SIGINT, signal.SIGINT), 130, "afsd: interrupted\n"),
        ((signal.SIGHUP, signal.SIGTERM), 129, "afsd: ended by SIGHUP\n"),
    ],
)
def test_what_is_final_is_given_out_once(
    body: str, signals: tuple[signal.Signals, ...], status: int, said: str
) -> None:
    with command(body) as process:
        assert end(process, *signals) == (status, "final\n", said)


@pytest.mark.thorough
def test_a_second_signal_after_a_while_ends_what_cannot_be_given_out() -> None:
    stuck = 'with give_out_at_stop(native, LONGEST_SAVE_S): out("ready"); time.sleep(60)'
    with command(stuck) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(2.3)
        assert process.poll() is None
        assert end(process, signal.SIGTERM)[:2] == (143, "")


def test_a_shielded_block_is_finished_first() -> None:
    body = 'with shield(): out("ready"); time.sleep(1.5); out("whole")\n        out("never")'
    with command(body) as process:
        status, out, _ = end(process, signal.SIGTERM)
    assert (status, out) == (143, "whole\nfinal\n")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            'with give_out_at_stop(lambda: out("x" * 10**7)): out("ready"); native()', marks=pytest.mark.thorough
        ),
        'with give_out_at_stop(lambda: out("x" * 10**7)): out("ready"); time.sleep(60)',
        'out("ready")\n        with shield(0.5): out("x" * 10**7)',
        pytest.param('out("ready"); out("x" * 10**7)', marks=pytest.mark.thorough),
    ],
)
def test_output_that_nobody_reads_holds_nothing_up(body: str) -> None:
    with command(body) as process:
        time.sleep(0.3)  # until the pipe is full
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
        assert time.monotonic() - begun < 10  # it takes two seconds; for ever, if it waited for a reader


def test_where_ending_is_normal_the_status_is_0() -> None:
    body = """go = [1]
        with end_well_at_stop(go.clear, 1.0):
            out("ready")
            while go: time.sleep(0.01)"""
    with command(body) as process:
        assert end(process, signal.SIGTERM) == (0, "", "")
    with command(f"with end_well_at_stop(lambda: None, 0.2):\n            {NATIVE}") as process:
        assert end(process, signal.SIGINT) == (0, "final\n", "")


def test_no_error_is_raised_in_the_import_of_a_library(tmp_path: Path) -> None:
    """Native libraries abort the process when their import fails in the middle."""
    (tmp_path / "native.py").write_text(
        "import os, time\n"
        "try:\n    print('ready', flush=True)\n    time.sleep(30)\nexcept BaseException:\n    os.abort()\n"
    )
    with command(f"sys.path.insert(0, {str(tmp_path)!r}); import native") as process:
        assert end(process, signal.SIGTERM) == (143, "final\n", "afsd: ended by SIGTERM\n")


def test_a_signal_that_nohup_ignores_stays_ignored() -> None:
    body = 'out("ready")\n        time.sleep(0.5)\n        out("whole")'
    with command(body, "nohup") as process:
        assert end(process, signal.SIGHUP)[:2] == (0, "whole\n")


def test_the_first_process_of_a_container_ends_too() -> None:
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("no new process namespace may be made here")
    inner = ["sh", "-c", 'echo $$ > /dev/null; exec "$0" "$@"']  # the shell becomes the command: number 1
    body = 'import os; out("ready" if os.getpid() == 1 else "not first")\n        ' + NATIVE.partition("; ")[2]
    with command(body, *words, *inner) as process:
        (first,) = _children(process.pid)
        begun = time.monotonic()
        os.kill(first, signal.SIGTERM)
        out, errors = process.communicate(timeout=20)
        assert time.monotonic() - begun < 5
        assert (process.returncode, out, errors) == (143, "final\n", "afsd: ended by SIGTERM\n")


POOL = """
import sys, time
from runtime.common.children import worker_pool
from runtime.common.console import run_command

def run():
    with worker_pool(2) as pool:
        work = [pool.submit(time.sleep, 60) for _ in range(4)]
        time.sleep(float(sys.argv[1]))
        print("ready", flush=True)
        work[0].result()
    return 0

if __name__ == "__main__":
    sys.exit(run_command(run))
"""


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="lists of children as Linux has them")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_that_work_for_a_command_end_with_it(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    command = [sys.executable, str(script), "2"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        children = _children(process.pid)
        assert len(children) >= 2
        process.send_signal(number)
        assert process.wait(20) == (143 if number == signal.SIGTERM else -9)
    until = time.monotonic() + 5
    while time.monotonic() < until and any(map(_lives, children)):
        time.sleep(0.02)
    assert not any(map(_lives, children))


def _children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
