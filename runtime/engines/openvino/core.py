"""OpenVINO's core, which reads and compiles models: one for the process."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any

from runtime.errors import import_failure


def import_openvino() -> Any:
    """Import OpenVINO (MissingDependencyError: it is not installed)."""
    try:
        import openvino
    except ImportError as error:
        raise import_failure(error, "openvino", "openvino", "running an OpenVINO .xml file") from None
    return openvino


def process_core() -> Any:
    """Return the core that the whole process shares until it ends (MissingDependencyError: OpenVINO is not installed).

    With a core of its own for each engine, a signal could end the process with a segmentation fault. On Linux the CPU
    plug-in of a core, OpenVINO 2026.4, gives the thread another signal stack, and at its end puts back the one that it
    found and unmaps its own. Of two that do not end in reverse order, the later one puts back the stack that the first
    has unmapped, and there the next handler of a signal runs. A forked child gets a core of its own, since the threads
    of its parent's are not there.
    """
    with _making:
        return _core_of(os.getpid())


_making = threading.Lock()


@cache
def _core_of(process: int) -> Any:
    return import_openvino().Core()
