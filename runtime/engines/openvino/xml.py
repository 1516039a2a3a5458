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
    values = {METADATA_KEY: replace(spec, schema=SCHEMA).to_json(), WEIGHTS_KEY: file_sha256(path.with_suffix(".bin"))}
    entries = "".join(f'\t\t\t<{key} value="{escape(value)}" />\n' for key, value in values.items())
    path.write_bytes(content.removesuffix(END) + f"\t\t<afsd>\n{entries}".encode())
    return write_seal(path, XML_SEAL)
