"""Pages as files: one file, nothing loaded, nothing run but their own script, whatever the names are."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from runtime.common.text import printable
from runtime.errors import InputError
from runtime.report.document import is_page, script_json, write_page
from runtime.results.detections import Detections
from tests.runtime.report.cases import CLASSES, HOSTILE, read, some


def hostile() -> Detections:
    count = len(HOSTILE)
    spans = np.arange(count)[:, None] + np.array([0.0, 0.9])
    return Detections(spans, np.arange(count, dtype=np.int32), np.full(count, 0.9), HOSTILE, HOSTILE[0])


def test_the_policy_names_the_script_and_style_of_the_page_and_allows_nothing_else(tmp_path: Path) -> None:
    some().to_html(tmp_path / "page.html")
    page = read(tmp_path / "page.html")
    (script,) = [text for attributes, text in page.all("script") if "type" not in attributes]
    ((_, style),) = page.all("style")

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": digest(script),
        "style-src": digest(style),
        "img-src": "data:",
        "media-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    loaded = [value for a in page.attributes for name, value in a.items() if name in ("src", "href", "action")]
    assert loaded == ["data:,"]
    assert not [name for a in page.attributes for name in a if name.startswith("on") or name == "style"]


def test_hostile_labels_are_data_and_nothing_else(tmp_path: Path) -> None:
    some().to_html(tmp_path / "tame.html")
    hostile().to_html(tmp_path / "hostile.html")
    tame, page = read(tmp_path / "tame.html"), read(tmp_path / "hostile.html")
    assert page.tags == tame.tags
    assert [row["name"] for row in page.data["rows"]] == list(map(printable, HOSTILE))
    ((_, title),) = page.all("title")
    assert title == HOSTILE[0]
    assert is_page((tmp_path / "hostile.html").read_bytes())


@pytest.mark.parametrize("text", HOSTILE)
def test_json_of_a_script_gives_back_every_text_and_holds_no_markup(text: str) -> None:
    written = script_json({text: [text]})
    assert json.loads(written) == {text: [text]}
    assert not set("<>&\u2028\u2029") & set(written)


def test_names_that_are_no_text_are_written(tmp_path: Path) -> None:
    Detections.empty(CLASSES, "caf\udce9").to_html(tmp_path / "page.html")
    assert read(tmp_path / "page.html").data["video"] == "caf\udce9"


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    some().to_html(tmp_path / "page.html")
    before = (tmp_path / "page.html").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_page(tmp_path / "page.html", "video", "x", {"score": float("nan")})
    nan = Detections(np.array([[0.0, np.nan]]), np.zeros(1, np.int32), np.ones(1), CLASSES, "v")
    with pytest.raises(InputError, match="v: a detection holds NaN or infinity"):
        nan.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_other_pages_are_not_taken_for_reports() -> None:
    assert not is_page(b"<!doctype html>\n<html><body>my own</body></html>")
    assert not is_page(b"")
