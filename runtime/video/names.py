"""Match videos with their files by name and content."""

from __future__ import annotations

from collections.abc import Container
from hashlib import sha256
from pathlib import Path
from unicodedata import normalize

from runtime.common.files import file_sha256, is_file
from runtime.common.names import require_safe_name
from runtime.errors import VideoError
from runtime.video.readers.images import list_images
from runtime.video.sources import VIDEO_SUFFIXES

ID_PREFIX = "v_"
"""Prefix of ActivityNet's video ids in file names."""


def other_name(name: str) -> str:
    """Return X for v_X and v_X for X, in a folder too: ActivityNet's files are named v_X, its annotations X."""
    bare = without_prefix(name)
    folder, slash, stem = name.rpartition("/")
    return f"{folder}{slash}{ID_PREFIX}{stem}" if bare == name else bare


def without_prefix(name: str) -> str:
    """Return X for v_X, and a/X for a/v_X."""
    folder, slash, stem = name.rpartition("/")
    return f"{folder}{slash}{stem.removeprefix(ID_PREFIX)}"


DIGITS = 16
"""Number of SHA-256 digits that identify a video."""


def video_digest(path: Path) -> str:
    """Return the first digits of a file's SHA-256, which identify a video whatever its name.

    Of a folder of images: of the hash over the names, sizes and contents of its images.
    """
    if path.is_dir():
        images = (f"{image.name}\0{image.stat().st_size}\0{file_sha256(image)}\n" for image in list_images(path))
        return sha256("".join(images).encode(errors="surrogateescape")).hexdigest()[:DIGITS]
    return file_sha256(path)[:DIGITS]


def find_name(name: str, known: Container[str]) -> str | None:
    """Return the first spelling of a name that is in `known` (see `spell_name`), else None."""
    return next((spelling for spelling in spell_name(name) if spelling in known), None)


def spell_name(name: str) -> list[str]:
    """Return a video's name and its `other_name`, each as given and in both of Unicode's normal forms.

    An accent is one letter (NFC) in most files of annotations and a letter with a mark (NFD) in names from a Mac.
    """
    names = (name, other_name(name))
    return list(dict.fromkeys(spelling for n in names for spelling in (n, normalize("NFC", n), normalize("NFD", n))))


def find_video(folder: Path, name: str) -> Path:
    """Find the video file of the first spelling of a name (see `spell_name`) in `folder`, whatever its format.

    Raises:
        VideoError: there is none, or several files have the name.
        InputError: the name leads out of the folder, see `path_in`.
    """
    require_safe_name(name, ".mp4", deep=True)
    suffixes = [form for suffix in sorted(VIDEO_SUFFIXES) for form in (suffix, suffix.upper())]
    for spelling in spell_name(name):
        found = [path for path in (folder / f"{spelling}{suffix}" for suffix in suffixes) if is_file(path)]
        others = [path.name for path in found[1:] if not path.samefile(found[0])]  # .mp4 may be .MP4 there
        if others:
            raise VideoError(
                f"{found[0]}: {', '.join(others)} beside it {'has' if len(others) == 1 else 'have'} the same name, "
                f"expected one video {name}; rename or move the others"
            )
        if found:
            return found[0]
    raise VideoError(f"{folder / name}: video not found; expected {name}.mp4 or another video file of that name")
