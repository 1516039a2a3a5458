"""Run work in processes that end with this one, however it ends."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl that sets the signal a process gets when its parent ends."""
POLL_S = 0.5
"""Seconds between two looks at the parent where the system gives no signal."""


def end_with_parent(parent: int | None = None) -> None:
    """Have this process end when its parent does, and leave Ctrl-C to the parent; call it first in a child process.

    Args:
        parent: process id of the parent, to notice that it is gone already; None: `multiprocessing` knows.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent is None:
        process = multiprocessing.parent_process()
        parent = os.getppid() if process is None or process.pid is None else process.pid
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    elif hasattr(os, "getppid"):
        threading.Thread(target=_poll_parent, args=(parent,), daemon=True).start()


def _poll_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os._exit(1)


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes that decode videos, with OpenCV on one thread each.

    They are new processes: a forked copy of OpenCV's or torch's threads can hang. If the block fails or is interrupted
    they are killed at once, since what they write is written atomically.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    import cv2

    end_with_parent()
    cv2.setNumThreads(1)
