"""The Dockerfiles install the locked packages, lint clean, and can be carried out; docker/check.py reads them right."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.supply.packages import ROOT, find_needed, read_lock

DOCKER = ROOT / "docker"
OWN = ("Dockerfile.cpu", "Dockerfile.gpu")
"""Images that start `afsd`."""
FILES = (*OWN, "Dockerfile.ray", "Dockerfile.triton")


def load_check() -> ModuleType:
    """docker/check.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("docker_check", DOCKER / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docker_check"] = module
    spec.loader.exec_module(module)
    return module


check = load_check()


def pinned(name: str) -> dict[str, str]:
    return {canonicalize_name(package.name): package.version for package in read_lock(ROOT / name)}


def closure(*wanted: str) -> set[str]:
    """Names of packages with all that they need, of what is installed here."""
    found: set[tuple[str, tuple[str, ...]]] = set()
    waiting = [Requirement(line) for line in wanted]
    while waiting:
        one = waiting.pop()
        key = canonicalize_name(one.name), tuple(sorted(one.extras))
        if key not in found:
            found.add(key)
            waiting += find_needed(key[0], one.extras)
    return {name for name, _ in found}


def test_the_image_has_what_the_runtime_needs_in_the_locked_versions_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    image, lock = pinned("docker/requirements-cpu.txt"), pinned("requirements-dev.txt")
    assert set(image) == closure(*project["dependencies"], *extras["openvino"], *extras["remote"], *extras["serve"])
    assert image.items() <= lock.items()
    assert not {name for name in image if name in ("torch", "onnx", "tensorrt") or name.startswith("nvidia")}


def test_the_wheel_is_built_by_locked_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build, lock = pinned("docker/requirements-build.txt"), pinned("requirements-dev.txt")
    assert set(build) == closure(*project["build-system"]["requires"])
    assert build.items() <= lock.items()


@pytest.mark.parametrize("name", FILES)
def test_hadolint_finds_nothing(name: str) -> None:
    program = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([program, str(DOCKER / name)], capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def test_hadolint_finds_something(tmp_path: Path) -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("hadolint is not installed")
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN cd /tmp && sudo ls\n")
    done = subprocess.run([program, str(tmp_path / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DL3006" in done.stdout


@pytest.mark.parametrize("name", OWN)
def test_an_image_is_not_root_and_starts_afsd(name: str) -> None:
    """What a container runtime is told, by the instructions of the last stage and those it begins with."""
    stages = {stage.name: stage for stage in check.read_stages((DOCKER / name).read_text())}
    for target in ("afsd", "serve"):
        line = [*stages[stages[target].base].instructions, *stages[target].instructions]
        said = {found.word: found.text for found in line}
        assert said["USER"] == "10001:10001"
        assert json.loads(said["ENTRYPOINT"]) == ["afsd"]
        assert ("HEALTHCHECK" in said) is (target == "serve")
        assert ("8000" in said.get("EXPOSE", "")) is (target == "serve")
        labels = next(found.text for found in line if found.word == "LABEL")
        assert 'org.opencontainers.image.licenses="Apache-2.0' in labels
        copied = [found.text for found in line if found.word == "COPY"]
        assert copied == ["--from=packages /opt/afsd /opt/afsd"]
        assert not [found for found in line if found.word == "RUN" and "pip" in found.text]


@pytest.mark.parametrize(("name", "base"), [("Dockerfile.ray", "RAY_IMAGE"), ("Dockerfile.triton", "TRITON_IMAGE")])
def test_an_image_on_another_s_base_is_not_root_and_adds_the_locked_packages(name: str, base: str) -> None:
    """What the base starts stays; packages are bounded by the lock, and what was installed is imported at once."""
    text = (DOCKER / name).read_text()
    stages = {stage.name: stage for stage in check.read_stages(text, {base: "the-base"})}
    assert stages["afsd"].base == "the-base"
    said = {found.word: found.text for found in stages["afsd"].instructions}
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", said["USER"])
    assert "ENTRYPOINT" not in said
    (installing,) = (
        found.text for stage in stages.values() for found in stage.instructions
        if found.word == "RUN" and "dist/*.whl" in found.text
    )  # fmt: skip
    for lock in ("requirements-dev.txt", "requirements-gpu.txt"):
        assert re.search(rf"--constraint \S+/{lock}", installing)
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    wanted = re.search(r"\[\$\{LIBRARY\},([\w,]+)\]", installing)
    assert wanted is not None
    assert set(wanted[1].split(",")) <= extras
    assert re.search(r"^ARG LIBRARY=openvino$", text, re.M)
    assert re.search(r"python3? -c 'import [\w., ]*runtime\.", installing)


def test_the_store_s_package_is_of_the_release_of_the_lock_s_fsspec() -> None:
    """Each release of s3fs asks for the fsspec of its own number."""
    store = re.search(r"^ARG STORE=s3fs\nARG STORE_VERSION=(\S+)$", (DOCKER / "Dockerfile.ray").read_text(), re.M)
    assert store is not None
    assert store[1] == pinned("requirements-dev.txt")["fsspec"]


def test_the_wheel_is_built_alike_in_all_images() -> None:
    """One stage, in four files, since a Dockerfile includes no other."""
    stages = [next(iter(check.read_stages((DOCKER / name).read_text()))) for name in FILES]
    told = [[(found.word, found.text) for found in stage.instructions] for stage in stages]
    assert told[1:] == told[:1] * (len(FILES) - 1)
    assert {stage.name for stage in stages} == {"wheel"}


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_is_there_and_not_ignored(name: str) -> None:
    ignored = check.read_ignored(ROOT)
    for stage in check.read_stages((DOCKER / name).read_text()):
        for found in stage.instructions:
            if found.word == "COPY" and "--from" not in found.text:
                for word in found.text.split()[:-1]:
                    assert (ROOT / word).exists(), word
                    assert not check.is_ignored(word, ignored), word


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("runtime/cli.py", False), ("docker/requirements-cpu.txt", False), ("README.md", False),
        ("runs/demo/synthetic.onnx", True), (".git/config", True), (".env", True), ("runtime/.env", True),
        ("runtime/__pycache__/cli.cpython-311.pyc", True), ("tests/conftest.py", True), ("docker/compose.yaml", True),
        (".venv/bin/python", True), ("video.mp4", True),
    ],
)  # fmt: skip
def test_the_context_holds_the_packages_alone(path: str, left_out: bool) -> None:
    assert check.is_ignored(path, check.read_ignored(ROOT)) is left_out


def test_stages_are_read_as_docker_reads_them() -> None:
    text = (
        "# syntax=docker/dockerfile:1\nARG BASE=debian:trixie\nFROM ${BASE} AS one\nRUN a \\\n    # why\n    && b\n"
        'FROM scratch AS two\nCOPY --from=one /x /\nFROM one\nCMD ["c"]\n'
    )
    one, two, last = check.read_stages(text, {"BASE": "debian:bookworm"})
    assert (one.base, two.base, last.name, last.base) == ("debian:bookworm", "scratch", "2", "one")
    assert [(found.word, found.text, found.line) for found in one.instructions] == [("RUN", "a && b", 4)]
    assert [stage.name for stage in check.choose_stages([one, two, last], "two")] == ["one", "two"]
    assert [stage.name for stage in check.choose_stages([one, two, last], "2")] == ["one", "2"]
    with pytest.raises(check.DockerfileError, match="got the target 'three', expected one of one, two, 2"):
        check.choose_stages([one, two, last], "three")


def test_files_are_copied_as_docker_copies_them(tmp_path: Path) -> None:
    """Folders give their contents, files keep their names in a folder, and what is ignored stays away."""
    context, base = tmp_path / "context", tmp_path / "base"
    (context / "code/inner").mkdir(parents=True)
    for name in ("code/a.py", "code/inner/b.pyc", "lock.txt"):
        (context / name).write_text(name)
    (context / ".dockerignore").write_text("**/*.pyc\n")
    (base / "etc").mkdir(parents=True)
    text = "FROM x AS one\nWORKDIR /src\nCOPY code code\nCOPY lock.txt ./\nFROM scratch\nCOPY --from=one /src/ /\n"
    build = check.FolderBuild(base, context, tmp_path / "out", {})
    for stage in check.read_stages(text):
        image = build.build(stage)
    files = {path.relative_to(image.root).as_posix() for path in image.root.rglob("*") if path.is_file()}
    assert files == {"code/a.py", "lock.txt"}
    assert (tmp_path / "out/one/etc").is_dir()
    with pytest.raises(check.DockerfileError, match="line 2: ADD is not known here"):
        build.build(check.read_stages("FROM scratch AS three\nADD a b\n")[0])


@pytest.mark.slow
def test_the_image_detects_without_network_as_another_user(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """AFSD_BASE_ROOT=FOLDER: the files of a base image with Python (docs/deploy.md says how to make it); needs root."""
    base = os.environ.get("AFSD_BASE_ROOT")
    if not base or os.geteuid():
        pytest.skip("AFSD_BASE_ROOT is not set, or this is not root")
    stages = check.read_stages((DOCKER / "Dockerfile.cpu").read_text())
    build = check.FolderBuild(Path(base), ROOT, tmp_path / "image", {})
    for stage in check.choose_stages(stages, "afsd"):
        image = build.build(stage)
    assert check.measure_mb(image.root) - check.measure_mb(Path(base)) < 550
    models = tmp_path / "models"
    models.mkdir()
    xml = request.getfixturevalue("exported").openvino
    for suffix in (".xml", ".bin"):
        shutil.copy(xml.with_suffix(suffix), models)
    from tests.videos import write_video

    write_video(models / "video.mp4")
    found = check.run_image(image, ["doctor"], models)
    assert found.returncode == 0, found.stderr
    assert "devices CPU" in found.stdout
    found = check.run_image(image, ["detect", "/models/small.xml", "/models/video.mp4", "--out", "/out"], models)
    assert found.returncode == 0, found.stderr
    found = check.run_image(
        check.replace(image, entrypoint=("python",)),
        ["-c", "import os; print(os.getuid()); open('/etc/x', 'w')"],
        models,
    )
    assert found.stdout == "10001\n"
    assert "Read-only file system" in found.stderr
    found = check.run_image(check.replace(image, entrypoint=("python",)), ["-c", "import torch"], models)
    assert "No module named 'torch'" in found.stderr
