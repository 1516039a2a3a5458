"""Read and write the sidecar of engine files that cannot carry a ModelSpec: `<stem>.json` with spec and SHA-256 sums.

A TensorRT engine's sidecar also holds its `EngineBuild`, and a checksum over all its content: the build cannot be read
from the plan, so an edited sidecar must be detected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.common.files import file_sha256, read_json, write_json
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.engines.tensorrt.build_facts import EngineBuild
from runtime.errors import ExportError, SpecError
from runtime.spec.model import METADATA_KEY, ModelSpec, spec_from_json

CHECKSUM = "checksum"
"""Key of the checksum in a TensorRT engine's sidecar."""
OLD_CHECKSUM = "seal"
"""Key of the checksum in sidecars that were written before."""


def sidecar_path(engine: Path) -> Path:
    """Return the path of an engine file's sidecar."""
    return engine.with_suffix(".json")


def write_sidecar(engine: Path, spec: ModelSpec, files: Sequence[Path], build: EngineBuild | None = None) -> Path:
    """Write the sidecar of `engine`, with the SHA-256 of each of `files` (all in the engine's folder)."""
    content: dict[str, Any] = {"spec": to_mapping(spec), "sha256": {path.name: file_sha256(path) for path in files}}
    if build is not None:
        content["build"] = to_mapping(build)
        content[CHECKSUM] = _checksum(content)
    target = sidecar_path(engine)
    write_json(target, content)
    return target


def require_own_engine(engine: Path) -> None:
    """Check that writing an engine file and its sidecar writes over no file but an earlier one of this engine.

    Raises:
        ExportError: one of the two is there and is not this project's, or the sidecar is of another engine.
    """
    path, advice = sidecar_path(engine), "so it is not written over; move it, or name another file with -o"
    if engine.suffix == ".onnx":
        if engine.is_file() and METADATA_KEY.encode() not in engine.read_bytes():
            raise ExportError(f"{engine}: is there already and no model of this project, {advice}")
        return
    if not path.exists():
        if engine.exists():
            raise ExportError(f"{engine}: is there already without a sidecar, {advice}")
        return
    try:
        files = _content(engine, path)["sha256"]
    except SpecError:
        raise ExportError(f"{path}: is there already and no sidecar of an engine, {advice}") from None
    if engine.name not in files:
        raise ExportError(f"{path}: is the sidecar of {', '.join(map(str, files))}, {advice}")


def read_sidecar(engine: Path, files: Sequence[Path]) -> ModelSpec:
    """Read the sidecar of `engine` and verify `files`, which the sidecar must list.

    Raises:
        SpecError: the sidecar is missing or malformed, or a file is missing, not listed, or changed.
    """
    path = sidecar_path(engine)
    content = _content(engine, path)
    spec = spec_from_json(json.dumps(content["spec"]), str(path))
    hashes = content["sha256"] if isinstance(content["sha256"], dict) else {}
    for file in files:
        _verify(file, hashes.get(file.name), path)
    return spec


def read_build(engine: Path) -> EngineBuild:
    """Read what a TensorRT engine was built with and for.

    Raises:
        SpecError: the sidecar is missing, malformed or edited, or holds no build.
    """
    path = sidecar_path(engine)
    content = _content(engine, path)
    try:
        build = from_mapping(EngineBuild, content.get("build"))
    except StructureError as error:
        raise SpecError(f"{path}: 'build' does not fit a TensorRT engine: {error}; build the engine again") from None
    if content.get(CHECKSUM, content.get(OLD_CHECKSUM)) != _checksum(content):
        raise SpecError(
            f"{path}: edited after the build, its checksum does not fit; copy it again or build the engine again"
        )
    return build


def _checksum(content: dict[str, Any]) -> str:
    """Compute the SHA-256 of everything but the checksum itself, as JSON with sorted keys."""
    rest = {key: value for key, value in content.items() if key not in (CHECKSUM, OLD_CHECKSUM)}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _content(engine: Path, path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SpecError(f"{engine}: its sidecar {path.name} is missing; copy it beside the engine or export again")
    content = read_json(path, "sidecar; export the engine again", SpecError)
    if not isinstance(content, dict) or not {"spec", "sha256"} <= set(content):
        raise SpecError(f"{path}: expected the keys 'spec' and 'sha256'; export the engine again")
    return content


def _verify(file: Path, expected: object, sidecar: Path) -> None:
    if not isinstance(expected, str):
        raise SpecError(f"{sidecar}: holds no SHA-256 of {file.name}; export the engine again")
    if not file.is_file():
        raise SpecError(f"{file}: missing, though {sidecar.name} lists it; copy all files of the engine")
    found = file_sha256(file)
    if found != expected:
        raise SpecError(
            f"{file}: SHA-256 is {found[:12]}…, {sidecar.name} says {expected[:12]}…; "
            "the file changed after its export or was cut short: copy both again or export again"
        )
