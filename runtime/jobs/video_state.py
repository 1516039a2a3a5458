"""Tell whether a video is still the one that it was: cheaply by size and time first, then by its content.

| source | cheap | content |
|---|---|---|
| file, features | size and time of change of each file | SHA-256 of the bytes |
| folder of images | the same of all images | SHA-256 over names, sizes and contents |
| object store (fsspec) | tag and size that the store gives, or time and size | the same: nothing is read |
| http, https | tag, size and time of a HEAD request | the same |
| other URL, or one of which nothing is known | the address | the address |
| camera, standard input, array | none: such a source is never taken for the one before | none |
"""

from __future__ import annotations

import hashlib
import threading
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runtime.common.files import file_sha256, is_file, is_folder
from runtime.common.object_store import SIZES, TAGS, TIMES, first_of
from runtime.features.video_features import Features
from runtime.jobs.plan import Source
from runtime.video.names import video_digest
from runtime.video.readers.images import list_images
from runtime.video.sources import STDIN, is_live, is_remote, local_path, scheme_of
from runtime.video.stores import ask_facts

HEAD_S = 10.0
"""Longest wait in seconds for each part of the answer to a HEAD request."""
FACTS_S = 30.0
"""Longest wait in seconds for what a server or store says of a file."""


@dataclass(frozen=True)
class VideoState:
    """Holds what a video was when its results were made."""

    quick: str
    """Sizes and times of its files; of a URL what the store says, or the address."""
    digest: str
    """Content; see the table of this module."""


def look_at(source: Source) -> str:
    """Return the cheap part of a video's state; empty for a source that is gone, or is never the same."""
    files = files_of(source)
    if files is not None:
        with suppress(OSError):
            states = [file.stat() for file in files]
            if len(states) == 1:
                return f"{states[0].st_size} bytes, {states[0].st_mtime_ns} ns"
            if states:
                return "sha256:" + _sha256(
                    f"{file.name}\0{state.st_size}\0{state.st_mtime_ns}\n"
                    for file, state in zip(files, states, strict=True)
                )
        return ""
    if not isinstance(source, str) or source == STDIN or is_live(source):
        return ""
    known = _remote_facts(source)
    return "remote:" + _sha256([*known, _address(source, whole=not known)])


def state_of(source: Source, quick: str | None = None) -> VideoState | None:
    """Return the state of a video, reading its files; None for a source that is gone, or is never the same.

    Args:
        source: the video.
        quick: what `look_at` has just returned; None: look now, before the files are read.

    Raises:
        OSError: a file cannot be read.
    """
    quick = look_at(source) if quick is None else quick
    if not quick:
        return None
    if isinstance(source, Features):
        digests = [file_sha256(path) for path in source.paths]
        return VideoState(quick, "sha256:" + (digests[0] if len(digests) == 1 else _sha256(digests)))
    path = local_path(source) if isinstance(source, str) else None
    if path is None:
        return VideoState(quick, quick)
    return VideoState(quick, "sha256:" + (video_digest(path) if is_folder(path) else file_sha256(path)))


def files_of(source: Source) -> list[Path] | None:
    """Return the files of a video, none if it is gone; None for a source that has no files here."""
    if isinstance(source, Features):
        return list(source.paths) if len(source.paths) == len(source.streams) else None
    path = local_path(source) if isinstance(source, str) else None
    if path is None:
        return None
    if is_folder(path):
        return list(list_images(path))
    return [path] if is_file(path) else []


def _remote_facts(url: str) -> list[str]:
    """Return what an object store or server says of a file; [] where that says too little, or nobody answers in time.

    A server may send a header a byte at a time, for ever, and a store's library may try again for minutes.
    """
    answers: list[list[str]] = []

    def ask() -> None:
        with suppress(Exception):  # whatever a store's library, or the network, finds wrong: opening the video says it
            answers.append(list(ask_facts(url)) if is_remote(url) else _server_facts(url))

    thread = threading.Thread(target=ask, name="afsd-ask", daemon=True)
    thread.start()
    thread.join(FACTS_S)
    return answers[0] if answers else []


def _server_facts(url: str) -> list[str]:
    facts = _http_facts(url)
    tag, time, size = (first_of(facts, names) for names in (TAGS, TIMES, SIZES))
    return [f"tag {tag}", f"time {time}", f"size {size}"] if tag or (time and size) else []


def _http_facts(url: str) -> Mapping[str, Any]:
    if scheme_of(url) not in ("http", "https"):
        return {}
    request = urllib.request.Request(url, method="HEAD")
    with urllib.request.urlopen(request, timeout=HEAD_S) as answer:
        return {name: answer.headers[name] for name in ("ETag", "Last-Modified", "Content-Length")}


def _address(url: str, *, whole: bool) -> str:
    """Return host and path of a URL, and its query where the address is all that is known; never user and password."""
    parts = urlsplit(url, allow_fragments=not is_remote(url))
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{place}?{parts.query}" if whole else place


def _sha256(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode(errors="surrogateescape")).hexdigest()
