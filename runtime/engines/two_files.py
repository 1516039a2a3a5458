"""Change a model of two files as one: its manifest, which names the SHA-256 of its weights, is renamed last.

The manifest is an OpenVINO .xml or the sidecar of a TensorRT engine. New weights lie as `.<stem>.<digits>.bin` beside
the old ones until the manifest is in its place, then take their name. What an export leaves that is killed in between
is one whole model, old or new: `weights_of` finds its weights under either name, and the next export tidies (`settle`).
"""

from __future__ import annotations

import re
from pathlib import Path

from runtime.common.files import file_sha256, synchronise
from runtime.engines.seal import damaged
from runtime.errors import SpecError

NAMED_DIGITS = 16
"""Digits of the SHA-256 in the name of weights that are not in their place yet."""


def staged_path(weights: Path, sha256: str) -> Path:
    """Return the name under which new weights lie until their manifest is in its place."""
    return weights.with_name(f".{weights.stem}.{sha256[:NAMED_DIGITS]}{weights.suffix}")


def weights_of(
    path: Path, weights: Path, sha256: str | None, *, manifest: Path | None = None, verify: bool = True
) -> Path:
    """Return the file with the SHA-256 that a manifest names: `weights`, or what an export broke off has left.

    Args:
        path: the model's file, for errors.
        weights: usual name of the file.
        sha256: SHA-256 of its bytes; None: the manifest names none.
        manifest: the file that names it; None: `path`.
        verify: whether the bytes are compared with the SHA-256.

    Raises:
        SpecError: the manifest names no SHA-256, or no file has it.
    """
    manifest = manifest or path
    if not sha256:
        raise SpecError(f"{manifest}: holds no SHA-256 of {weights.name}; export the engine again")
    found = ""
    for file in (staged_path(weights, sha256), weights, staged_path(weights, sha256)):  # it may move meanwhile
        try:
            if not file.is_file():
                continue
            found = file_sha256(file) if verify else sha256
        except FileNotFoundError:
            continue
        if found == sha256:
            return file
    if not found:
        raise SpecError(f"{weights}: missing, though {manifest.name} lists it; copy all files of the engine")
    raise damaged(weights, found, sha256, manifest.name)


def replace_as_one(weights: tuple[Path, Path], sha256: str, manifest: tuple[Path, Path]) -> None:
    """Put two new files, each (unfinished, target) in one file system, in the place of an old model's.

    Whatever ends this function in between, what is left is the whole old or the whole new model.

    Args:
        weights: the file whose SHA-256 the manifest names.
        sha256: SHA-256 of the new weights.
        manifest: the .xml or the sidecar.
    """
    unfinished, target = weights
    staged, folder = staged_path(target, sha256), target.parent
    for file in (unfinished, manifest[0]):
        synchronise(file)
    unfinished.replace(staged)
    synchronise(folder)
    manifest[0].replace(manifest[1])
    synchronise(folder)
    staged.replace(target)
    synchronise(folder)


def settle(weights: Path, sha256: str | None) -> None:
    """End what an export broke off has left: put the weights that the manifest names in their place, remove others.

    Args:
        weights: usual name of the weights.
        sha256: SHA-256 that the manifest names; None without a manifest.
    """
    if sha256 and staged_path(weights, sha256).is_file():
        staged_path(weights, sha256).replace(weights)
    pattern = re.compile(re.escape(f".{weights.stem}.") + f"[0-9a-f]{{{NAMED_DIGITS}}}" + re.escape(weights.suffix))
    for file in weights.parent.iterdir() if weights.parent.is_dir() else ():
        if pattern.fullmatch(file.name):
            file.unlink(missing_ok=True)
