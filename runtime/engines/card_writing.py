"""Write what a model says of itself, its card and its operating point, into a model file that is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

from runtime.common.files import atomic_path
from runtime.engines.artifact import READERS, read_artifact
from runtime.engines.onnx.metadata import copy_onnx
from runtime.engines.openvino.xml import copy_xml
from runtime.engines.registry import extra_of
from runtime.engines.seal import ONNX_DIGEST_KEY, ONNX_SEAL, write_seal
from runtime.engines.sidecar import read_sidecar, rewrite_sidecar, sidecar_path
from runtime.errors import EngineError, import_failure
from runtime.spec.model import METADATA_KEY, SCHEMA
from runtime.spec.model_card import ModelCard, OperatingPoint

CARDS_GROUP = "afsd.cards"
"""Entry-point group through which other packages have the cards of their files written: the name is a suffix without
its dot, the value a function `write(path, change, operating_point)` as `write_card`."""

ChangeCard = Callable[[ModelCard], ModelCard]
"""Function that returns the new card of a model, given the one that it has."""


def write_card(path: Path, change: ChangeCard, operating_point: OperatingPoint | None) -> None:
    """Write a model's card and operating point into its file, atomically; the network stays as it is.

    The file's digest becomes another. Files that are made of the model later, by afsd export or calibrate, carry both.

    Args:
        path: .onnx, .xml, .engine, .plan, or a checkpoint.
        change: function that makes the new card of the old one.
        operating_point: the new operating point; None: the model has none.

    Raises:
        EngineError, SpecError, CheckpointError: not a model, a damaged one, or one of an older release.
        OSError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        _write_foreign(path, change, operating_point)
        return
    old = read_artifact(path).spec  # verified: what is sealed anew was whole before
    spec = replace(old, card=change(old.card), operating_point=operating_point, schema=SCHEMA)
    if suffix == ".onnx":
        with atomic_path(path) as unfinished:
            copy_onnx(path, unfinished, {METADATA_KEY: spec.to_json()}, (ONNX_DIGEST_KEY,))
            write_seal(unfinished, ONNX_SEAL)
    elif suffix == ".xml":
        with atomic_path(path) as unfinished:
            copy_xml(path, unfinished, spec)
    else:
        rewrite_sidecar(read_sidecar(sidecar_path(path), path), spec)


def _write_foreign(path: Path, change: ChangeCard, operating_point: OperatingPoint | None) -> None:
    entry = next(iter(entry_points(group=CARDS_GROUP, name=path.suffix[1:].lower())), None)
    if entry is None:
        raise EngineError(
            f"{path}: not a model that carries an operating point; expected {', '.join(READERS)} or .ckpt"
        )
    try:
        write = entry.load()
    except ImportError as error:
        raise import_failure(error, "", extra_of(entry), f"writing a {path.suffix} file") from None
    write(path, change, operating_point)
