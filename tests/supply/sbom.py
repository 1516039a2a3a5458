"""Write a bill of materials of the installed environment, CycloneDX 1.6 as JSON, without a network.

python -m tests.supply.sbom build/sbom.cdx.json
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name

from tests.supply.packages import LOCKS, ROOT, find_installed, find_needed, find_parts, read_licence, read_lock


def make_sbom() -> dict[str, Any]:
    """Return the document: every locked package that is installed, what it needs, and its licence.

    There is no date and no random number in it: the same environment gives the same document.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    root = _reference(project["name"], project["version"])
    names = [package.name for lock in LOCKS for package in read_lock(ROOT / lock) if find_installed(package.name)]
    parts = find_parts(names)
    references = {canonicalize_name(name): _reference(name, _version(name)) for name in names}
    needed = {
        references[canonicalize_name(name)]: sorted(
            {references[key] for need in find_needed(name) if (key := canonicalize_name(need.name)) in references}
        )
        for name in names
    }
    direct = sorted(set(references.values()) - {reference for found in needed.values() for reference in found})
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": project["name"],
                "version": project["version"],
                "description": project["description"],
                "licenses": [{"expression": project["license"]}],
                "purl": root,
            }
        },
        "components": [_component(name, references[canonicalize_name(name)], parts[name]) for name in sorted(names)],
        "dependencies": [
            {"ref": root, "dependsOn": direct},
            *({"ref": reference, "dependsOn": found} for reference, found in sorted(needed.items())),
        ],
    }


def _component(name: str, reference: str, part: str) -> dict[str, Any]:
    package = find_installed(name)
    assert package is not None
    licence = read_licence(package)
    try:
        licences: list[dict[str, Any]] = [{"expression": str(canonicalize_license_expression(licence))}]
    except InvalidLicenseExpression:  # words of the package's own
        licences = [{"license": {"name": licence}}]
    return {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": _version(name),
        "description": str(package.metadata.get("Summary", "")),
        "scope": "optional" if part == "development" else "required",
        "licenses": licences,
        "purl": reference,
        "properties": [{"name": "afsd:part", "value": part}],
    }


def _reference(name: str, version: str) -> str:
    return f"pkg:pypi/{canonicalize_name(name)}@{version.replace('+', '%2B')}"


def _version(name: str) -> str:
    package = find_installed(name)
    assert package is not None
    return package.version


def main(target: Path) -> int:
    """Write the document."""
    document = make_sbom()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {target}: {len(document['components'])} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
