"""Read what an engine file says about itself, and verify that it is whole, before a library sees it.

An ONNX file carries ModelSpec and digest in its metadata. An OpenVINO .xml carries both in its `rt_info`, with the
SHA-256 of its .bin. A TensorRT engine has a sidecar, `<stem>.json`. Files of older releases have no digest (ONNX), or a
sidecar (OpenVINO): they open with a warning, and a file whose ModelSpec is of `SEALED_SCHEMA` or later must have one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime.engines.onnx.metadata import read_onnx_metadata
from runtime.engines.openvino.xml import WEIGHTS_KEY, XML_SEAL, read_xml_entries
from runtime.engines.seal import ONNX_SEAL, read_seal, verify_seal
from runtime.engines.sidecar import read_sidecar, sidecar_path
from runtime.engines.tensorrt.build_facts import EngineBuild
from runtime.engines.two_files import settle, weights_of
from runtime.errors import ArtifactWarning, EngineError, ExportError, SpecError
from runtime.spec.model import METADATA_KEY, ModelSpec, spec_from_json

SEALED_SCHEMA = 4
"""First schema of the ModelSpec whose artifacts carry a digest."""

AGAIN = "copy the model again, or export it again"
"""Advice of errors about damage."""


@dataclass(frozen=True)
class Artifact:
    """Holds what an engine file says about itself."""

    path: Path
    """The file that is opened: .onnx, .xml, .engine or .plan."""
    spec: ModelSpec
    sha256: str
    """Digest of the whole model; empty for files of older releases."""
    weights: Path
    """The file with the weights: `path` itself, the .bin of an .xml, or the plan."""
    build: EngineBuild | None = None
    """What a TensorRT engine was built with and for."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the model."""
        sidecar = sidecar_path(self.path)
        others = (sidecar,) if self.build is not None and sidecar.is_file() else ()
        return tuple(dict.fromkeys((self.path, self.weights, *others)))


def read_artifact(path: Path, *, verify: bool = True) -> Artifact:
    """Read an engine file's facts.

    Args:
        path: .onnx, .xml, .engine or .plan file.
        verify: whether all bytes of the model are compared with its digest; its files are read once for that.

    Raises:
        SpecError: no ModelSpec, a malformed one, or files that are damaged, missing, or of two models.
        EngineError: not a file of its kind.
    """
    return READERS[path.suffix.lower()](path, verify)


def _read_onnx(path: Path, verify: bool) -> Artifact:
    digest = read_seal(path, ONNX_SEAL)
    if digest is not None and verify:
        verify_seal(path, ONNX_SEAL)
    text = read_onnx_metadata(path).get(METADATA_KEY)
    if text is None:
        raise SpecError(
            f"{path}: holds no ModelSpec, so it is cut off or no model of this project; write one with afsd export"
        )
    spec = spec_from_json(text, str(path))
    if digest is None and verify:
        _accept_old(path, spec)
    return Artifact(path, spec, digest or "", path)


def _read_xml(path: Path, verify: bool) -> Artifact:
    entries = read_xml_entries(path)
    if entries is None:
        return _read_old_xml(path, verify)
    digest = read_seal(path, XML_SEAL)
    if digest is None:
        raise SpecError(f"{path}: is damaged or was changed after its export, its digest is not at its end; {AGAIN}")
    if verify:
        verify_seal(path, XML_SEAL)
    spec = spec_from_json(entries.get(METADATA_KEY, ""), str(path))
    weights = weights_of(path, path.with_suffix(".bin"), entries.get(WEIGHTS_KEY, ""), verify=verify)
    return Artifact(path, spec, digest, weights)


def _read_old_xml(path: Path, verify: bool) -> Artifact:
    """Read a model of three files, of an older release."""
    if WEIGHTS_KEY.encode() in path.read_bytes():
        raise SpecError(f"{path}: is damaged or was changed after its export, its entries are not in <afsd>; {AGAIN}")
    if not sidecar_path(path).is_file():
        raise SpecError(
            f"{path}: holds no ModelSpec, so it is cut off or no model of this project; write one with afsd export"
        )
    sidecar = read_sidecar(sidecar_path(path), path)
    weights = path.with_suffix(".bin")
    for file in (path, weights) if verify else ():
        weights_of(path, file, sidecar.digest(file.name), manifest=sidecar.path)
    if verify:
        _accept_old(path, sidecar.spec)
    return Artifact(path, sidecar.spec, "", weights)


def _read_plan(path: Path, verify: bool) -> Artifact:
    sidecar = read_sidecar(sidecar_path(path), path)
    build = sidecar.build()
    weights = weights_of(path, path, sidecar.digest(path.name), manifest=sidecar.path, verify=verify)
    return Artifact(path, sidecar.spec, sidecar.checksum, weights, build)


READERS: dict[str, Callable[[Path, bool], Artifact]] = {
    ".onnx": _read_onnx, ".xml": _read_xml, ".engine": _read_plan, ".plan": _read_plan,
}  # fmt: skip
"""Readers by suffix."""


def _accept_old(path: Path, spec: ModelSpec) -> None:
    """Warn of a file without a digest if its release wrote none (SpecError: its release wrote one)."""
    if spec.schema >= SEALED_SCHEMA:
        raise SpecError(
            f"{path}: its digest is missing, so the file was cut short or changed after its export; {AGAIN}"
        )
    warnings.warn(
        ArtifactWarning(
            f"{path}: is of an older release, without a digest, so damage would go unnoticed; export it again"
        ),
        stacklevel=4,
    )


def settle_model(path: Path) -> None:
    """Settle an .xml, .engine or .plan that may be there, before another takes its place."""
    weights = path.with_suffix(".bin") if path.suffix == ".xml" else path
    try:
        if path.suffix == ".xml":
            sha256 = (read_xml_entries(path) or {}).get(WEIGHTS_KEY) if path.is_file() else None
        else:
            sha256 = read_sidecar(sidecar_path(path), path).digest(path.name) if sidecar_path(path).is_file() else None
    except (SpecError, EngineError):  # a damaged manifest names nothing
        sha256 = None
    settle(weights, sha256)


def remove_old_sidecar(path: Path) -> None:
    """Remove the sidecar that an older release wrote beside an OpenVINO model; the .xml has its content now."""
    sidecar = sidecar_path(path)
    try:
        listed = set(read_sidecar(sidecar).sha256)
    except SpecError:  # none, or another program's
        return
    if listed <= {path.name, path.with_suffix(".bin").name}:
        sidecar.unlink(missing_ok=True)


def require_own_engine(engine: Path) -> None:
    """Check that writing an engine's files writes over no file but an earlier one of this engine.

    Raises:
        ExportError: one of them is there and is not this project's, or the sidecar is of another engine.
    """
    path, advice = sidecar_path(engine), "so it is not written over; move it, or name another file with -o"
    if engine.suffix == ".onnx":
        if engine.is_file() and METADATA_KEY.encode() not in engine.read_bytes():
            raise ExportError(f"{engine}: is there already and no model of this project, {advice}")
        return
    try:
        if engine.suffix == ".xml" and engine.is_file() and read_xml_entries(engine) is not None:
            return
    except (SpecError, EngineError):  # damaged, but this project's
        return
    if not path.exists():
        if engine.exists():
            raise ExportError(f"{engine}: is there already and no model of this project, {advice}")
        return
    try:
        files = read_sidecar(path).sha256
    except SpecError:
        raise ExportError(f"{path}: is there already and no sidecar of an engine, {advice}") from None
    if engine.name not in files:
        raise ExportError(f"{path}: is the sidecar of {', '.join(map(str, files))}, {advice}")
