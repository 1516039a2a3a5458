"""Read and write the sidecar of engine files that carry no ModelSpec: `<stem>.json` with spec and SHA-256 sums.

A TensorRT plan must stay as its library wrote it. Its sidecar also holds its `EngineBuild`, and a checksum over all its
content. OpenVINO models of older releases have a sidecar too, without a checksum.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtime.common.files import file_sha256, read_json, write_json
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.engines.tensorrt.build_facts import EngineBuild
from runtime.errors import SpecError
from runtime.spec.model import SCHEMA, ModelSpec, spec_from_json

CHECKSUM = "checksum"
"""Key of the checksum in a TensorRT engine's sidecar."""
OLD_CHECKSUM = "seal"
"""Key of the checksum in sidecars that were written before."""


def sidecar_path(engine: Path) -> Path:
    """Return the path of an engine file's sidecar."""
    return engine.with_suffix(".json")


@dataclass(frozen=True)
class Sidecar:
    """Holds the content of a sidecar."""

    path: Path
    spec: ModelSpec
    sha256: dict[str, Any]
    """Name of a file → SHA-256 of its bytes."""
    content: dict[str, Any]
    """The whole JSON."""

    def digest(self, name: str) -> str | None:
        """Return the SHA-256 of the file called `name`; None where the sidecar lists none."""
        found = self.sha256.get(name)
        return found if isinstance(found, str) else None

    @property
    def checksum(self) -> str:
        """SHA-256 of everything but the checksum itself, as JSON with sorted keys."""
        rest = {key: value for key, value in self.content.items() if key not in (CHECKSUM, OLD_CHECKSUM)}
        return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()

    def build(self) -> EngineBuild:
        """Return what a TensorRT engine was built with and for.

        Raises:
            SpecError: the sidecar is edited, or holds no build.
        """
        try:
            build = from_mapping(EngineBuild, self.content.get("build"))
        except StructureError as error:
            raise SpecError(
                f"{self.path}: 'build' does not fit a TensorRT engine: {error}; build the engine again"
            ) from None
        if self.content.get(CHECKSUM, self.content.get(OLD_CHECKSUM)) != self.checksum:
            raise SpecError(
                f"{self.path}: edited after the build, its checksum does not fit; copy it again or build the engine "
                "again"
            )
        return build


def write_sidecar(engine: Path, spec: ModelSpec, build: EngineBuild) -> Path:
    """Write the sidecar of a TensorRT engine, with the SHA-256 of its plan."""
    spec = replace(spec, schema=SCHEMA)
    content = {"spec": to_mapping(spec), "sha256": {engine.name: file_sha256(engine)}, "build": to_mapping(build)}
    target = sidecar_path(engine)
    write_json(target, {**content, CHECKSUM: Sidecar(target, spec, {}, content).checksum})
    return target


def rewrite_sidecar(sidecar: Sidecar, spec: ModelSpec) -> None:
    """Write the sidecar of a TensorRT engine anew with another spec (OSError: it cannot be written)."""
    rest = {key: value for key, value in sidecar.content.items() if key not in (CHECKSUM, OLD_CHECKSUM)}
    content = {**rest, "spec": to_mapping(replace(spec, schema=SCHEMA))}
    write_json(sidecar.path, {**content, CHECKSUM: Sidecar(sidecar.path, spec, {}, content).checksum})


def read_sidecar(path: Path, engine: Path | None = None) -> Sidecar:
    """Read a sidecar; `engine` is the file that errors name.

    Raises:
        SpecError: the sidecar is missing or malformed.
    """
    if not path.is_file():
        raise SpecError(
            f"{engine or path}: its sidecar {path.name} is missing; copy it beside the engine or export again"
        )
    content = read_json(path, "sidecar; export the engine again", SpecError)
    if not isinstance(content, dict) or not {"spec", "sha256"} <= set(content):
        raise SpecError(f"{path}: expected the keys 'spec' and 'sha256'; export the engine again")
    spec = spec_from_json(json.dumps(content["spec"]), str(path))
    return Sidecar(path, spec, content["sha256"] if isinstance(content["sha256"], dict) else {}, content)
