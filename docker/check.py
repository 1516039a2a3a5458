"""Build a Dockerfile's stages as folders, by chroot, where no Docker daemon is at hand, and run what was built.

python docker/check.py docker/Dockerfile.cpu --base BASE --out build/image

BASE is a folder with the files of the base image; it stands for every image that is named after FROM but `scratch`.
docs/deploy.md says how to make one. Every RUN is carried out, as root, in a folder that holds the base's files and what
the instructions before have put there. Of Docker's instructions those that these Dockerfiles use are known; any other,
and any flag of COPY but --from, is refused.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

WITHOUT_EFFECT = ("LABEL", "EXPOSE", "HEALTHCHECK")
"""Instructions that change neither the files of an image nor the process that it starts."""

FILES_OF_THE_NETWORK = ("etc/resolv.conf", "etc/hosts")
"""Files of this machine that a build needs to reach a package index; Docker puts its own there."""

CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE")
"""Variables of this machine that name the certificates which its pip is to trust."""

START_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
"""PATH of a base image."""


class DockerfileError(Exception):
    """Says what of a Dockerfile cannot be built here."""


@dataclass(frozen=True)
class Instruction:
    """Holds one instruction of a Dockerfile, continued lines joined."""

    word: str
    """First word, in capitals."""
    text: str
    """What follows it."""
    line: int
    """Number of its first line."""


@dataclass
class Stage:
    """Holds the instructions from one FROM to the next."""

    name: str
    """Name after AS; a stage without is known by its number."""
    base: str
    """Image or stage that it begins with."""
    instructions: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True)
class Image:
    """Holds what was made of a stage: its files, and how a process starts in it."""

    root: Path
    """Folder with the files."""
    environment: Mapping[str, str]
    user: str = "0:0"
    place: str = "/"
    """Folder in which a process starts."""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def read_instructions(text: str) -> Iterator[Instruction]:
    """Yield the instructions of a Dockerfile; comments, also between continued lines, are left out."""
    joined, begun = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or not (joined or line.strip()):
            continue
        begun = begun if joined else number
        joined += line.strip().removesuffix("\\")
        if line.rstrip().endswith("\\"):
            continue
        word, _, rest = joined.partition(" ")
        yield Instruction(word.upper(), rest.strip(), begun)
        joined = ""


def read_stages(text: str, arguments: Mapping[str, str] | None = None) -> list[Stage]:
    """Read the stages of a Dockerfile.

    Args:
        text: the Dockerfile.
        arguments: values of ARGs, as of `--build-arg`.

    Raises:
        DockerfileError: an instruction before the first FROM that is no ARG, or a FROM with flags.
    """
    given = dict(arguments or {})
    known: dict[str, str] = {}
    stages: list[Stage] = []
    for found in read_instructions(text):
        if found.word == "FROM":
            parts = re.fullmatch(r"([^\s-]\S*)(?:\s+AS\s+(\S+))?", found.text, re.I)
            if parts is None:
                raise DockerfileError(f"line {found.line}: got FROM {found.text}, expected FROM IMAGE AS NAME")
            stages.append(Stage(parts[2] or str(len(stages)), expand(parts[1], known)))
        elif stages:
            stages[-1].instructions.append(found)
        elif found.word == "ARG":
            name, _, default = found.text.partition("=")
            known[name] = given.get(name, default)
        else:
            raise DockerfileError(f"line {found.line}: got {found.word} before the first FROM, expected ARG")
    return stages


def choose_stages(stages: list[Stage], target: str) -> list[Stage]:
    """Return the stages that a target is made of, in the order in which they are built, the target last.

    Raises:
        DockerfileError: no stage of this name.
    """
    names = [stage.name for stage in stages]
    if target not in names:
        raise DockerfileError(f"got the target {target!r}, expected one of {', '.join(names)}")
    wanted = {target}
    for stage in reversed(stages):
        if stage.name in wanted:
            copied = [re.search(r"--from=(\S+)", found.text) for found in stage.instructions if found.word == "COPY"]
            wanted |= {stage.base} | {found[1] for found in copied if found}
    return [stage for stage in stages if stage.name in wanted]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace $NAME and ${NAME} by their values; unknown ones by nothing, as Docker does."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: variables.get(found[1] or found[2], ""), text)


class FolderBuild:
    """Builds stages as folders beside each other.

    Args:
        base: folder that stands for every image after FROM.
        context: folder that COPY takes from.
        out: folder that the stages' folders are made in.
        arguments: values of ARGs.
    """

    def __init__(self, base: Path, context: Path, out: Path, arguments: Mapping[str, str]) -> None:
        self.base, self.context, self.out, self.arguments = base, context.resolve(), out.resolve(), dict(arguments)
        self.images: dict[str, Image] = {}
        self.ignored = read_ignored(context)

    def build(self, stage: Stage) -> Image:
        """Build a stage; those that it needs are built already.

        Raises:
            DockerfileError: an instruction that is not known here.
            subprocess.CalledProcessError: a RUN fails.
        """
        root = self.out / stage.name
        before = self.images.get(stage.base)
        if stage.base == "scratch":
            root.mkdir(parents=True)
        else:
            copy_tree(before.root if before else self.base, root)
        image = replace(before, root=root) if before else Image(root, {"PATH": START_PATH})
        local: dict[str, str] = {}
        for found in stage.instructions:
            image = self._carry_out(found, image, local)
        self.images[stage.name] = image
        return image

    def _carry_out(self, found: Instruction, image: Image, local: dict[str, str]) -> Image:
        """Carry out one instruction and return the image after it; ARGs are added to `local`."""
        variables = {**image.environment, **local}
        match found.word:
            case "ARG":
                name, _, default = found.text.partition("=")
                local[name] = self.arguments.get(name, expand(default.strip('"'), variables))
            case "ENV":
                pairs = [pair.partition("=") for pair in shlex.split(found.text)]
                added = {name: expand(value, variables) for name, _, value in pairs}
                return replace(image, environment={**image.environment, **added})
            case "WORKDIR":
                place = expand(found.text, variables)
                inside(image.root, place).mkdir(parents=True, exist_ok=True)
                return replace(image, place=place)
            case "USER":
                return replace(image, user=found.text)
            case "ENTRYPOINT":
                return replace(image, entrypoint=tuple(json.loads(found.text)))
            case "CMD":
                return replace(image, command=tuple(json.loads(found.text)))
            case "COPY":
                self._copy(image, expand(found.text, variables))
            case "RUN":
                print(f"RUN {found.text}", flush=True)
                run_in_build(replace(image, environment=variables), ["/bin/sh", "-c", found.text])
            case word if word not in WITHOUT_EFFECT:
                raise DockerfileError(f"line {found.line}: {word} is not known here")
        return image

    def _copy(self, image: Image, text: str) -> None:
        words = shlex.split(text)
        source = self.context
        while words[0].startswith("--"):
            flag, _, value = words.pop(0).partition("=")
            if flag != "--from":
                raise DockerfileError(f"COPY {flag} is not known here")
            source = self.images[value].root
        *names, target = words
        goal = inside(image.root, target if target.startswith("/") else f"{image.place}/{target}")
        for path in (path for name in names for path in find_copied(source, name)):
            if source == self.context and is_ignored(path.relative_to(source).as_posix(), self.ignored):
                raise DockerfileError(f"COPY {path.name}: .dockerignore leaves it out")
            if path.is_dir():
                copy_tree(path, goal, self.ignored if source == self.context else [], path.name)
            else:
                into = goal / path.name if target.endswith("/") else goal
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, into)


def inside(root: Path, path: str) -> Path:
    """Return a path of an image as a path below its folder."""
    return root / os.path.normpath("/" + path).lstrip("/")


def find_copied(source: Path, name: str) -> list[Path]:
    """Return the files or folders that a word of COPY names (DockerfileError: there is none)."""
    path = inside(source, name)
    found = sorted(path.parent.glob(path.name)) if "*" in path.name else [path]
    if not found or not found[0].exists():
        raise DockerfileError(f"COPY {name}: not found in {source}")
    return found


def copy_tree(source: Path, target: Path, ignored: Sequence[str] = (), name: str = "") -> None:
    """Copy a folder with owners, modes and links; what is in the target stays.

    Args:
        source: folder.
        target: folder, made if it is not there.
        ignored: patterns of .dockerignore.
        name: path of the folder in the context, for these patterns.
    """
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--archive", "--reflink=auto", f"{source}/.", str(target)], check=True)
    if ignored:
        for path in sorted(target.rglob("*"), reverse=True):
            if is_ignored(f"{name}/{path.relative_to(target).as_posix()}", ignored):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def read_ignored(context: Path) -> list[str]:
    """Read the patterns of a context's .dockerignore; none without the file."""
    file = context / ".dockerignore"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_ignored(name: str, patterns: Sequence[str]) -> bool:
    """Return whether .dockerignore leaves a path out: the last pattern that fits it or a folder above it decides."""
    parts = name.split("/")
    left_out = False
    for pattern in patterns:
        shape = pattern.lstrip("!").strip("/")
        if any(_fits("/".join(parts[:count]), shape) for count in range(1, len(parts) + 1)):
            left_out = not pattern.startswith("!")
    return left_out


def _fits(path: str, shape: str) -> bool:
    """Return whether a path fits a pattern: * within one folder, **/ for any folders above."""
    if shape.startswith("**/"):
        parts, rest = path.split("/"), shape.removeprefix("**/")
        return any(_fits("/".join(parts[begin:]), rest) for begin in range(len(parts)))
    return path.count("/") == shape.count("/") and fnmatch.fnmatchcase(path, shape)


ENTER = """
root=$1; way=$2; shift 2
mount --bind "$root" "$root"
mkdir -p "$root/proc"
mount -t proc proc "$root/proc"
if [ "$way" = run ]; then
    mkdir -p "$root/models"
    mount --bind "$MODELS" "$root/models"
    mount -o remount,bind,ro "$root/models"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    for place in cache out; do mount -t tmpfs -o uid=10001,gid=10001,mode=0700 tmpfs "$root/$place"; done
    mount -o remount,bind,ro "$root"
fi
exec "$@"
"""
"""Script that mounts in a namespace of its own what a container has, and then carries out the rest of its words."""


def run_in_build(image: Image, words: list[str]) -> None:
    """Carry out a command of a build in an image's folder (subprocess.CalledProcessError: it fails)."""
    lent = lend_network(image.root)
    passed = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name in CERTIFICATES}
    image = replace(image, environment=passed | dict(image.environment))
    try:
        subprocess.run(["unshare", "--mount", *_enter(image, "build", words)], check=True)
    finally:
        for path, before in lent.items():
            if before is None:
                path.unlink()
            else:
                path.write_bytes(before)


def run_image(image: Image, words: list[str], models: Path) -> subprocess.CompletedProcess[str]:
    """Start an image as `docker run --read-only --network none` does, with a folder mounted read-only at /models.

    /tmp, /cache and /out are empty and take files.

    Args:
        image: image.
        words: what follows its entry point.
        models: folder that is mounted.
    """
    command = ["unshare", "--net", "--mount", *_enter(image, "run", [*image.entrypoint, *words])]
    environment = dict(os.environ) | {"MODELS": str(models)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _enter(image: Image, way: str, words: list[str]) -> list[str]:
    """Return the command that enters an image's folder and carries out words there."""
    variables = [f"{name}={value}" for name, value in image.environment.items()]
    root = str(image.root)
    enter = ["chroot", f"--userspec={image.user}", root, "/usr/bin/env", "-i", "-C", image.place, *variables, *words]
    return ["sh", "-euc", ENTER, "sh", root, way, *enter]


def lend_network(root: Path) -> dict[Path, bytes | None]:
    """Put this machine's files of the network below a folder, and return what was there before."""
    certificates = {os.environ.get(name, "").lstrip("/") for name in CERTIFICATES} - {""}
    before: dict[Path, bytes | None] = {}
    for name in (*FILES_OF_THE_NETWORK, *sorted(certificates)):
        source, target = Path("/") / name, root / name
        if source.is_file():
            before[target] = target.read_bytes() if target.is_file() else None
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    return before


def measure_mb(folder: Path) -> float:
    """Return the size of a folder's files in millions of bytes, files with several names once."""
    sizes = {(facts.st_dev, facts.st_ino): facts.st_size for facts in (path.lstat() for path in folder.rglob("*"))}
    return sum(sizes.values()) / 1e6


def main(words: list[str] | None = None) -> int:
    """Build the target and print where it is and its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="folder with the files of the base image")
    parser.add_argument("--context", type=Path, default=Path(), help="folder that COPY takes from (default: this one)")
    parser.add_argument("--target", help="stage to build (default: the last)")
    parser.add_argument("--out", type=Path, required=True, help="new folder; each stage becomes a folder in it")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args(words)
    if arguments.out.exists():
        parser.error(f"{arguments.out}: is there already; choose another --out")
    given = dict(pair.split("=", 1) for pair in arguments.build_arg)
    try:
        stages = read_stages(arguments.dockerfile.read_text(encoding="utf-8"), given)
        build = FolderBuild(arguments.base, arguments.context, arguments.out, given)
        for stage in choose_stages(stages, arguments.target or stages[-1].name):
            image = build.build(stage)
    except (DockerfileError, OSError, subprocess.CalledProcessError) as error:
        print(f"{arguments.dockerfile}: {error}", file=sys.stderr)
        return 2
    print(f"{image.root}: {measure_mb(image.root):.0f} MB, of it {measure_mb(arguments.base):.0f} MB of the base")
    return 0


if __name__ == "__main__":
    sys.exit(main())
