"""What messages tell a user to install, and that nothing promises a package index that does not have this project."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from runtime.errors import MissingDependencyError, import_failure, install_hint

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


@pytest.mark.parametrize(
    ("module", "library", "message"),
    [
        ("no_such_library", "no_such_library", "reading needs no_such_library, which is not installed: pip install"),
        (
            "no_such_library.part",
            "no_such_library",
            "reading needs no_such_library, which is not installed: pip install",
        ),
        ("no_such_library", "av", "reading needs no_such_library, which is not installed: pip install"),
        ("no_such_library", "", "reading needs no_such_library, which is not installed: pip install"),
        ("json.no_such_part", "json", "reading needs json, which is installed but does not load (No module named"),
        ("runtime.no_such_part", "", "reading needs runtime, which is installed but does not load (No module named"),
        (
            "broken_library",
            "broken_library",
            "which is installed but does not load (libx.so: cannot open shared object",
        ),
    ],
)
def test_not_installed_is_said_only_if_it_is_so(
    module: str, library: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_library.py").write_text("raise ImportError('libx.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError) as caught:
        import_module(module)
    error = import_failure(caught.value, library, "", "reading")
    assert message in str(error)
    assert isinstance(error, MissingDependencyError) == ("not installed" in message)


def test_nothing_installs_this_project_by_its_name() -> None:
    """Neither docs nor messages, which would bring whatever a stranger publishes under that name."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    files += [ROOT / "README.md", ROOT / "Makefile"]
    found = [path for path in files if re.search(r"pip install '?afsd(\[|'|`|\s)", path.read_text(encoding="utf-8"))]
    assert len(files) > 100
    assert not found
