"""A real Triton Inference Server for tests, from what `make test-triton` puts into .triton/site."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / ".triton/site"
SERVER = SITE / "pytriton/tritonserver"
STUB = "triton_python_backend_stub"
READY_SECONDS = 60
STOP_SECONDS = 10


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    http: str
    grpc: str
    metrics: str
    log: Path


def require_triton() -> None:
    """Skip where the server is not installed, or cannot run with this Python."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("Triton's server is not for several workers: make test-triton runs its tests")
    if not (SERVER / "bin/tritonserver").is_file():
        pytest.skip("no Triton server here: make test-triton installs one")
    if not _stub().is_file():
        pytest.skip(f"Triton's wheel has no Python backend for Python {_version()}")
    loader = subprocess.run(["ldd", _stub()], capture_output=True, text=True, check=False, env=_environment(ROOT))
    missing = [line.split()[0] for line in loader.stdout.splitlines() if "not found" in line]
    if missing:
        pytest.skip(f"Triton's Python backend needs {', '.join(missing)}, which is not here")


@contextmanager
def running(repository: Path, models: Sequence[str], place: Path) -> Iterator[Server]:
    """Start a server with some models of a repository; it is ended when the block ends.

    Args:
        repository: the model repository.
        models: names of the models that are loaded; others have no backend here.
        place: new folder for the backend and the log.
    """
    place.mkdir()
    _make_backend(place / "backends/python")
    _link_numpy(place / "numpy")
    http, grpc, metrics = _free_ports()
    log = place / "server.log"
    words = [
        str(SERVER / "bin/tritonserver"), f"--model-repository={repository}", f"--backend-directory={place}/backends",
        "--http-address=127.0.0.1", f"--http-port={http}", "--grpc-address=127.0.0.1", f"--grpc-port={grpc}",
        "--metrics-address=127.0.0.1", f"--metrics-port={metrics}", "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in models), "--exit-timeout-secs=2",
        f"--backend-config=python,shm-region-prefix-name=afsd_{os.getpid()}_",
    ]  # fmt: skip
    with (
        log.open("w") as said,
        subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True, env=_environment(place)
        ) as process,
    ):
        try:
            server = Server(f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}", f"http://127.0.0.1:{metrics}", log)
            _wait(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def server_environment(place: Path) -> dict[str, str]:
    """Environment of a process that computes as the models of the server of a place do: with their numpy."""
    return {key: value for key, value in _environment(place).items() if key != "LD_LIBRARY_PATH"}


def client_environment() -> dict[str, str]:
    """Environment of a process that uses the gRPC client."""
    return {**os.environ, "PYTHONPATH": str(SITE)}


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.http}/v2/health/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"the server is not ready:\n{server.log.read_text()[-4000:]}")


def _make_backend(folder: Path) -> None:
    """Lay out the Python backend as the server looks for it: the stub of this Python beside its library."""
    shutil.copytree(SERVER / "backends/python", folder)
    shutil.copy(_stub(), folder)
    (folder / STUB).chmod(0o755)
    (SERVER / "bin/tritonserver").chmod(0o755)


def _link_numpy(folder: Path) -> None:
    """Make a folder with the server's numpy alone, since what else is in .triton/site is older than the project's."""
    folder.mkdir()
    for name in ("numpy", "numpy.libs"):
        (folder / name).symlink_to(SITE / name)


def _environment(place: Path) -> dict[str, str]:
    """Environment of the server; its models import the project from this folder and its libraries from this Python."""
    packages = [place / "numpy", ROOT, *(path for path in sys.path if path.endswith("site-packages"))]
    libraries = [SITE / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, packages)),
        "LD_LIBRARY_PATH": os.pathsep.join(str(path) for path in libraries if path),
    }


def _stub() -> Path:
    return SERVER / "python_backend_stubs" / _version() / STUB


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _free_ports() -> list[int]:
    sockets = [socket.socket() for _ in range(3)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
