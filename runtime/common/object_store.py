"""Read, list and write the files of a folder in an object store, through fsspec."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runtime.common.text import one_line, public_url
from runtime.errors import InputError, import_failure

TAGS = ("etag", "ETag", "md5Hash", "content_md5", "Content-MD5", "checksum", "generation")
"""Names that stores give to what changes with an object's content."""
TIMES = ("LastModified", "last_modified", "Last-Modified", "mtime", "modified", "updated")
"""Names that stores give to the time of an object's last change; "created" is none, since some make it up."""
SIZES = ("size", "Size", "Content-Length")
WITH_FOLDERS = frozenset({"arrow_hdfs", "dbfs", "file", "hdfs", "local", "smb", "webhdfs"})
"""Schemes of what fsspec reaches and is no object store: a folder is made before a file can lie in it."""
AT_ONCE = 32
"""Files that are fetched side by side: a store answers in a tenth of a second."""
TRIAL = ".afsd/trial"
"""File that is written, and removed, to see whether a folder can be written to."""


def first_of(facts: Mapping[str, Any], names: Iterable[str]) -> str:
    """Return the first of some facts that a store gives, by the names that stores have for it; empty: none."""
    return next((str(facts[name]) for name in names if facts.get(name) not in (None, "")), "")


def open_filesystem(url: str, purpose: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it without a slash at the end.

    Args:
        url: address, such as s3://bucket/folder.
        purpose: says what it is opened for, in the error of a missing library.

    Raises:
        InputError: the address or the access is wrong.
        MissingDependencyError: fsspec, or the store's own package, is not installed.
    """
    try:
        import fsspec
        from fsspec.registry import known_implementations
    except ImportError as error:
        raise import_failure(error, "fsspec", "remote", purpose) from None
    try:
        filesystem, top = fsspec.core.url_to_fs(url)
    except ImportError as error:
        known = known_implementations.get(url.partition("://")[0].lower(), {})
        package = str(known.get("class", "")).partition(".")[0].removeprefix("fsspec")
        cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
        raise import_failure(cause, package, "", purpose) from None
    except Exception as error:  # each store has errors of its own
        raise InputError(
            f"{public_url(url)}: cannot be opened ({one_line(error)}); check the address and the access"
        ) from None
    return filesystem, str(top).rstrip("/")


class ObjectStore:
    """Reads and writes the files below a URL, named by their paths relative to it.

    An object is put whole or not at all, as object stores do it; what fsspec reaches besides may keep half of a file
    when its writer is killed. Keys, regions and retries are the settings of the store's own package.
    """

    def __init__(self, url: str) -> None:
        """Open the store; nothing is asked of it yet. Errors are those of `open_filesystem`."""
        self.label = public_url(url).rstrip("/")
        """The URL as it is named to people, without secrets."""
        self._filesystem, self._top = open_filesystem(url, f"writing to {self.label}")
        protocol = self._filesystem.protocol
        self._has_folders = not WITH_FOLDERS.isdisjoint({protocol} if isinstance(protocol, str) else protocol)

    def address_of(self, name: str) -> str:
        """Return the URL of a file as it is named to people."""
        return f"{self.label}/{name}"

    def require_writable(self, advice: str) -> None:
        """Check, before the work whose results will lie there, that a file can be written (InputError: it cannot)."""
        try:
            with self._named(""):
                self._write(lambda path: self._filesystem.pipe_file(path, b"afsd\n"), TRIAL)
        except OSError as error:
            raise InputError(
                f"{self.label}: the results cannot be written there ({error.strerror}); {advice}"
            ) from None
        with suppress(OSError):  # one may write and not remove
            self.remove(TRIAL)

    def list(self) -> dict[str, str]:
        """Return the state of each file by its name: what changes with its content (OSError: it cannot be listed)."""
        with self._named("", "cannot be listed"):
            self._filesystem.invalidate_cache()
            try:
                listed: Mapping[str, Mapping[str, Any]] = self._filesystem.find(self._top, detail=True)
            except FileNotFoundError:
                return {}
        top = self._top.strip("/")
        names = {path.strip("/").removeprefix(top).strip("/"): facts for path, facts in listed.items()}
        return {name: _describe(facts) for name, facts in names.items() if name and facts.get("type") != "directory"}

    def state(self, name: str) -> str:
        """Return the state of a file, as `list` has it; empty: it is not there (OSError: nobody knows)."""
        with self._named(name, "cannot be looked at"):
            self._filesystem.invalidate_cache()
            try:
                return _describe(self._filesystem.info(self._path(name)))
            except FileNotFoundError:
                return ""

    def fetch(self, name: str, path: Path) -> bool:
        """Copy a file to a path, whose folder is made; return whether it is there (OSError: it cannot be read)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._named(name, "cannot be read"):
            try:
                self._filesystem.get_file(self._path(name), str(path))
                return True
            except FileNotFoundError:
                path.unlink(missing_ok=True)
                return False

    def fetch_all(self, paths: Mapping[str, Path]) -> None:
        """Copy files to paths, several at once; what is gone meanwhile is not at its path (OSError: see `fetch`)."""
        if not paths:
            return
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="afsd-fetch") as pool:
            for _ in pool.map(self.fetch, paths, paths.values()):
                pass

    def put(self, path: Path, name: str) -> None:
        """Write the file at a path, over an older one (OSError: it cannot be written)."""
        with self._named(name, "cannot be written"):
            self._write(lambda there: self._filesystem.put_file(str(path), there), name)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there (OSError: it cannot be removed)."""
        with self._named(name, "cannot be removed"), suppress(FileNotFoundError):
            self._filesystem.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._top}/{name}"

    def _write(self, write: Any, name: str) -> None:
        path = self._path(name)
        if self._has_folders:
            self._filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        write(path)

    @contextmanager
    def _named(self, name: str, what: str = "") -> Iterator[None]:
        """Raise whatever a store's package raises in the block as an OSError that names the file."""
        try:
            yield
        except Exception as error:
            text = one_line(getattr(error, "strerror", None) or error) or type(error).__name__
            reason = f"{what} ({text})" if what else text
            number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
            raise OSError(number, reason, self.address_of(name) if name else self.label) from None


def _describe(facts: Mapping[str, Any]) -> str:
    """Return what changes with the content of an object: its size, and its tag or, where there is none, its time."""
    tag, size = first_of(facts, TAGS), first_of(facts, SIZES)
    return f"{size} bytes, {f'tag {tag}' if tag else f'time {first_of(facts, TIMES)}'}"
