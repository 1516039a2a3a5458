"""Mirror a data set of an object store on this machine.

Training reads windows here and there in memory-mapped arrays, epoch after epoch, so the data has to be on a disk of the
machine; over a network each window would be a request of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from runtime.common.console import plain_stderr, shows_progress
from runtime.common.files import atomic_path, read_json, require_writable_folder, write_json
from runtime.common.locks import lock_folder
from runtime.common.object_store import SIZES, TAGS, TIMES, first_of, open_filesystem
from runtime.common.text import one_line
from runtime.engines.openvino.cache import default_folder
from runtime.errors import AfsdError, InputError
from runtime.video.sources import is_remote, name_of
from training.config.settings import Config

INDEX = ".afsd-mirror.json"
"""File of a mirror that has, for each file in it, what the store said of it when it was fetched."""

INDEX_S = 5.0
"""Seconds between two writings of the index while files are fetched; a kill costs what came after the last."""

LONGEST_WAIT_S = 7 * 24 * 3600.0
"""Seconds for which a process waits while another fetches the same data."""

CHUNK = 1 << 20
"""Bytes that are copied at a time."""


def mirror_data(config: Config) -> Config:
    """Return the configuration with `data.root` on this machine: as it is, or the mirror of a URL, brought up to date.

    Raises:
        InputError: the store cannot be read, or the mirror cannot be written.
        MissingDependencyError: fsspec is not installed.
    """
    root = config.data.root
    if not is_remote(root):
        return config
    return replace(config, data=replace(config.data, root=str(mirror(root, mirror_folder(root)))))


def mirror_folder(url: str) -> Path:
    """Return the folder of a URL's mirror, in the user's cache folder (InputError: the user has no home folder)."""
    cache = default_folder()
    if cache is None:
        raise InputError("data.root is a URL, but there is no home folder for its mirror; set XDG_CACHE_HOME")
    name, _ = name_of(url.rstrip("/"))
    return cache.parent / "data" / f"{name}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:16]}"


def mirror(url: str, folder: Path) -> Path:
    """Fetch the files below a URL that are new or changed, remove those that are gone there, and return the folder.

    Several processes may call it at once; one fetches, the others wait and then find nothing to do.

    Args:
        url: address that fsspec takes, as s3://bucket/set.
        folder: mirror; other files in it stay, unless one of the store has their name.

    Raises:
        InputError: nothing is there, it cannot be read, a name leads out of the folder, or the disk is full.
        MissingDependencyError: fsspec is not installed.
    """
    _, label = name_of(url)
    require_writable_folder(folder, "set XDG_CACHE_HOME to a folder with room")
    with lock_folder(folder, "the mirror of a data set", wait_s=LONGEST_WAIT_S):
        filesystem, top = open_filesystem(url, f"reading {label}")
        found = _list_files(filesystem, top, label)
        known = _read_index(folder / INDEX)
        for name in set(known) - set(found):
            (folder / name).unlink(missing_ok=True)
            del known[name]
        wanted = [name for name in sorted(found) if not _is_current(folder / name, known.get(name), found[name])]
        _fetch(filesystem, top, label, folder, {name: found[name] for name in wanted}, known)
    return folder


def _list_files(filesystem: Any, top: str, label: str) -> dict[str, dict[str, str]]:
    """Return the files below a place of a store: name relative to it → what the store says of the file."""
    try:
        filesystem.invalidate_cache()
        listed: Mapping[str, Mapping[str, Any]] = filesystem.find(top, detail=True)
    except Exception as error:
        raise InputError(f"{label}: cannot be listed ({one_line(error)}); check the address and the access") from None
    found = {}
    for path, facts in listed.items():
        name = path.strip("/").removeprefix(top.strip("/")).strip("/")
        if name.endswith("/") or facts.get("type") == "directory" or not name:
            continue
        _require_inside(name, label)
        found[name] = _describe(facts)
    if not found:
        raise InputError(f"{label}: no files there; expected the folder of a data set, with its annotations")
    return found


def _require_inside(name: str, label: str) -> None:
    """Raise an InputError for a name that leads out of the folder, or that would be the mirror's own file."""
    parts = name.split("/")
    odd = {"", ".", ".."} & set(parts) or "\\" in name or "\0" in name or os.path.isabs(name)  # noqa: PTH117
    if odd or parts[0] == INDEX or parts[-1].startswith((".afsd-", ".lock")):
        raise InputError(f"{label}: has a file {name!r}, which a mirror cannot hold; rename it there")


def _describe(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return what tells whether a file of a store has changed: its size, and a tag or a time."""
    parts = {"size": SIZES, "tag": TAGS, "time": (*TIMES, "created")}
    said = {part: first_of(facts, names) for part, names in parts.items()}
    return {part: value for part, value in said.items() if value}


def _is_current(path: Path, known: Mapping[str, str] | None, now: Mapping[str, str]) -> bool:
    """Return whether a file of the mirror is what the store has: fetched as such, and of that size still."""
    same = known is not None and dict(known) == dict(now) and len(now) > 1
    return same and path.is_file() and path.stat().st_size == int(now.get("size", -1))


def _read_index(path: Path) -> dict[str, dict[str, str]]:
    """Read the index of a mirror; a damaged one is as none, so that all is fetched again."""
    try:
        content = read_json(path, "index of a mirror", InputError) if path.exists() else {}
    except AfsdError:
        return {}
    entries = content if isinstance(content, dict) else {}
    return {name: facts for name, facts in entries.items() if isinstance(facts, dict) and ".." not in name.split("/")}


def _fetch(
    filesystem: Any,
    top: str,
    label: str,
    folder: Path,
    wanted: Mapping[str, dict[str, str]],
    known: dict[str, dict[str, str]],
) -> None:
    """Fetch files and note them in the index."""
    total = sum(int(facts.get("size", 0)) for facts in wanted.values())
    bar = tqdm(
        total=total, desc=f"fetching {label}"[:60], unit="B", unit_scale=True, file=plain_stderr(),
        disable=not (wanted and shows_progress()),
    )  # fmt: skip
    noted = time.monotonic()
    try:
        for name, facts in wanted.items():
            known.pop(name, None)
            try:
                with filesystem.open(f"{top}/{name}", "rb") as there, atomic_path(folder / name) as path:
                    with path.open("wb") as here:
                        shutil.copyfileobj(there, here, CHUNK)
                    size = path.stat().st_size
            except Exception as error:
                raise InputError(f"{label}/{name}: cannot be fetched to {folder} ({one_line(error)})") from None
            if str(size) != facts.get("size", str(size)):
                raise InputError(f"{label}/{name}: cut off: got {size} bytes of {facts['size']}; start again")
            known[name] = facts
            bar.update(size)
            if time.monotonic() - noted > INDEX_S:
                write_json(folder / INDEX, known)
                noted = time.monotonic()
    finally:
        bar.close()
        write_json(folder / INDEX, known)
