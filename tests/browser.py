"""Drive a headless Chromium by its own protocol (CDP) over two pipes, without a driver or a library between."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

fcntl = pytest.importorskip("fcntl", reason="the browser is driven over pipes as POSIX has them")

NAMES = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio",
    "--hide-scrollbars", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-extensions", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
PATIENCE_S = 60.0
"""Seconds to wait for an answer, on a machine that does other things."""
Answer = dict[str, Any]


def find_chromium() -> str:
    """Return the path of a Chromium; skip the test where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    return found


class BrowserError(Exception):
    """Reports an answer of the browser that is an error, or none."""


class Browser:
    """Runs a Chromium and speaks with it."""

    def __init__(self, executable: str, profile: Path) -> None:
        (commands, self._to), (self._from, answers) = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (commands, answers)]  # neither is 3 or 4
        self._pid = os.posix_spawn(
            executable,
            [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            os.environ,
            file_actions=[
                *((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)),
                *((os.POSIX_SPAWN_DUP2, end, number) for end, number in zip(ends, (3, 4), strict=True)),
            ],
        )
        for end in (commands, answers, *ends):
            os.close(end)
        self._number = 0
        self._buffer = b""
        self.events: list[Answer] = []
        """Events that nobody has looked at yet."""

    def call(self, method: str, session: str = "", **parameters: Any) -> Answer:
        """Call a method and return its result; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self._read(deadline, method)
            if answer.get("id") != self._number:
                self.events.append(answer)
            elif "error" in answer:
                raise BrowserError(f"{method}: {answer['error']}")
            else:
                result: Answer = answer["result"]
                return result

    def wait(self, is_wanted: Callable[[Answer], bool]) -> Answer:
        """Return the first event of a kind."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := next(filter(is_wanted, self.events), None)):
            self.events.append(self._read(deadline, "an event"))
        return found

    def close(self) -> None:
        """End the browser."""
        for descriptor in (self._to, self._from):
            os.close(descriptor)
        os.kill(self._pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.02)

    def _read(self, deadline: float, what: str) -> Answer:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(deadline - time.monotonic(), 0))
            data = os.read(self._from, 1 << 20) if ready else b""
            if not data:
                raise BrowserError(f"{what}: no answer; the browser has {'hung' if not ready else 'ended'}")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: Answer = json.loads(message)
        return answer


class Page:
    """Holds one page of a browser, of a given size and theme."""

    def __init__(self, browser: Browser, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._target = target
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)
        self.emulate(dark=dark)

    def call(self, method: str, **parameters: Any) -> Answer:
        """Call a method of the page."""
        return self._browser.call(method, self._session, **parameters)

    def resize(self, width: int, height: int) -> None:
        """Set the size of the window."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def emulate(self, *, dark: bool = False, media: str = "") -> None:
        """Set the theme that the system asks for, and the medium ("print")."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def open(self, path: Path | str) -> None:
        """Open a file or an address and wait until it is loaded."""
        url = path.as_uri() if isinstance(path, Path) else path
        self._browser.events.clear()
        self.call("Page.navigate", url=url)
        self._browser.wait(lambda e: e.get("method") == "Page.loadEventFired" and e.get("sessionId") == self._session)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of the page, which may be a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression of the page is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.evaluate(expression):
            if time.monotonic() > deadline:
                raise BrowserError(f"{expression}: never came true")
            time.sleep(0.02)

    def frames(self, count: int = 2) -> None:
        """Wait until the page has been drawn."""
        self.evaluate("new Promise((done) => {let n = %d; const f = () => n-- ? requestAnimationFrame(f) : done(1); f()})" % count)  # fmt: skip # noqa: UP031, E501

    def key(self, key: str, *, shift: bool = False) -> None:
        """Press a key and let it go."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code="Space" if key == " " else key,
                modifiers=8 if shift else 0,
                windowsVirtualKeyCode=CODES.get(key, 0),
                **(text if kind == "keyDown" else {}),
            )

    def click(self, x: float, y: float) -> None:
        """Click at a point of the window."""
        for kind, buttons in (("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)):
            button = "none" if kind == "mouseMoved" else "left"
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=1)

    def centre(self, selector: str) -> tuple[float, float]:
        """Return the centre of an element in the window, brought into view."""
        expression = (
            "(() => {const e = document.querySelector(%s); e.scrollIntoView({block: 'nearest'});"
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        x, y = self.evaluate(expression % json.dumps(selector))
        return x, y

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write a picture (PNG) of the window or of the whole page."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def height(self) -> int:
        """Return the height of the whole page in pixels."""
        return int(self.evaluate("Math.ceil(document.documentElement.getBoundingClientRect().height)"))

    def requests(self) -> list[str]:
        """Return the addresses that the page has asked for since it was opened, itself and data: left out."""
        self.evaluate("1")
        sent = [e["params"] for e in self._mine("Network.requestWillBeSent") if e["params"].get("type") != "Document"]
        return [one["request"]["url"] for one in sent if not one["request"]["url"].startswith("data:")]

    def complaints(self) -> list[str]:
        """Return what the browser complained of since the page was opened: exceptions, refused scripts, faults."""
        self.evaluate("1")
        thrown = [str(e["params"]["exceptionDetails"]) for e in self._mine("Runtime.exceptionThrown")]
        return thrown + [e["params"]["entry"]["text"] for e in self._mine("Log.entryAdded")]

    def close(self) -> None:
        """Close the page."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def _mine(self, method: str) -> Iterator[Answer]:
        return (e for e in self._browser.events if e.get("method") == method and e.get("sessionId") == self._session)


CODES = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, " ": 32, "Home": 36, "End": 35, "Tab": 9}
"""Windows' codes of keys that have no text."""


@contextmanager
def run_browser(profile: Path) -> Iterator[Browser]:
    """Run a Chromium with a profile of its own; skip the test where there is none."""
    browser = Browser(find_chromium(), profile)
    try:
        yield browser
    finally:
        browser.close()
