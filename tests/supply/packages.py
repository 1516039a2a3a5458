"""Read which packages the lock files name, what needs each of them, and which licences the installed ones carry."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

LOCKS = ("requirements-dev.txt", "requirements-gpu.txt")
"""Files that pin every package that is installed for development, tests and demo, and on a GPU machine."""

PARTS = (
    ("runtime", ()),
    ("engines", ("openvino", "gpu", "tensorrt", "tensorrt-rtx", "remote")),
    ("training and export", ("train", "export")),
    ("development", ("dev",)),
)
"""Part of the project → extras of pyproject.toml that bring its packages, beside the plain dependencies."""

COPYLEFT = re.compile(r"\b(A?GPL|LGPL|MPL|EPL|CDDL|EUPL)\b|Mozilla Public|GNU (Lesser |Affero )?General Public", re.I)
PROPRIETARY = re.compile(r"proprietary", re.I)
COPYLEFT_TEXT = re.compile(r"GNU (LESSER |AFFERO )?GENERAL PUBLIC LICENSE|Mozilla Public License")
COPYLEFT_LIBRARY = re.compile(r"lib(x264|x265|avcodec|gnutls|gmp|gfortran|quadmath|gomp)\b|/ffmpeg-[^/]*$")
"""Shared libraries and programs under a copyleft licence that wheels are known to bring."""


@dataclass(frozen=True)
class Locked:
    """Names one line of a lock file."""

    name: str
    version: str
    applies: bool
    """Whether the line's marker holds on this machine."""


def read_lock(path: Path) -> list[Locked]:
    """Read a file of pinned requirements."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    pinned = []
    for requirement in map(Requirement, filter(None, lines)):
        (pin,) = requirement.specifier
        pinned.append(
            Locked(requirement.name, pin.version, requirement.marker is None or requirement.marker.evaluate())
        )
    return pinned


def find_installed(name: str) -> metadata.Distribution | None:
    """Return a package's metadata if it is installed."""
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


MIT_TEXT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software"
"""Beginning of the MIT licence."""


def read_licence(package: metadata.Distribution) -> str:
    """Return the licence that a package declares: its expression, its classifiers, its own words, or MIT's text."""
    head = package.metadata
    expression, own = head.get("License-Expression"), " ".join((head.get("License") or "").split())
    classifiers = [line.split(" :: ")[-1] for line in head.get_all("Classifier") or [] if line.startswith("License")]
    if expression:
        return str(expression)
    short = own.split(" Copyright")[0].removeprefix("OSI Approved :: ")
    return short if 0 < len(short) <= 60 else " and ".join(classifiers) or _read_text(package)


def _read_text(package: metadata.Distribution) -> str:
    """Return "MIT" for a package whose file of its licence is MIT's text; empty for another."""
    files = [file for file in package.files or [] if file.name == "LICENSE"]
    texts = [" ".join(Path(str(file.locate())).read_text(encoding="utf-8").split()) for file in files]
    return "MIT" if any(MIT_TEXT in text for text in texts) else ""


def find_obligations(package: metadata.Distribution) -> list[str]:
    """Return what in a package is under a copyleft or proprietary licence, each as the place that says so."""
    found = []
    declared = " ".join([read_licence(package), *(package.metadata.get_all("Classifier") or [])])
    if COPYLEFT.search(declared) or PROPRIETARY.search(declared):
        found.append(f"declares {read_licence(package)}")
    for file in package.files or []:
        if COPYLEFT_LIBRARY.search(str(file)):
            found.append(f"brings {file.name}")
        elif re.search(r"licen[cs]e|copying|notice|third.party", str(file), re.I) and not str(file).endswith(".py"):
            try:
                text = Path(str(file.locate())).read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            if COPYLEFT_TEXT.search(text):
                found.append(f"has the text in {file.name}")
    return list(dict.fromkeys(found))


def find_parts(names: list[str]) -> dict[str, str]:
    """Return the first part of the project that needs each package, directly or through another one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    parts: dict[str, str] = {}
    seen: set[str] = set()
    for part, extras in PARTS:
        wanted = list(project["dependencies"]) if part == "runtime" else []
        wanted += [line for extra in extras for line in project["optional-dependencies"][extra]]
        for line in wanted:
            _add_needed(Requirement(line), part, parts, seen)
    return {name: parts.get(canonicalize_name(name), PARTS[-1][0]) for name in names}


def _add_needed(requirement: Requirement, part: str, parts: dict[str, str], seen: set[str]) -> None:
    """Set the part of a package and of all that it needs, where none was set."""
    name = canonicalize_name(requirement.name)
    key = f"{name}{sorted(requirement.extras)}"
    if key in seen or name == "afsd":
        return
    seen.add(key)
    parts.setdefault(name, part)
    for needed in find_needed(name, requirement.extras):
        _add_needed(needed, part, parts, seen)


def find_needed(name: str, extras: Iterable[str] = ()) -> list[Requirement]:
    """Return what an installed package needs on this machine; nothing for one that is not installed."""
    package = find_installed(name)
    lines = map(Requirement, (package.requires or []) if package else [])
    environments = [{"extra": extra} for extra in ("", *extras)]
    return [line for line in lines if line.marker is None or any(map(line.marker.evaluate, environments))]
