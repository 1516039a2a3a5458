"""Write what a model says of itself, its card and its operating point, into a model file that is there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

from runtime.common.files import atomic_path, describe_mode, exists
from runtime.engines.artifact import READERS, read_artifact
from runtime.engines.onnx.metadata import copy_onnx
from runtime.engines.openvino.xml import copy_xml
from runtime.engines.registry import extra_of
from runtime.engines.seal import ONNX_DIGEST_KEY, ONNX_SEAL, write_seal
from runtime.engines.sidecar import read_sidecar, rewrite_sidecar, sidecar_path
from runtime.errors import EngineError, import_failure
from runtime.spec.model import METADATA_KEY, SCHEMA, ModelSpec
from runtime.spec.model_card import ModelCard, OperatingPoint

CARDS_GROUP = "afsd.cards"
"""Entry-point group through which other packages have the cards of their files written: the name is a suffix without
its dot, the value a function `write(path, change, operating_point)` as `write_card`."""

ChangeCard = Callable[[ModelSpec], ModelCard]
"""Function that returns the new card of a model, given its spec (InputError: it is not for this model)."""


def write_card(path: Path, change: ChangeCard, operating_point: OperatingPoint | None) -> None:
    """Write a model's card and operating point into its file, atomically; the network stays as it is.

    The file's digest becomes another. Files that are made of the model later, by afsd export or calibrate, carry both.

    Args:
        path: .onnx, .xml, .engine, .plan, or a checkpoint.
        change: function that makes the new card.
        operating_point: the new operating point; None: the model has none.

    Raises:
        EngineError, SpecError, CheckpointError: not a model, a damaged one, or one of an older release.
        OSError: the file cannot be written.
    """
    path = path.resolve()  # what a link stands for changes, the link stays
    _require_writable(path)
    manifest = path if path.suffix.lower() in (".onnx", ".xml") else sidecar_path(path)
    if path.suffix.lower() not in READERS:
        mode = path.stat().st_mode
        _find_writer(path)(path, change, operating_point)
        path.chmod(stat.S_IMODE(mode))
        return
    old = read_artifact(path).spec  # verified: what is sealed anew was whole before
    spec = replace(old, card=change(old), operating_point=operating_point, schema=SCHEMA)
    mode = manifest.stat().st_mode
    if manifest == path:
        with atomic_path(path) as unfinished:
            if path.suffix.lower() == ".onnx":
                copy_onnx(path, unfinished, {METADATA_KEY: spec.to_json()}, (ONNX_DIGEST_KEY,))
                write_seal(unfinished, ONNX_SEAL)
            else:
                copy_xml(path, unfinished, spec)
            unfinished.chmod(stat.S_IMODE(mode))
    else:
        rewrite_sidecar(read_sidecar(manifest, path), spec)
        manifest.chmod(stat.S_IMODE(mode))


def require_card_holder(path: Path) -> None:
    """Check, before any work, that `write_card` can write into a file.

    Raises:
        EngineError, SpecError: not a model, a damaged one, or one of a kind that carries no card.
        OSError: the file cannot be written.
    """
    if not path.is_file():
        what = f"{describe_mode(path.stat().st_mode)}, no file" if exists(path) else "file not found"
        raise EngineError(f"{path}: {what}; expected a model")
    _require_writable(path.resolve())
    if path.suffix.lower() in READERS:
        read_artifact(path.resolve())
    else:
        _find_writer(path)


def _require_writable(path: Path) -> None:
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _find_writer(path: Path) -> Callable[[Path, ChangeCard, OperatingPoint | None], object]:
    """Return the function that writes the cards of another package's files."""
    entry = next(iter(entry_points(group=CARDS_GROUP, name=path.suffix[1:].lower())), None)
    if entry is None:
        raise EngineError(
            f"{path}: not a model that carries an operating point; expected {', '.join(READERS)} or .ckpt"
        )
    try:
        write: Callable[[Path, ChangeCard, OperatingPoint | None], object] = entry.load()
    except ImportError as error:
        raise import_failure(error, "", extra_of(entry), f"writing a {path.suffix} file") from None
    return write
