"""Keep what OpenVINO has compiled in a folder, so that the next process has a model in half the time or less.

The name of an entry is a digest of all that it depends on: the model's own digest, OpenVINO's version, the processor
and the settings. A changed model is another entry, and an entry that is damaged, or that OpenVINO does not take, is
compiled anew. An entry holds the weights, too: OpenVINO 2026.4 can leave them out, but the network that it then loads
gives other numbers (docs/engines.md).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.common.files import read_bytes
from runtime.common.log import LOGGER
from runtime.common.temporaries import sweep, temporary_file
from runtime.common.text import one_line
from runtime.engines.artifact import Artifact
from runtime.errors import ArtifactWarning

LAYOUT = 1
"""Version of the layout of an entry: the SHA-256 of the rest, 32 bytes, then OpenVINO's blob."""
KEPT_BYTES = 2**30
"""Most bytes of a folder's entries; beyond, those that were not used for longest are removed."""
DIGEST_BYTES = 32
KEY_DIGITS = 32
ENTRY_NAME = re.compile(rf"afsd-[0-9a-f]{{{KEY_DIGITS}}}\.blob")
"""Form of the names of entries; other files in the folder are left alone."""
_unwritable: set[Path] = set()
"""Folders of which this process has said that they cannot be written to."""


def default_folder() -> Path | None:
    """Return the folder for compiled models in the user's cache folder; None if the user has no home folder."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "afsd" / "Cache" / "openvino"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "afsd" / "openvino"
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if os.path.isabs(given) else home / ".cache"  # noqa: PTH117 — the rule for relative ones: ignore
    return base / "afsd" / "openvino"


def compile_model(
    core: Any,
    artifact: Artifact,
    device: str,
    settings: dict[str, Any],
    folder: Path | None,
    part: tuple[str, Callable[[], Any]] | None = None,
) -> Any:
    """Return a compiled model: the one kept in the folder, or a new one, which is kept there.

    Args:
        core: OpenVINO's.
        artifact: the model's files; one of an older release, without a digest, is not kept.
        device: OpenVINO's name of the device; only what is compiled for CPUs is kept.
        settings: OpenVINO's settings.
        folder: folder of the entries, made when it is missing; None: nothing is kept. If it cannot be written to, an
            ArtifactWarning says so once.
        part: name of a part of the model, with what reads it; None: the whole model.

    Raises:
        Exception: OpenVINO's own, of a model that it cannot read or compile.
    """
    name, read = part or ("", lambda: core.read_model(str(artifact.path), str(artifact.weights)))
    if folder is None or not artifact.sha256 or device != "CPU":
        return core.compile_model(read(), device, settings)
    entry = folder / f"afsd-{_key(core, artifact, device, settings, name)}.blob"
    blob = _read(entry)
    if blob is not None:
        with suppress(Exception):  # whatever OpenVINO finds wrong with it
            compiled = core.import_model(blob, device, settings)
            with suppress(OSError):
                os.utime(entry)
            LOGGER.info("%s: %scompiled before, from %s", artifact.path, name and f"{name}, ", entry)
            return compiled
    compiled = core.compile_model(read(), device, settings)
    LOGGER.info("%s: %scompiled anew, kept in %s", artifact.path, name and f"{name}, ", folder)
    try:
        _write(entry, compiled.export_model().getvalue())
    except Exception as error:  # of the folder, or OpenVINO's own of a model that it cannot write
        if folder not in _unwritable:
            _unwritable.add(folder)
            reason = getattr(error, "strerror", None) or one_line(error)
            warnings.warn(
                ArtifactWarning(f"{folder}: the compiled model cannot be kept there ({reason}), so it is compiled anew "
                                "each time; choose another folder with --cache, or --no-cache"),
                stacklevel=5,
            )  # fmt: skip
    return compiled


def _key(core: Any, artifact: Artifact, device: str, settings: dict[str, Any], part: str) -> str:
    """Return the digits that stand for all on which a compiled model depends."""
    import openvino

    facts = [
        LAYOUT,
        artifact.sha256,
        part,
        openvino.get_version(),
        device,
        str(core.get_property(device, "FULL_DEVICE_NAME")),
        sorted(map(str, core.get_property(device, "OPTIMIZATION_CAPABILITIES"))),
        {name: str(value) for name, value in settings.items()},
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


def _read(entry: Path) -> bytes | None:
    """Return the blob of an entry; None if there is none, or a damaged one."""
    try:
        content = read_bytes(entry, KEPT_BYTES)
    except OSError:
        return None
    digest, blob = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return blob if blob and hashlib.sha256(blob).digest() == digest else None


def _write(entry: Path, blob: bytes) -> None:
    """Write an entry and remove the oldest ones beyond `KEPT_BYTES` (OSError: the folder cannot be written to).

    Nothing waits for the disk: what a failure of the machine leaves half written is known by its digest.
    """
    if DIGEST_BYTES + len(blob) > KEPT_BYTES:
        return
    entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep(entry.parent)
    with temporary_file(entry.parent, entry.suffix) as unfinished:
        with unfinished.open("wb") as file:
            file.write(hashlib.sha256(blob).digest())
            file.write(blob)
        unfinished.replace(entry)
    found = []
    for other in entry.parent.iterdir():
        with suppress(OSError):  # removed by another process
            if ENTRY_NAME.fullmatch(other.name):
                found.append((other.stat().st_mtime, other.stat().st_size, other))
    kept = 0
    for _, size, other in sorted(found, reverse=True):
        kept += size
        if kept > KEPT_BYTES and other != entry:
            with suppress(OSError):
                other.unlink()
