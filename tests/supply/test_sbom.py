"""The bill of materials names every installed package of the lock, and hangs together."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

from tests.supply.packages import ROOT, read_lock
from tests.supply.sbom import main, make_sbom


def test_it_names_what_is_installed(tmp_path: Path) -> None:
    assert main(tmp_path / "build" / "sbom.cdx.json") == 0
    document = json.loads((tmp_path / "build" / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert document == make_sbom()  # no date, no random number
    assert (document["bomFormat"], document["specVersion"], document["version"]) == ("CycloneDX", "1.6", 1)
    components = {component["name"]: component for component in document["components"]}
    here = set()
    for package in read_lock(ROOT / "requirements-dev.txt"):
        try:
            version = metadata.version(package.name)
        except metadata.PackageNotFoundError:
            continue
        here.add(package.name)
        assert components[package.name]["version"] == version
        assert components[package.name]["licenses"]
    assert here <= set(components)
    assert len(here) > 20
    assert components["numpy"]["scope"] == "required"
    assert components["pytest"]["scope"] == "optional"


def test_its_references_are_unique_and_resolve() -> None:
    document = make_sbom()
    references = [component["bom-ref"] for component in document["components"]]
    root = document["metadata"]["component"]["bom-ref"]
    assert len(references) == len(set(references))
    graph = {entry["ref"]: entry["dependsOn"] for entry in document["dependencies"]}
    assert set(graph) == {root, *references}
    assert {reference for needed in graph.values() for reference in needed} <= set(references)
    reached, waiting = set(), [root]
    while waiting:
        reference = waiting.pop()
        if reference not in reached:
            reached.add(reference)
            waiting += graph[reference]
    assert reached == set(graph)
    (pytest_reference,) = (reference for reference in references if reference.startswith("pkg:pypi/pytest@"))
    assert any(reference.startswith("pkg:pypi/pluggy@") for reference in graph[pytest_reference])
    assert all(component["purl"] == component["bom-ref"] for component in document["components"])
