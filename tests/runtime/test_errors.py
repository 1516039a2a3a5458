"""What messages tell a user to install, and that nothing promises a package index that does not have this project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runtime.errors import install_hint

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("runtime", "training", "export", "calibration", "docs")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("openvino", "openvino"), "pip install '.[openvino]' in a clone of this project, or pip install openvino"),
        (("onnxruntime",), "pip install onnxruntime"),
        (("yaml.reader", "train"), "pip install '.[train]' in a clone of this project, or pip install pyyaml"),
        (("contrib", "", "plain"), "pip uninstall plain, then pip install contrib"),
    ],
)
def test_install_hint(arguments: tuple[str, ...], hint: str) -> None:
    assert install_hint(*arguments) == hint


def test_nothing_installs_this_project_by_its_name() -> None:
    """Neither docs nor messages, which would bring whatever a stranger publishes under that name."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    files += [ROOT / "README.md", ROOT / "Makefile"]
    found = [path for path in files if re.search(r"pip install '?afsd(\[|'|`|\s)", path.read_text(encoding="utf-8"))]
    assert len(files) > 100
    assert not found
