"""Documents that Hypothesis makes up, for everything that reads JSON: right in part, and odd in the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.annotations.activitynet import load_annotations
from runtime.errors import AfsdError
from runtime.evaluation.mean_ap import evaluate
from runtime.features.description import read_description
from runtime.results.detections import load_detections
from runtime.results.video_scores import load_video_scores
from runtime.spec.model import spec_from_json
from tests.tiny import tiny_spec

numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([10**400, -1, 0, 2**63, 1e308]), st.integers(0, 30), st.floats(0, 30)
)
leaves = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=12), numbers.map(repr))
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
segments = st.one_of(st.tuples(st.floats(0, 20), st.floats(0, 20)).map(sorted), st.lists(leaves, max_size=3), trees)


def record(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A mapping in which any field may be missing, or anything at all."""
    optional = {name: field | trees for name, field in fields.items()}
    return st.fixed_dictionaries({}, optional=optional) | st.fixed_dictionaries(fields)


label = st.sampled_from(["a", "b", "v_a"]) | st.text(max_size=5)
instance = record(label=label, segment=segments)
found = record(label=label, segment=segments, score=numbers)
entry = record(
    subset=st.sampled_from(["test", "training"]),
    duration=numbers,
    fps=numbers,
    annotations=st.lists(instance, max_size=4),
)
names = st.sampled_from(["x", "v_x", "../x", "y"]) | st.text(max_size=6)
DOCUMENTS = {
    "annotations": record(database=st.dictionaries(names, entry, max_size=4)),
    "detections": record(results=st.dictionaries(names, st.lists(found, max_size=5), max_size=4)),
    "scores": record(
        results=st.dictionaries(names, st.lists(numbers, max_size=3)), **{"class": st.lists(label, max_size=3)}
    ),
    "description": record(
        annotations=label,
        streams=st.lists(record(folder=label, pattern=label, columns=st.lists(numbers)), max_size=2),
        sampling=record(stride=numbers, window=numbers, fps=numbers),
    ),
}
READERS: dict[str, Callable[[Path], Any]] = {
    "annotations": lambda path: load_annotations(path, ""),
    "detections": load_detections,
    "scores": load_video_scores,
    "description": read_description,
}


def _refused_or(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except AfsdError:
        return None


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_documents_are_read_or_refused(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("made") / "file.json"
    path.write_text(json.dumps(data.draw(DOCUMENTS[kind] | trees)), encoding="utf-8")
    _refused_or(lambda: READERS[kind](path))


@given(changes=st.dictionaries(st.sampled_from(sorted(json.loads(tiny_spec().to_json()))), trees | numbers, max_size=3))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_spec_is_read_or_refused(changes: dict[str, Any]) -> None:
    content = json.loads(tiny_spec().to_json()) | changes
    spec = _refused_or(lambda: spec_from_json(json.dumps(content), "made"))
    if spec is not None:  # what is accepted comes back as it was
        assert spec_from_json(spec.to_json(), "made") == spec


@given(truth=DOCUMENTS["annotations"], judged=DOCUMENTS["detections"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_what_is_read_can_be_judged(truth: Any, judged: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("made")
    for name, content in (("truth", truth), ("found", judged)):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")

    def judge() -> Any:
        return evaluate(load_detections(folder / "found.json"), load_annotations(folder / "truth.json", ""), (0.3, 0.5))

    result = _refused_or(judge)
    if result is not None:
        assert 0 <= result.average <= 1
