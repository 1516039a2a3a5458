"""Make the pictures of docs/report.md: the shipped network on synthetic videos, its pages in a headless Chromium.

python -m tests.report_pictures
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.common.temporaries import scratch_folder
from tests.browser import Browser, Page, run_browser
from tests.runtime.report.cases import many

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH = 1280


def make_pages(folder: Path) -> None:
    """Write an evaluation's report and pages without truth into a folder."""
    from export.to_onnx import export_onnx
    from training.synthetic.videos import make_synthetic

    shipped = Path(__file__).resolve().parent.parent / "training/pretrained/synthetic.ckpt"
    make_synthetic(folder / "data", videos=10, seed=3, subset="testing", progress=False)
    model = export_onnx(shipped, folder / "synthetic.onnx", say=lambda _: None)
    afsd = [sys.executable, "-m", "runtime"]
    page = [
        "--format",
        "html",
        "--embed",
        "--out",
    ]  # embedded: the synthetic videos are of a kind that browsers do not play
    subprocess.run([*afsd, "detect", model, folder / "data/videos", *page, folder / "found"], check=True)
    subprocess.run([*afsd, "evaluate", model, folder / "data/annotations.json", *page, folder / "judged"], check=True)
    many(5000).to_html(folder / "5000.html", duration_s=1800.0, threshold=0.1)


@contextmanager
def opened(browser: Browser, path: Path, *, dark: bool = False, width: int = WIDTH) -> Iterator[Page]:
    """Open a page and wait until its video, if it has one, shows a frame."""
    page = Page(browser, width, 900, dark)
    page.open(path)
    page.wait_for("!document.getElementById('video') || document.getElementById('video').readyState >= 2")
    yield page
    page.close()


def take(page: Page, path: Path, height: int | None = None) -> None:
    """Take a picture of a page, or of its upper part, with fewer colours in its photographs."""
    from PIL import Image

    width = int(page.evaluate("innerWidth"))
    page.resize(width, min(page.height(), height or 4000))
    page.evaluate("scrollTo(0, 0)")
    page.frames(10)
    page.screenshot(path)
    picture = Image.open(path).convert("RGB")
    photographs = "[...document.querySelectorAll('video, .strip img')].filter((e) => !e.hidden)"
    for x, y, right, bottom in page.evaluate(
        f"{photographs}.map((e) => e.getBoundingClientRect()).map((b) => [b.left, b.top, b.right, b.bottom])"
    ):
        box = (int(x), int(y), int(right), int(bottom))
        part = picture.crop(box).quantize(40, dither=Image.Dither.NONE)
        picture.paste(part.convert("RGB"), box)
    picture.save(path, optimize=True)


def select(page: Page, count: int) -> None:
    """Go to a detection by the keyboard."""
    for _ in range(count):
        page.key("ArrowRight")
        page.frames(2)
    page.evaluate("new Promise((done) => setTimeout(done, 400))")


def main(folder: Path) -> None:
    """Make all pictures."""
    make_pages(folder)
    first = "testing_0000.html"
    with run_browser(folder / "profile") as browser:
        for name, dark in (("report_detections", False), ("report_dark", True)):
            with opened(browser, folder / "found" / first, dark=dark) as page:
                select(page, 9)
                take(page, DOCS / f"{name}.png", 900)
        with opened(browser, folder / "judged" / first) as page:
            select(page, 9)
            take(page, DOCS / "report_truth.png", 1000)
        with opened(browser, folder / "judged" / "index.html") as page:
            take(page, DOCS / "report_index.png")
        with opened(browser, folder / "5000.html") as page:
            take(page, DOCS / "report_5000.png", 1000)


if __name__ == "__main__":
    with scratch_folder() as scratch:
        main(scratch)
