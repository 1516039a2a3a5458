"""The page of licences is complete against the lock files, and says what obliges whom."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from tests.supply.licences import NOTES, PAGE
from tests.supply.packages import LOCKS, ROOT, find_installed, find_obligations, find_parts, read_licence, read_lock


@pytest.fixture(scope="module")
def rows() -> dict[str, tuple[str, str]]:
    """Package → version and licence, as the page has them."""
    found = re.findall(r"^\| ([\w.-]+) \| (\d[\w.+-]*) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == len({name for name, *_ in found})
    return {name: (version, licence) for name, version, licence in found}


def pins(lock: str) -> dict[str, str]:
    """Package → version of a lock file, read by its text alone."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    return dict(re.match(r"([\w.-]+)==([\w.+-]+)", line).groups() for line in lines if line[:1] != "#")  # type: ignore[union-attr,misc]


def test_every_locked_package_has_its_version_and_a_licence(rows: dict[str, tuple[str, str]]) -> None:
    locked = {name: version for lock in LOCKS for name, version in pins(lock).items()}
    assert len(locked) > 60
    assert {name: version for name, (version, _) in rows.items()} == locked
    assert [name for name, (_, licence) in rows.items() if not licence.strip("-– ")] == []


def test_the_licences_are_those_that_the_installed_packages_declare(rows: dict[str, tuple[str, str]]) -> None:
    checked = 0
    for name, (version, licence) in rows.items():
        package = find_installed(name)
        if package is not None and package.version.partition("+")[0] == version:
            assert licence == read_licence(package), name
            checked += 1
    assert checked > 20


def test_copyleft_and_proprietary_parts_are_explained() -> None:
    """Found by declaration, by licence texts and by the libraries in the wheels."""
    page = PAGE.read_text(encoding="utf-8")
    locked = [package for lock in LOCKS for package in read_lock(ROOT / lock)]
    for package in locked:
        installed = find_installed(package.name)
        if installed is not None and find_obligations(installed):
            assert f"| {package.name} | {NOTES[package.name]} |" in page, find_obligations(installed)
    assert set(NOTES) <= {package.name for package in locked}
    for name, word in [("av", "x264"), ("opencv-python-headless", "LGPL"), ("imageio-ffmpeg", "GPL-3.0")]:
        assert word in NOTES[name]


def package_of(folder: Path, head: str, files: dict[str, str]) -> metadata.Distribution:
    """A made-up installed package."""
    info = folder / "made-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: made\nVersion: 1\n{head}\n")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    return metadata.Distribution.at(info)


@pytest.mark.parametrize(
    ("head", "files", "licence", "obligations"),
    [
        ("License-Expression: MIT", {}, "MIT", []),
        ("License: Apache 2.0", {}, "Apache 2.0", []),
        ("License: MIT License Copyright (c) 2020 someone, and so on" + "x" * 60, {}, "MIT License", []),
        ("Classifier: License :: OSI Approved :: BSD License", {}, "BSD License", []),
        ("License-Expression: MPL-2.0 AND MIT", {}, "MPL-2.0 AND MIT", ["declares MPL-2.0 AND MIT"]),
        ("License-Expression: LGPL-2.1-or-later", {}, "LGPL-2.1-or-later", ["declares LGPL-2.1-or-later"]),
        ("License: Proprietary", {}, "Proprietary", ["declares Proprietary"]),
        (
            "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)", {},
            "GNU General Public License v3 (GPLv3)", ["declares GNU General Public License v3 (GPLv3)"],
        ),
        ("License: MIT", {"made.libs/libx264-d6533a8d.so.165": ""}, "MIT", ["brings libx264-d6533a8d.so.165"]),
        ("License: MIT", {"made/binaries/ffmpeg-linux-v7": ""}, "MIT", ["brings ffmpeg-linux-v7"]),
        (
            "License: MIT", {"made-1.dist-info/licenses/LICENSE": "…\n  GNU LESSER GENERAL PUBLIC LICENSE\n"},
            "MIT", ["has the text in LICENSE"],
        ),
        ("License: MIT", {"made-1.dist-info/LICENSE": "may be combined with the GPL", "made/gpl.py": ""}, "MIT", []),
    ],
)  # fmt: skip
def test_what_a_package_declares_and_brings(
    head: str, files: dict[str, str], licence: str, obligations: list[str], tmp_path: Path
) -> None:
    package = package_of(tmp_path, head, files)
    assert read_licence(package) == licence
    assert find_obligations(package) == obligations


def test_each_package_belongs_to_the_first_part_that_needs_it() -> None:
    if find_installed("torch") is None or find_installed("lightning-fabric") is None:
        pytest.skip("PyTorch is not installed here")
    expected = {"numpy": "runtime", "flatbuffers": "runtime", "openvino": "engines", "torch": "training and export"}
    expected |= {"aiohttp": "training and export", "pytest": "development"}
    assert find_parts([*expected]) == expected  # aiohttp by lightning-fabric's fsspec[http]
