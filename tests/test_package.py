"""What is packed: links resolve, and the files that `make` needs are there."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join, normpath

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def relative_links(text: str) -> Iterator[str]:
    """Targets of links and pictures that are files; anchors are left out, and so is code."""
    text = re.sub(r"^(```.*?^```|    .*?$)", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://", "#")):
            yield target.partition("#")[0]


def test_every_link_of_a_page_is_in_the_source_distribution(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    pages = sorted(name for name in names if name.endswith(".md") and not name.startswith("tests/"))
    assert {"README.md", "CHANGELOG.md", "docs/engines.md", "Makefile", "requirements-dev.txt"} <= names
    links = {(page, normpath(join(dirname(page), link))) for page in pages for link in relative_links(read(page))}
    assert len(links) > 30
    assert [(page, target) for page, target in links if target not in names] == []


def test_the_packages_description_has_no_link_to_a_file_beside_it(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        head, _, description = archive.read(name).decode().partition("\n\n")
    assert "Description-Content-Type: text/markdown" in head
    assert list(relative_links(description)) == []
    assert "docs/own_data.md" in description  # by its name
    lines = read("README.md").splitlines()
    assert (description.splitlines()[0], description.splitlines()[-1]) == (lines[0], lines[-1])


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")
