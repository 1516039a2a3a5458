"""Read and write this project's entries in the `rt_info` of an OpenVINO .xml: ModelSpec, digest of the .bin, digest."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from pathlib import Path
from xml.etree import ElementTree

from runtime.common.files import file_sha256
from runtime.engines.seal import Seal, write_seal
from runtime.errors import EngineError, SpecError
from runtime.spec.model import METADATA_KEY, SCHEMA, ModelSpec

WEIGHTS_KEY = "bin_sha256"
"""Name of the entry of an OpenVINO .xml that holds the SHA-256 of its .bin."""

LARGEST_XML = 1 << 28
"""Most bytes of an OpenVINO .xml; the published network's has 1.4 million."""

END = b"\t</rt_info>\n</net>\n"
"""Last lines of an .xml that OpenVINO writes."""

BEGINNING = b"\t\t<afsd>\n"
"""Line before this project's entries."""

XML_SEAL = Seal(b'\t\t\t<sha256 value="', b'" />\n\t\t</afsd>\n' + END)


def read_xml_entries(path: Path) -> dict[str, str] | None:
    """Read this project's entries of an OpenVINO .xml; None where it has none.

    Raises:
        EngineError: the file is larger than any network's.
        SpecError: the entries are malformed.
    """
    if (size := path.stat().st_size) > LARGEST_XML:
        raise EngineError(f"{path}: has {size:,} bytes, an OpenVINO .xml at most {LARGEST_XML:,}; export it again")
    content = path.read_bytes()
    start = content.rfind(b"<afsd>")
    if start < 0:
        return None
    end = content.find(b"</afsd>", start)
    try:
        block = ElementTree.fromstring(content[start : end + len(b"</afsd>")] if end > 0 else b"")
    except ElementTree.ParseError:
        raise SpecError(
            f"{path}: is damaged, its entries <afsd> are no XML; copy the model again, or export it again"
        ) from None
    return {entry.tag: entry.get("value", "") for entry in block}


def write_xml_entries(path: Path, spec: ModelSpec) -> str:
    """Add ModelSpec and digests to an .xml that OpenVINO has just written, with its .bin beside; return the digest.

    Raises:
        EngineError: the file does not end as OpenVINO's do.
    """
    content = path.read_bytes()
    if not content.endswith(END):
        raise EngineError(f"{path}: does not end in an rt_info as OpenVINO 2025 and later write it; use such a release")
    return _write_entries(path, content.removesuffix(END), spec, file_sha256(path.with_suffix(".bin")))


def copy_xml(path: Path, target: Path, spec: ModelSpec) -> None:
    """Copy an .xml that carries a ModelSpec with another one; the .bin stays that of `path`.

    Raises:
        SpecError: the file carries none, as those of older releases.
        OSError: the copy cannot be written.
    """
    content = path.read_bytes()
    start = content.rfind(BEGINNING)
    entries = read_xml_entries(path)
    if start < 0 or entries is None:
        raise SpecError(f"{path}: is of an older release and cannot be changed; export it again")
    _write_entries(target, content[:start], spec, entries.get(WEIGHTS_KEY, ""))


def _write_entries(path: Path, content: bytes, spec: ModelSpec, weights_sha256: str) -> str:
    """Write a network's XML up to its last entry of `rt_info`, then this project's entries; return the digest."""
    values = {METADATA_KEY: replace(spec, schema=SCHEMA).to_json(), WEIGHTS_KEY: weights_sha256}
    entries = "".join(f'\t\t\t<{key} value="{escape(value)}" />\n' for key, value in values.items())
    path.write_bytes(content + BEGINNING + entries.encode())
    return write_seal(path, XML_SEAL)
