"""Networks that are exported once for all tests, and what a run says at its end.

Tests of the runtime use no network and run without PyTorch, so nothing heavy is imported at module level.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.media import MEDIA, Media, find_ffmpeg, load_media, make_media, write_frames

MadeOnce = Callable[[str, Callable[[Path], None]], Path]
"""A folder's name and what fills it → the folder, filled."""


class Exported(NamedTuple):
    """Files of the small network, and what the exporters said."""

    checkpoint: Path
    onnx: Path
    openvino: Path
    said: str


class FeatureModel(NamedTuple):
    """A small network on features: the feature set it was trained on, its checkpoint and its ONNX file."""

    root: Path
    checkpoint: Path
    onnx: Path


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled models that commands keep are not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user-cache")))
        yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Maker of folders that all worker processes of a run share: tracing a network takes many seconds."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        from filelock import FileLock  # comes with PyTorch

        shared.mkdir(exist_ok=True)
        folder = shared / name
        with FileLock(shared / f"{name}.lock"):
            if not (folder / "complete").exists():
                shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
                folder.mkdir()
                fill(folder)
                (folder / "complete").touch()
        return folder

    return make


@pytest.fixture(scope="session")
def media(made_once: MadeOnce) -> Callable[[str], Media]:
    """Maker of the file of a recipe in `tests.media`, and of what ffmpeg shows of it; skips without ffmpeg."""

    def make(name: str) -> Media:
        find_ffmpeg()
        of = make(MEDIA[name].of).path if MEDIA[name].of else None
        frames = made_once("media-frames", lambda folder: write_frames(folder / "frames.rgb")) / "frames.rgb"
        return load_media(made_once(f"media-{name}", lambda folder: make_media(name, frames, folder, of)), name)

    return make


@pytest.fixture(scope="session")
def exported(made_once: MadeOnce) -> Exported:
    def fill(folder: Path) -> None:
        import torch

        from export.to_onnx import export_onnx
        from export.to_openvino import export_openvino
        from tests.training.small import save_small

        torch.manual_seed(0)
        said: list[str] = []
        file = export_onnx(save_small(folder / "small.ckpt"), say=said.append)
        export_openvino(file, say=said.append)
        (folder / "said.txt").write_text("\n".join(said), encoding="utf-8")

    folder = made_once("small", fill)
    files = (folder / f"small{suffix}" for suffix in (".ckpt", ".onnx", ".xml"))
    return Exported(*files, (folder / "said.txt").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def feature_model(made_once: MadeOnce) -> Callable[[str], FeatureModel]:
    """Maker of a network of `tests.training.feature_data`, trained until it finds something, by its configuration."""

    def make(network: str) -> FeatureModel:
        def fill(folder: Path) -> None:
            from export.to_onnx import export_onnx
            from tests.training.feature_data import make_feature_set, small_feature_config
            from training.run import train

            root = make_feature_set(folder / "set")
            settings = ("optimiser.epochs=12", "optimiser.learning_rate=3e-3")
            export_onnx(train(small_feature_config(network, root, *settings), folder / "run"), say=lambda _: None)

        folder = made_once(network, fill)
        return FeatureModel(folder / "set", folder / "run/last.ckpt", folder / "run/last.onnx")

    return make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped, a line for each reason."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count:3}: {reason}")
