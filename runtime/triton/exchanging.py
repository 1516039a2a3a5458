"""Put a model's folder in its place in one step, so that a kill leaves the old one or the new one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from runtime.common.exchange import exchange
from runtime.common.files import exists, is_folder, read_text, synchronise
from runtime.common.temporaries import scratch_folder
from runtime.errors import InputError
from runtime.triton.model_folder import MARK

ADVICE = "name another --out or --name"


def require_own(folder: Path) -> None:
    """Check that nothing of others is lost if a model's folder is replaced.

    Raises:
        InputError: something is there that this project did not write.
    """
    if not exists(folder):
        return
    config = folder / "config.pbtxt"
    with suppress(OSError, UnicodeDecodeError):
        if is_folder(folder) and not folder.is_symlink() and read_text(config).startswith(MARK):
            return
    raise InputError(f"{folder}: is there already and no model of afsd triton, so it is not written over; {ADVICE}")


def put(new: Path, place: Path) -> None:
    """Put a model's folder in its place; an older one goes in the same step where the system can exchange them.

    Where it cannot, the older one lies aside for a moment, and `put_back` mends what a kill in that moment leaves.
    """
    for path in (new, *new.rglob("*")):
        synchronise(path)
    if not exists(place):
        new.replace(place)
    elif not exchange(new, place):
        aside = _aside(place)
        place.replace(aside)
        try:
            new.replace(place)
        except BaseException:
            aside.replace(place)
            raise
        aside.replace(new)  # which goes with its folder
    synchronise(place.parent)


def put_back(place: Path) -> None:
    """Put a model back that a killed process had laid aside, or remove what it laid aside if the new one is there.

    Raises:
        InputError: what lies there is not this project's.
    """
    aside = _aside(place)
    if not exists(aside):
        return
    require_own(aside)
    if exists(place):
        with scratch_folder(place.parent) as scratch:
            aside.replace(scratch / "old")
    else:
        aside.replace(place)


def _aside(place: Path) -> Path:
    """Return where an older model lies while the new one takes its place."""
    return place.with_name(f".{place.name}.old")
