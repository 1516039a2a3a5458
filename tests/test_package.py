"""What is packed: links resolve, and the files that `make` needs are there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join, normpath

import pytest

ROOT = Path(__file__).resolve().parent.parent


PACKAGES = ("runtime", "training", "export", "calibration")
DATA = {"export/boundary_pooling/kernel.cu", "training/pretrained/synthetic.ckpt", "tests/mutation/explained.json"} | {
    "tests/export/boundary_pooling/host.cpp",
}
"""Files of the packages and the tests that are neither code, settings nor golden numbers."""
ASSETS = ("runtime/report/assets/", "runtime/service/assets/")
"""Folders of what pages are made of."""

STRAYS = (
    "NOTES.md", "runs/mine/last.ckpt", ".venv/lib/secret.py", ".hypothesis/examples/1", "build/old.py", "dist/old.whl",
    ".env", "runtime/.env", "runtime/notes.txt", "runtime/video/film.mp4", "runtime/__pycache__/cli.cpython-311.pyc",
    "training/pretrained/mine.ckpt", "training/data.json", "export/model.onnx", "calibration/.DS_Store",
    "tests/runs/x.npz", "tests/__pycache__/x.cpython-311.pyc", "tests/golden/__pycache__/x.pyc", "docs/draft.docx",
    "runtime/report/page.html", "runtime/service/page.html", "docker/.env", "docker/notes.txt.bak",
)  # fmt: skip
"""What may lie about on the machine that builds."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel, built where files lie about that are no part of it."""
    pytest.importorskip("hatchling")
    tree, folder = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in (*PACKAGES, "tests", "docs", "docker"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (path for path in ROOT.iterdir() if path.is_file()):
        shutil.copy(path, tree)
    for stray in STRAYS:
        assert not (tree / stray).exists()
        (tree / stray).parent.mkdir(parents=True, exist_ok=True)
        (tree / stray).write_text("stray")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    return folder


def packed(built: Path, kind: str) -> set[str]:
    """Names of the files in the wheel or the source distribution, without the folder that it unpacks to."""
    (archive,) = built.glob(f"*{kind}")
    if kind == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return set(wheel.namelist())
    with tarfile.open(archive) as tar:
        return {member.name.partition("/")[2] for member in tar.getmembers() if member.isfile()}


def sources(*places: str) -> set[str]:
    """Files that belong to the repository: known to git, or of a kind that does where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout:
        return {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}
    found = {path.relative_to(ROOT).as_posix() for place in places for path in (ROOT / place).rglob("*")}
    return {name for name in found if (ROOT / name).is_file() and "__pycache__" not in name}


def is_content(name: str) -> bool:
    """Whether a file of the packages is code, settings, or named data."""
    return name.endswith((".py", ".yaml", "/py.typed")) or name in DATA or name.startswith(ASSETS)


def test_the_wheel_has_the_packages_and_nothing_else(built: Path) -> None:
    names = packed(built, ".whl")
    about = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    assert {name.split("/", 1)[1] for name in about} == {
        "METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE",
    }  # fmt: skip
    assert names - about == {name for name in sources(*PACKAGES) if is_content(name)}
    assert {name.split("/")[0] for name in names - about} == set(PACKAGES)
    assert len(names) > 200


def test_the_source_distribution_has_what_make_needs_and_nothing_else(built: Path) -> None:
    names = packed(built, ".tar.gz")
    above = {name for name in names if "/" not in name}
    assert above == {
        "README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE", "Makefile", "hatch_build.py", "pyproject.toml",
        "PKG-INFO", "requirements-dev.txt", "requirements-gpu.txt", "requirements-audit.txt", "requirements-camera.txt",
        "requirements-triton.txt", ".gitignore", ".dockerignore",
    }  # fmt: skip
    inner = names - above
    assert not inner & set(STRAYS)
    expected = {name for name in sources(*PACKAGES, "tests") if is_content(name) or name.startswith("tests/golden/")}
    pages = {name for name in sources("docs") if name.endswith((".md", ".png"))}
    assert inner == expected | pages | sources("docker")


def test_every_file_of_the_packages_is_known_to_be_one() -> None:
    """A file of another kind would be missing in the wheel: name it in pyproject.toml and here."""
    assert {name for name in sources(*PACKAGES) if not is_content(name)} == set()


def relative_links(text: str) -> Iterator[str]:
    """Targets of links and pictures that are files; anchors are left out, and so is code."""
    text = re.sub(r"^(```.*?^```|    .*?$)", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://", "#")):
            yield target.partition("#")[0]


def test_every_link_of_a_page_is_in_the_source_distribution(built: Path) -> None:
    names = packed(built, ".tar.gz")
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
