"""What `make` does to a user's machine: which PyTorch it installs, and what it deletes. The environment is a double."""

from __future__ import annotations

import http.server
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FAKE_PYTHON = f"""#!/bin/sh
case "$1 $2" in
"-m venv") mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && cp "$0" "$4/bin/afsd" ;;
"-m pip") shift 2; echo "$@" >> pip.log; case "$*" in *PIP_FAILS*) exit 1 ;; esac
    case "$(ls)" in *no-index*) echo "retrying" >&2; echo "ERROR: no index answers" >&2; exit 1 ;; esac ;;
-c*) exec {sys.executable} "$@" ;;
esac
"""
"""Answers `-m venv` and `-m pip` without doing them; runs `-c` for real."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the Makefile, an interpreter that installs nothing, and no GPU unless a test adds one."""
    for name in ("Makefile", "requirements-dev.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    script(tmp_path / "fakebin" / "python3", FAKE_PYTHON)
    script(tmp_path / "fakebin" / "nvidia-smi", "#!/bin/sh\nexit 9\n")
    script(tmp_path / "fakebin" / "uname", "#!/bin/sh\necho Linux\n")
    return tmp_path


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    """A package index that answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if "wheels" in self.path else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def script(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def make(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{clone / 'fakebin'}:/usr/local/bin:/usr/bin:/bin", "no_proxy": "127.0.0.1"}
    command = ["make", "PYTHON=python3", *arguments]
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)


def installed(clone: Path) -> list[str]:
    """What pip was asked for, its first flags left out."""
    flags = "install -qq --no-compile --disable-pip-version-check "
    return [line.removeprefix(flags) for line in (clone / "pip.log").read_text().splitlines()]


PLAIN = ["--requirement requirements-dev.txt", "--no-deps --no-build-isolation --editable ."]


def test_without_a_gpu_pytorch_comes_from_the_index_of_cpu_wheels(clone: Path, index: str) -> None:
    done = make(clone, "demo", f"TORCH_INDEX={index}/wheels")
    assert done.returncode == 0, done.stderr
    pinned = next(line for line in (ROOT / "requirements-dev.txt").read_text().splitlines() if line[:7] == "torch==")
    assert installed(clone) == [f"--no-deps --index-url {index}/wheels {pinned}", *PLAIN]
    said = done.stdout.splitlines()
    assert "GB to download" in said[1]  # before anything is installed
    assert make(clone, "demo").returncode == 0
    assert len(installed(clone)) == 3  # nothing is installed twice


@pytest.mark.parametrize("reason", ["a GPU", "no answer", "not found", "empty"])
def test_else_the_plain_package(clone: Path, index: str, reason: str) -> None:
    if reason == "a GPU":
        script(clone / "fakebin" / "nvidia-smi", "#!/bin/sh\nexit 0\n")
    address = {"no answer": "http://127.0.0.1:9/wheels", "not found": f"{index}/other", "empty": ""}
    done = make(clone, "demo", f"TORCH_INDEX={address.get(reason, f'{index}/wheels')}")
    assert done.returncode == 0, done.stderr
    assert installed(clone) == PLAIN


def test_an_index_without_the_wheel_is_no_end(clone: Path, index: str) -> None:
    done = make(clone, "demo", f"TORCH_INDEX={index}/wheels/PIP_FAILS")
    assert done.returncode == 0, done.stderr
    assert installed(clone)[1:] == PLAIN
    assert "plain package" in done.stdout


def test_an_audit_without_an_index_is_skipped_and_says_why(clone: Path) -> None:
    assert make(clone, "demo", "TORCH_INDEX=").returncode == 0
    assert "audit" not in (clone / "pip.log").read_text()  # its tools are no part of the environment
    (clone / "no-index").touch()
    done = make(clone, "audit", "TORCH_INDEX=")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "audit skipped: pip-audit cannot be installed here (ERROR: no index answers)\n"
    assert installed(clone)[-1].endswith("--requirement requirements-audit.txt")


def test_triton_without_an_index_is_skipped_and_says_why(clone: Path) -> None:
    assert make(clone, "demo", "TORCH_INDEX=").returncode == 0
    (clone / "no-index").touch()
    done = make(clone, "test-triton", "TORCH_INDEX=")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Triton's tests skipped: its server cannot be installed here (ERROR: no index answers)\n"
    assert installed(clone)[-1].endswith("--target .triton/site --requirement requirements-triton.txt")
    assert not (clone / ".triton/ready").exists()


def test_clean_keeps_what_was_trained(clone: Path) -> None:
    trained = clone / "runs" / "mine" / "last.ckpt"
    trained.parent.mkdir(parents=True)
    trained.write_bytes(bytes(1 << 20))
    (clone / ".venv").mkdir()
    assert make(clone, "clean").returncode == 0
    assert not (clone / ".venv").exists()
    asked = make(clone, "distclean")
    assert asked.returncode != 0
    assert re.search(r"^1\.\d*M\truns/mine$", asked.stdout, re.MULTILINE)
    assert "make distclean YES=1" in asked.stdout
    assert trained.exists()
    assert make(clone, "distclean", "YES=1").returncode == 0
    assert not (clone / "runs").exists()
