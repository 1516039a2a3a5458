"""Give the actors of a job its models, wherever they work: what lies at the same path there, or what the job's has.

A machine that does not have the same file at that path takes it, once, from the machine that started the job, by a task
of Ray that reads it there, and keeps it in the user's cache folder under its digest. So a model has to lie only where
the job is started.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.common.files import file_sha256, is_file
from runtime.common.locks import lock_folder
from runtime.common.log import LOGGER
from runtime.common.temporaries import scratch_folder
from runtime.common.text import one_line
from runtime.engines.artifact import READERS, read_artifact
from runtime.engines.openvino.cache import default_folder
from runtime.engines.sidecar import sidecar_path
from runtime.errors import AfsdError, InputError
from runtime.jobs.recipe import model_digest
from runtime.jobs.settings import JobSettings

PART_BYTES = 32 * 2**20
"""Bytes that are sent at a time, since what is sent lies in Ray's store on both machines."""
KEPT_BYTES = 4 * 2**30
"""Most bytes of the files that a machine keeps; beyond, those that were not used for longest are removed."""
IN_USE_S = 86400.0
"""Seconds from the last opening of files within which they are not removed."""
KEY_DIGITS = 32
LONGEST_WAIT_S = 3600.0
"""Longest wait for another actor of the machine that takes the same files."""


@dataclass(frozen=True)
class JobFile:
    """Holds by what the actors of a job know a file of the job, and where they can have it."""

    path: str
    """The file as it was given."""
    digest: str
    """Digest of its content: `model_digest` of a model, else of its bytes."""
    is_model: bool
    parts: tuple[str, ...]
    """Absolute paths of all its files on the machine that started the job; the one that is opened is the first."""
    node: str
    """That machine, by the name that Ray gives it."""


def offer_models(paths: Iterable[str | None]) -> list[JobFile]:
    """Return how actors have models of the machine that starts the job; None among them is left out.

    Raises:
        EngineError, SpecError: a model is missing, or no model.
        OSError: a file cannot be read.
    """
    return [
        JobFile(path, model_digest(Path(path)), True, _parts_of(Path(path)), _this_node())
        for path in dict.fromkeys(paths)
        if path is not None
    ]


def offer_settings(settings: JobSettings) -> list[JobFile]:
    """Return how actors have the models of a job, and the scores of a classifier; errors are those of `offer_models`.

    Args:
        settings: settings of the job; its paths are on this machine.
    """
    found = offer_models([settings.engine, settings.flow_engine, *settings.backbones])
    if (scores := settings.video_scores) is not None:
        found.append(JobFile(scores, file_sha256(Path(scores)), False, (os.path.abspath(scores),), _this_node()))  # noqa: PTH100
    return found


def settings_here(settings: JobSettings, paths: Mapping[str, str]) -> JobSettings:
    """Return the settings with the paths that this machine has for those of the job."""
    return replace(
        settings,
        engine=paths.get(settings.engine, settings.engine),
        flow_engine=settings.flow_engine and paths.get(settings.flow_engine, settings.flow_engine),
        backbones=tuple(paths.get(path, path) for path in settings.backbones),
        video_scores=settings.video_scores and paths.get(settings.video_scores, settings.video_scores),
    )


@contextmanager
def files_here(files: Iterable[JobFile], cache: Path | None = None) -> Iterator[dict[str, str]]:
    """Yield the path on this machine of each file of a job, by its path as it was given.

    Files that can be kept nowhere last as long as the block.

    Args:
        files: see `offer_models`.
        cache: folder in which what was sent is kept; None: one in the user's cache folder.

    Raises:
        InputError: a file is not here, and cannot be had.
    """
    with ExitStack() as stack:
        yield {file.path: str(_find(file, cache, stack)) for file in files}


def _find(file: JobFile, cache: Path | None, stack: ExitStack) -> Path:
    path = Path(file.path)
    if is_file(path) and _has_digest(path, file, verify=False):
        return path
    folder = cache or _cache_folder()
    if folder is not None:
        try:
            return _keep(file, folder)
        except OSError as error:
            reason = error.strerror or one_line(error)
            LOGGER.info("%s: files of a job cannot be kept there (%s)", folder, reason)
    try:
        return _fetch(file, stack.enter_context(scratch_folder()) / "sent")
    except OSError as error:
        raise _failure(file, error.strerror or one_line(error)) from None


def _keep(file: JobFile, cache: Path) -> Path:
    """Return the file in the folder of what is kept, fetched if it is not there whole (OSError: it cannot be)."""
    entry = cache / file.digest[:KEY_DIGITS]
    path = entry / Path(file.parts[0]).name
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock_folder(cache, "a job on Ray", wait_s=LONGEST_WAIT_S):
        if not (is_file(path) and _has_digest(path, file, verify=True)):
            with scratch_folder(cache) as scratch:
                _fetch(file, scratch / "sent")
                shutil.rmtree(entry, ignore_errors=True)
                (scratch / "sent").replace(entry)
            LOGGER.info("%s: is not on this machine, taken from the one that started the job to %s", file.path, entry)
        os.utime(entry)
        _remove_oldest(cache, entry)
    return path


def _fetch(file: JobFile, folder: Path) -> Path:
    """Take a file, and those that belong to it, from the machine that started the job into a new folder.

    Raises:
        InputError: that machine does not give it, or another file by now.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(mode=0o700)
    for part in file.parts:
        with (folder / Path(part).name).open("wb") as target:
            while content := _ask(file, part, target.tell()):
                target.write(content)
    path = folder / Path(file.parts[0]).name
    if not _has_digest(path, file, verify=True):
        raise _failure(file, "it has changed since the job was started")
    return path


def _ask(file: JobFile, part: str, offset: int) -> bytes:
    """Return what `_read_part` reads on the machine that started the job (InputError: it does not give that)."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(file.node, soft=False)
    read = ray.remote(num_cpus=0)(_read_part).options(scheduling_strategy=there)
    try:
        return bytes(ray.get(read.remote(part, offset)))
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise _failure(file, getattr(cause, "strerror", None) or one_line(cause)) from None


def _read_part(path: str, offset: int) -> bytes:
    """Return the bytes of a file from an offset on, at most `PART_BYTES`; empty at its end."""
    with Path(path).open("rb") as file:
        file.seek(offset)
        return file.read(PART_BYTES)


def _failure(file: JobFile, reason: str) -> InputError:
    return InputError(
        f"{file.path}: is not the job's file on this machine, and the one that started the job does not give it "
        f"({reason}); copy it here, or start the job again"
    )


def _has_digest(path: Path, file: JobFile, *, verify: bool) -> bool:
    """Return whether a file is that of the job; `verify`: by all bytes of a model, else by what it says of itself."""
    try:
        if not file.is_model:
            return file_sha256(path) == file.digest
        if verify and path.suffix.lower() in READERS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it is old is said when it is opened
                read_artifact(path)
        return model_digest(path) == file.digest
    except (AfsdError, OSError):
        return False


def _parts_of(path: Path) -> tuple[str, ...]:
    """Return the absolute paths of all files of a model."""
    files = [path]
    if path.suffix.lower() in READERS:
        artifact = read_artifact(path, verify=False)
        files = list(artifact.files)
        if not artifact.sha256 and is_file(sidecar_path(path)):  # an .xml of an older release
            files.append(sidecar_path(path))
    return tuple(dict.fromkeys(os.path.abspath(file) for file in files))  # noqa: PTH100 — as it is named


def _this_node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _cache_folder() -> Path | None:
    compiled = default_folder()
    return None if compiled is None else compiled.parent / "models"


def _remove_oldest(cache: Path, kept_in_any_case: Path) -> None:
    """Remove, beyond `KEPT_BYTES`, what was not used for longest."""
    found: list[tuple[float, int, Path]] = []
    for entry in cache.iterdir():
        with suppress(OSError):
            if len(entry.name) == KEY_DIGITS and entry.is_dir():
                size = sum(file.stat().st_size for file in entry.iterdir())
                found.append((entry.stat().st_mtime, size, entry))
    kept = 0
    for used, size, entry in sorted(found, reverse=True):
        kept += size
        if kept > KEPT_BYTES and entry != kept_in_any_case and time.time() - used > IN_USE_S:
            shutil.rmtree(entry, ignore_errors=True)
