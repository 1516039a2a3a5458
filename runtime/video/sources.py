"""Tell kinds of sources apart: files, folders, URLs, object stores, cameras, pipes; name them; expand arguments."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from runtime.common.files import is_file, is_folder, read_text
from runtime.common.natural_order import natural_key
from runtime.common.text import public_url
from runtime.errors import VideoError, VideoWarning
from runtime.video.stores import list_objects

FrameSource = str | os.PathLike[str] | int | NDArray[np.uint8] | Iterable[NDArray[np.uint8]]
"""Source of frames: file, folder of images, URL, "-" (standard input), camera index, array [T,H,W,C], or iterable of
frames [H,W,C] or chunks [t,H,W,C]; frames may be NumPy arrays, torch tensors on the CPU or PIL images."""

CAMERA = r"[0-9]{1,9}"
"""Form of a camera's number."""
STDIN = "-"
"""Source that stands for standard input."""
LIST_PREFIX = "@"
"""Prefix of a text file that lists sources, one per line."""

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv"}
    | {".ts", ".webm", ".wmv"}
)

LIVE_SCHEMES = frozenset({"rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp"})
"""Schemes of URLs whose streams have no end."""
FFMPEG_SCHEMES = LIVE_SCHEMES | {"ftp", "http", "https", "mmsh", "mmst", "sftp"}
"""Schemes of URLs that FFmpeg opens itself; others are object stores for fsspec."""


def is_url(source: object) -> bool:
    """Whether `source` is a URL such as rtsp://host/stream or https://host/file.mp4."""
    return isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


def is_live(source: object) -> bool:
    """Whether a source has no end: a camera, or a stream such as RTSP, RTMP, SRT or UDP."""
    if isinstance(source, int):
        return True
    return isinstance(source, str) and is_url(source) and scheme_of(source) in LIVE_SCHEMES


def is_remote(source: object) -> bool:
    """Whether a source is a URL of an object store, which fsspec opens (s3://…, gs://…)."""
    return isinstance(source, str) and is_url(source) and scheme_of(source) not in FFMPEG_SCHEMES | {"file"}


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in lower case."""
    return url.partition("://")[0].lower()


def local_path(source: str | os.PathLike[str]) -> Path | None:
    """Return the path of a file or folder, also of a file:// URL; None for other URLs and for standard input."""
    text = os.fspath(source)
    if text == STDIN:
        return None
    if not is_url(text):
        return Path(text)
    place = re.split(r"[?#]", text.partition("://")[2], maxsplit=1)[0].partition("/")
    return Path(unquote(place[1] + place[2])) if scheme_of(text) == "file" else None


def url_for_ffmpeg(source: str) -> str:
    """Return a source as FFmpeg takes it; files get a prefix, since it takes 10:30:00.mp4 for a protocol."""
    if source == STDIN:
        return "pipe:0"
    path = local_path(source)
    return source if path is None else f"file:{path}"


def name_of(source: str | int, *, keep_host: bool = False) -> tuple[str, str]:
    """Return (short name, label for messages) of a file, folder, URL or camera, without a URL's password and query.

    The name of a stream that has no end holds host and port, since several cameras differ in these alone; `keep_host`
    asks for them in the names of all URLs.

    Raises:
        VideoError: a URL that is none.
    """
    if isinstance(source, int):
        return f"camera{source}", f"camera {source}"
    if source == STDIN:
        return "stdin", "standard input"
    path = local_path(source)
    if path is not None:
        return path.resolve().name if is_folder(path) else path.stem, str(path)
    shown = source.replace("#", "%23") if is_remote(source) else source  # a letter as others in an object's name
    try:
        parts = urlsplit(public_url(shown).removesuffix("?…"))
    except ValueError as error:
        raise VideoError(f"{scheme_of(source)}://…: not an address ({error}); check it") from None
    host = parts.netloc
    label = f"{parts.scheme}://{host}{parts.path}"
    label = label if shown is source else label.replace("%23", "#")
    stem = Path(unquote(parts.path)).stem
    if keep_host or is_live(source) or not stem:
        return re.sub(r"[^\w.-]+", "_", f"{host}{parts.path}").strip("_") or "stream", label
    return stem, label


@dataclass(frozen=True)
class NamedSource:
    """Holds a video of a list, and the name that its place in a folder gives it."""

    source: str | int
    name: str = ""
    """Of a video in a folder below one that was given: its path there, with "/" and without the suffix, as in
    "day1/cam1"; empty: the video is named by itself, see `name_of`."""


def expand_sources(arguments: Sequence[str], *, recursive: bool = False) -> list[str | int]:
    """Return one source per video, as `list_sources` does, without the names."""
    return [one.source for one in list_sources(arguments, recursive=recursive)]


def list_sources(
    arguments: Sequence[str], *, recursive: bool = False, lists: tuple[str, ...] = ()
) -> list[NamedSource]:
    """Return one source per video for files, patterns, lists, URLs, camera numbers and folders.

    A folder stands for the videos in it, in natural order; a folder without videos is one video of images. Prefixes
    and patterns of object stores are listed (`runtime.video.stores`). Text that is neither a number, a URL, a pattern
    that matches, nor a folder is a file; whether the file exists is checked when it is opened.

    Args:
        arguments: what was typed: paths, patterns such as day*/*.mp4, @list.txt with a source per line, URLs, "-".
        recursive: take the videos of all folders below a folder, too, but hidden ones and links to folders. Their
            names are their paths in the folder, which do not depend on what other folders there are.
        lists: lists that are being read, which may not name themselves.

    Raises:
        VideoError: a list cannot be read or names itself, a pattern matches nothing, or a store cannot be listed.
        MissingDependencyError: fsspec, or the package of an object store, is not installed.
        OSError: a folder cannot be read; of one below it a VideoWarning says so.
    """
    sources: list[NamedSource] = []
    for text in arguments:
        path = Path(text)
        if is_remote(text):
            objects = list_objects(text, VIDEO_SUFFIXES, recursive=recursive)
            sources += [NamedSource(one.url, _name_below(PurePosixPath(one.place))) for one in objects]
        elif is_url(text) or text == STDIN or is_file(path):
            sources.append(NamedSource(text))
        elif text.startswith(LIST_PREFIX):
            if text in lists:
                raise VideoError("the list names itself; take the line out")
            listed = _read_list(Path(text.removeprefix(LIST_PREFIX)))
            try:
                sources += list_sources(listed, recursive=recursive, lists=(*lists, text))
            except VideoError as error:
                raise VideoError(f"{text}: {error}") from None
        elif re.fullmatch(CAMERA, text) and not is_folder(path):
            sources.append(NamedSource(int(text)))
        elif is_folder(path):
            sources += _list_videos(path, recursive) or [NamedSource(text)]
        elif glob.has_magic(text):
            for found in _match(text):
                there = _list_videos(Path(found), recursive) if is_folder(Path(found)) else []
                sources += there or [NamedSource(found)]
        else:
            sources.append(NamedSource(text))
    return sources


def _read_list(path: Path) -> list[str]:
    """Return the lines of a list, without empty ones and comments (#)."""
    if not is_file(path):
        raise VideoError(f"{LIST_PREFIX}{path}: list not found; expected a text file with one video per line")
    try:
        lines = [line.strip() for line in read_text(path).removeprefix("\ufeff").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise VideoError(f"{LIST_PREFIX}{path}: not a readable list ({error}); expected UTF-8 text") from None
    named = [line for line in lines if line and not line.startswith("#")]
    if not named:
        raise VideoError(f"{LIST_PREFIX}{path}: the list names no video; expected one per line")
    return named


def _match(pattern: str) -> list[str]:
    found = sorted(glob.glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207 — patterns may be absolute
    if not found:
        raise VideoError(f"{pattern}: no file matches; expected a video file or a pattern that matches some")
    return found


def _list_videos(folder: Path, recursive: bool) -> list[NamedSource]:
    """List the videos of a folder in natural order, without hidden ones (macOS writes ._name beside name).

    Hidden folders are left out, too, and links to folders, as by `Path.rglob`, since they may lead back up.
    """

    def fail(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise error
        warnings.warn(f"{error.filename}: left out, cannot be read ({error.strerror})", VideoWarning, stacklevel=2)

    found: list[Path] = []
    below: list[str] = []
    for place, folders, files in os.walk(folder, onerror=fail):
        below, folders[:] = folders[:], [name for name in folders if recursive and not name.startswith(".")]
        found += [
            path
            for path in (Path(place, name) for name in files if not name.startswith("."))
            if path.suffix.lower() in VIDEO_SUFFIXES and is_file(path)
        ]
    if found and not recursive:
        _say_left_out(folder, below)
    places = {path: path.relative_to(folder) for path in found}
    return [
        NamedSource(str(path), _name_below(place))
        for path, place in sorted(places.items(), key=lambda item: natural_key(item[1].as_posix()))
    ]


def _say_left_out(folder: Path, below: Iterable[str]) -> None:
    """Warn if a folder in a folder whose videos are taken holds videos, too, which are not."""
    for name in sorted((name for name in below if not name.startswith(".")), key=natural_key):
        with suppress(OSError), os.scandir(folder / name) as entries:
            if any(Path(entry.name).suffix.lower() in VIDEO_SUFFIXES and entry.name[0] != "." for entry in entries):
                warnings.warn(
                    f"{folder}: videos in folders below it, as in {name}, are left out; --recursive (recursive=True) "
                    "takes them, too",
                    VideoWarning,
                    stacklevel=2,
                )
                return


def _name_below(place: PurePath) -> str:
    """Return the name of a video by its path in the folder that was given; empty for one right in it."""
    return place.with_suffix("").as_posix() if len(place.parts) > 1 else ""
