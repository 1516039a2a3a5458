"""Open object stores (s3://…, gs://…) through fsspec, and list the videos of a prefix or a pattern."""

from __future__ import annotations

import glob
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from runtime.common.console import ProgressLine
from runtime.common.log import LOGGER
from runtime.common.natural_order import natural_key
from runtime.common.object_store import SIZES, TAGS, TIMES, first_of, open_filesystem
from runtime.common.text import one_line, public_url
from runtime.errors import AfsdError, InputError, VideoError

NO_PREFIXES = frozenset({".json", ".npy", ".npz"})
"""Further suffixes, beside those of videos, of URLs that name one object; others may be prefixes."""


class ObjectUrl(str):
    """Is the URL of an object that a listing gave, with what the store said of the object."""

    __slots__ = ("known",)
    known: tuple[str, ...]
    """See `object_facts`."""

    def __new__(cls, url: str, known: tuple[str, ...] = ()) -> ObjectUrl:
        """Make the URL; it is equal to the same text without facts."""
        made = super().__new__(cls, url)
        made.known = known
        return made


@dataclass(frozen=True)
class ListedObject:
    """Holds an object that stands for a video."""

    url: str
    place: str = ""
    """Its path below the prefix that was given, as in "day1/cam1.mp4"; empty: a URL or a pattern named it."""


def object_facts(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a store says of an object, the same from a listing as from a request for the object alone.

    It is the tag and the size; without a tag the time of change and the size; empty where the store says less.
    The time beside a tag would add nothing, and some stores list it with other digits.
    """
    tag, changed, size = (first_of(facts, names) for names in (TAGS, TIMES, SIZES))
    if tag:  # quoted, as in HTTP's header, or not
        return (f"tag {tag.strip(chr(34))}", f"size {size}")
    return (f"time {changed}", f"size {size}") if changed and size else ()


def ask_facts(url: str) -> tuple[str, ...]:
    """Return what a store says of an object, see `object_facts`: as the listing had it that gave the URL, else now.

    Raises:
        Exception: whatever the store's package finds wrong.
    """
    if isinstance(url, ObjectUrl) and url.known:
        return url.known
    filesystem, path = open_store(url, f"reading {public_url(url)}")
    return object_facts(filesystem.info(path))


def open_store(url: str, purpose: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it, as `open_filesystem` does.

    Raises:
        VideoError: the address or the access is wrong.
        MissingDependencyError: fsspec, or the store's own package, is not installed.
    """
    try:
        return open_filesystem(url, purpose)
    except InputError as error:
        raise VideoError(str(error)) from None


def list_objects(url: str, suffixes: Collection[str], *, recursive: bool = False) -> list[ListedObject]:
    """Return the objects that a URL of an object store stands for.

    A pattern stands for the objects that match it; a prefix for the videos right below it, in natural order, without
    hidden ones. A URL with a video's suffix is one object, of which nothing is asked before it is opened.

    Args:
        url: address, such as s3://bucket/videos/, s3://bucket/day*/*.mp4 or s3://bucket/clip.mp4.
        suffixes: suffixes of videos, in lower case.
        recursive: take the videos of all prefixes below a prefix, too.

    Raises:
        VideoError: nothing matches, there is no video, or the store cannot be listed.
        MissingDependencyError: see `open_store`.
    """
    is_pattern = glob.has_magic(url)
    if not is_pattern and PurePosixPath(url).suffix.lower() in {*suffixes, *NO_PREFIXES} and not url.endswith("/"):
        return [ListedObject(url)]
    label, began = public_url(url), time.monotonic()
    if not url.partition("://")[2].strip("/"):
        raise VideoError(f"{label}: names no bucket; expected an address such as {label.rstrip('/')}//bucket/videos/")
    with ProgressLine() as line:
        line.show(f"listing {label} …")
        filesystem, top = open_store(url, f"listing {label}")
        with _explained(label):
            filesystem.invalidate_cache()  # of an earlier listing in this process
            prefix = _Prefix(filesystem, url, top)
            try:
                found = prefix.match(suffixes, recursive) if is_pattern else prefix.look(suffixes, recursive)
            finally:
                filesystem.invalidate_cache()  # has all of the listing in memory
    LOGGER.info("%s: listed %d videos in %.1f s", label, len(found), time.monotonic() - began)
    return found


class _Prefix:
    """Lists what lies below a place of a store."""

    def __init__(self, filesystem: Any, url: str, top: str) -> None:
        self._filesystem, self._url, self._top = filesystem, url, top

    def look(self, suffixes: Collection[str], recursive: bool) -> list[ListedObject]:
        """Return the object of the URL, or the videos of the prefix."""
        if not self._url.endswith("/"):
            facts = self._filesystem.info(self._top)
            if facts.get("type") != "directory":
                return [ListedObject(ObjectUrl(self._url, object_facts(facts)))]
        found, others, folders = self._videos(suffixes, recursive)
        if found:
            return found
        said = f"{others} objects there, none of them a video" if others else "no object there"
        advice = "expected names such as clip.mp4; a pattern such as *.npy takes others"
        if folders:
            said, advice = f"{said}, but prefixes below it", "give --recursive for the videos of these, too"
        raise VideoError(f"{public_url(self._url)}: {said}; {advice}")

    def match(self, suffixes: Collection[str], recursive: bool) -> list[ListedObject]:
        """Return the objects that match the pattern, and the videos of the prefixes that do."""
        if (facts := self._exact()) is not None:  # clip[1].mp4 is a name, too
            return [ListedObject(ObjectUrl(self._url, object_facts(facts)))]
        root, fixed = _before_magic(self._url), _before_magic(self._top)
        if not root.partition("://")[2].strip("/"):
            raise VideoError(f"{public_url(self._url)}: a pattern in place of the bucket; name the bucket")
        rest = self._url[len(root) :]
        deep, shows_hidden = "**" in rest, "/." in rest
        matched: dict[str, ListedObject] = {}
        prefixes: list[_Prefix] = []
        entries = self._filesystem.glob(self._top, detail=True)
        while entries:
            path, facts = entries.popitem()
            name = _below(path, fixed)
            if not name or (not shows_hidden and _is_hidden(name)):
                continue
            url = f"{root}/{name}"
            if facts.get("type") != "directory" and not path.endswith("/"):
                matched[url] = ListedObject(ObjectUrl(url, object_facts(facts)))
            elif not deep:  # else what is in it matches itself
                prefixes.append(_Prefix(self._filesystem, url, path))
        for prefix in prefixes:
            matched |= {one.url: one for one in prefix._videos(suffixes, recursive)[0]}
        if not matched:
            self._filesystem.info(fixed)  # says if not even the bucket is there
            raise VideoError(
                f"{public_url(self._url)}: no object matches; expected a pattern that matches some, where * stands for "
                "a part of a name and ** for any prefixes"
            )
        return [matched[url] for url in sorted(matched, key=natural_key)]

    def _exact(self) -> Mapping[str, Any] | None:
        """Return what the store says of an object whose name is the pattern itself; None: there is none."""
        try:
            facts: Mapping[str, Any] = self._filesystem.info(self._top)
        except (FileNotFoundError, OSError, ValueError):
            return None
        return None if facts.get("type") == "directory" else facts

    def _videos(self, suffixes: Collection[str], recursive: bool) -> tuple[list[ListedObject], int, bool]:
        """Return the videos, the number of other objects, and whether there are prefixes that were not looked into."""
        url = self._url.rstrip("/")
        found, others, folders = [], 0, False
        for path, facts in self._entries(recursive):
            name = _below(path, self._top)
            is_folder = facts.get("type") == "directory"
            if not name or path.endswith("/") or _is_hidden(name):
                continue
            if is_folder or PurePosixPath(name).suffix.lower() not in suffixes:
                folders |= is_folder
                others += not is_folder
                continue
            found.append(ListedObject(ObjectUrl(f"{url}/{name}", object_facts(facts)), name.lstrip("/")))
        return sorted(found, key=lambda one: natural_key(one.place)), others, folders

    def _entries(self, recursive: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if recursive:
            listed = self._filesystem.find(self._top, detail=True)
            while listed:  # the facts of a store are a kilobyte an object
                yield listed.popitem()
        else:
            for facts in self._filesystem.ls(self._top, detail=True):
                yield str(facts["name"]), facts


def _below(path: str, top: str) -> str:
    """Return a path relative to the place that it is below; empty for the place itself."""
    return path.lstrip("/").removeprefix(top.strip("/")).removeprefix("/")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _before_magic(text: str) -> str:
    """Return the parts of a pattern before the first that has a wildcard."""
    return re.split(r"[*?[]", text, maxsplit=1)[0].rpartition("/")[0]


@contextmanager
def _explained(label: str) -> Iterator[None]:
    """Raise what a store's package raises in the block as a VideoError in one line."""
    try:
        yield
    except AfsdError:
        raise
    except FileNotFoundError as error:
        text = one_line(getattr(error, "strerror", None) or error)
        raise VideoError(f"{label}: not found ({text}); check the bucket, and what follows it") from None
    except PermissionError as error:
        raise VideoError(
            f"{label}: the store refuses the listing ({one_line(error)}); check the keys, and that they may list"
        ) from None
    except Exception as error:
        text = one_line(error) or type(error).__name__
        raise VideoError(f"{label}: cannot be listed ({text}); check the address, the keys and the region") from None
