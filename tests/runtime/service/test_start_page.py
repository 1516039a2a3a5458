"""The start page in a real browser: a video is chosen, its detections come, its report plays it; nothing else loads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.service.admission import COOKIE
from tests.browser import Browser, Page, run_browser
from tests.runtime.report.cases import write_webm
from tests.runtime.service.serving import Served, serving

pytestmark = pytest.mark.thorough
READY = "document.getElementById('usual').textContent !== ''"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with run_browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def served(browser: Browser) -> Iterator[Served]:
    with serving(score=0.0) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = Page(browser)
    yield opened
    opened.close()


def choose(page: Page, *files: Path) -> None:
    """Choose files as a person does in the browser's dialogue."""
    found = page.call("Runtime.evaluate", expression="document.getElementById('file')")["result"]["objectId"]
    page.call("DOM.setFileInputFiles", files=[str(path) for path in files], objectId=found)


def test_a_video_is_chosen_and_its_report_plays_it(served: Served, page: Page, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)> \u202e clip.webm"
    video, text = write_webm(tmp_path / name), tmp_path / "list.txt"
    text.write_text("ffconcat version 1.0\nfile /etc/passwd\n", encoding="utf-8")
    page.open(f"{served.address}/")
    page.wait_for(READY)
    assert "jump, throw" in page.evaluate("document.getElementById('facts').textContent")
    choose(page, video, text)
    page.wait_for("document.querySelectorAll('.report:not([hidden]), .reason:not(:empty)').length === 2")
    count = int(
        page.evaluate("document.querySelector('.job:has(.report:not([hidden])) .state').textContent").split()[0]
    )
    rows = page.evaluate("document.querySelectorAll('tbody tr').length")
    assert rows == min(count, 500) > 0
    assert "playlist" in page.evaluate("document.querySelector('.reason:not(:empty)').textContent")
    assert "onerror" in page.evaluate("[...document.querySelectorAll('.name')].map((e) => e.textContent).join()")
    assert page.evaluate("document.querySelectorAll('.job img').length") == 0
    assert page.evaluate("document.getElementById('live').textContent") != ""
    assert all(url.startswith(served.address) for url in page.requests())
    assert page.complaints() == []
    address = page.evaluate("document.querySelector('.report:not([hidden])').href")
    page.open(address)
    page.wait_for("document.getElementById('video').readyState >= 2")
    assert page.evaluate("document.getElementById('video').duration") == pytest.approx(10, abs=0.2)
    assert set(page.requests()) == {address.replace("/report", "/video")}
    assert page.complaints() == []


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(served: Served, page: Page) -> None:
    page.open(f"{served.address}/")
    page.wait_for(READY)
    for _ in range(2):  # Chromium builds the tree at the first question
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    kinds = ("button", "textbox", "spinbutton", "link")
    controls = [node for node in nodes if node.get("role", {}).get("value") in kinds and not node.get("ignored")]
    assert len(controls) >= 4
    assert all(node["name"]["value"].strip() for node in controls)
    seen = []
    for _ in range(8):
        page.key("Tab")
        seen.append(page.evaluate("document.activeElement.id"))
    assert {"file", "url", "score"} <= set(seen)


def test_a_browser_gives_the_token_once(served: Served, page: Page) -> None:
    with served.options(token="0123456789abcdef"):
        page.open(f"{served.address}/")
        page.wait_for("!document.getElementById('login').hidden")
        page.evaluate(
            "document.getElementById('token').value = '0123456789abcdef';"
            "document.getElementById('login').requestSubmit()"
        )
        page.wait_for(READY)
        assert page.evaluate("document.getElementById('login').hidden")
        assert COOKIE not in page.evaluate("document.cookie")
