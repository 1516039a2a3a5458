"""Processes of one training run, forked from a process that has the libraries loaded and has never computed a gradient.

PyTorch refuses gradients in a process that was forked after the first one, so the tests' own process cannot fork them,
and starting each anew takes seconds.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 60.0
_stores: list[Any] = []


@dataclass
class Ranks:
    """The processes of a run that goes on."""

    pids: list[int]
    folder: Path
    """Holds what each printed, `RANK.out` and `RANK.err`."""
    server: Server

    def wait(self) -> list[int]:
        """Exit statuses, those of signals negative."""
        statuses: list[int] = self.server.ask({"wait": self.pids})
        return statuses

    def signal(self, rank: int, number: signal.Signals) -> None:
        os.kill(self.pids[rank], number)

    def printed(self, kind: str) -> list[str]:
        """What each process printed to "out" or "err"."""
        return [(self.folder / f"{rank}.{kind}").read_text() for rank in range(len(self.pids))]


class Server:
    """The process that forks."""

    def __init__(self) -> None:
        environment = dict(os.environ) | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.ranks"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, count: int, words: list[str], folder: Path, fault: str = "") -> Ranks:
        """Start `afsd train` with these words in processes as torchrun starts them; see `_break` for faults."""
        folder.mkdir(parents=True, exist_ok=True)
        pids = self.ask({"count": count, "words": words, "folder": str(folder), "fault": fault})
        return Ranks(pids, folder, self)

    def run(self, count: int, words: list[str], folder: Path, fault: str = "") -> tuple[list[int], Ranks]:
        ranks = self.start(count, words, folder, fault)
        return ranks.wait(), ranks

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)


@contextmanager
def forking() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()


def _serve() -> None:
    from runtime import cli
    from training import run  # noqa: F401 — what the children need

    cli.make_parser()
    for line in sys.stdin:
        question = json.loads(line)
        answer = _wait(question["wait"]) if "wait" in question else _start(**question)
        print(json.dumps(answer), flush=True)


def _start(count: int, words: list[str], folder: str, fault: str) -> list[int]:
    from torch.distributed import TCPStore

    _stores.append(TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))  # torchrun's process has it, too
    port = _stores[-1].port
    return [_fork(rank, count, port, words, Path(folder), fault) for rank in range(count)]


def _fork(rank: int, count: int, port: int, words: list[str], folder: Path, fault: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    gc.disable()
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(folder / f"{rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if count > 1:
        settings = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0}
        os.environ |= {name: str(value) for name, value in settings.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    from runtime import cli

    _break(fault, rank)
    status = cli.main(["train", *words])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _break(fault: str, rank: int) -> None:
    """Have something go wrong in the last process, or everywhere, or let steps take long enough to be interrupted."""
    from runtime.errors import InputError
    from training.data.dataset import WindowDataset
    from training.networks import across_processes

    read = WindowDataset.__getitem__
    loaded = [0]

    def broken(dataset: WindowDataset, index: int) -> Any:
        loaded[0] += 1
        if fault == "slow":
            time.sleep(0.05)
        if fault == "unreadable" and rank == 1 and loaded[0] > 4:
            raise InputError("video_1.npy: cut off")
        return read(dataset, index)

    if fault in ("slow", "unreadable"):
        WindowDataset.__getitem__ = broken  # type: ignore[method-assign]
    if fault == "own counts":
        across_processes.total = lambda count: count


def _wait(pids: list[int]) -> list[int]:
    statuses: dict[int, int] = {}
    end = time.monotonic() + LONGEST_S
    while len(statuses) < len(pids):
        for pid in set(pids) - set(statuses):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                statuses[pid] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            for pid in set(pids) - set(statuses):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return [statuses[pid] for pid in pids]


if __name__ == "__main__":
    _serve()
