"""What importing loads, and who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LAYERS = ("runtime", "training", "export", "calibration")
"""Each may import itself and what stands left of it."""
HEAVY = (
    "torch", "onnx", "onnxscript", "tensorrt", "tensorrt_rtx", "openvino", "onnxruntime", "cuda", "ray", "pyarrow",
)  # fmt: skip
"""Never loaded by importing runtime."""
RUNTIME_MODULE_LEVEL = {"numpy", "cv2", "runtime"}
"""All that runtime may import at module level beside the standard library."""
OPTIONAL_MODULE_LEVEL = {
    "runtime/service": {"starlette", "uvicorn", "h11", "prometheus_client"},
    "runtime/metrics": {"prometheus_client"},
}
"""What modules of a folder may import, too: the verb `serve` alone, and `watch --metrics`, import them."""


def modules(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level names of all absolute imports under a node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def module_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run at import: not inside functions, nor under `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or typing_only:
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        waiting += ast.iter_child_nodes(node)


def runtime_names() -> list[str]:
    """Dotted names of all modules of runtime, those that run something at import left out."""
    paths = [path.relative_to(ROOT).with_suffix("") for path in modules("runtime") if path.name != "__main__.py"]
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


@pytest.mark.parametrize("names", [["runtime"], runtime_names()], ids=["package", "every module"])
def test_importing_runtime_loads_no_engine_library(names: list[str]) -> None:
    code = f"import sys\nimport {', '.join(names)}\nprint(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_loads_neither_numpy_nor_opencv_and_gives_its_names_when_used() -> None:
    code = (
        "import sys, runtime\n"
        "print([m for m in ('numpy', 'cv2') if m in sys.modules])\n"
        "print([getattr(runtime, name).__name__ for name in runtime.__all__], 'cv2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = ["Detections", "Detector", "DetectorOptions", "Features", "ModelSpec", "open_engine"]
    assert done.stdout.splitlines() == ["[]", f"{expected} False"]


@pytest.mark.parametrize(("found", "version"), [("'1.2.3'", "1.2.3"), ("error()", "0+unknown")])
def test_version_is_that_of_the_package(found: str, version: str) -> None:
    code = (
        "import importlib.metadata as m, sys\n"
        "def error(): raise m.PackageNotFoundError\n"
        f"m.version = lambda name: {found}\n"
        "import runtime\nprint(runtime.__version__)\n"
        "from runtime import cli\ncli.main(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [version, f"afsd {version}"]


def test_the_tests_of_the_runtime_are_loaded_without_torch() -> None:
    """`make test-runtime` runs them so."""
    files = [ROOT / "tests/conftest.py", *sorted((ROOT / "tests/runtime").rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    code = f"import tests.without_torch, {', '.join(names)}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("layer", LAYERS)
def test_arrows_between_packages(layer: str) -> None:
    forbidden = set(LAYERS[LAYERS.index(layer) + 1 :])
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(layer)
        for name in imported(ast.parse(path.read_text(encoding="utf-8")))
        if name in forbidden
    ]
    assert not wrong


def test_runtime_imports_only_numpy_and_opencv_at_module_level() -> None:
    allowed = RUNTIME_MODULE_LEVEL | set(sys.stdlib_module_names)
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("runtime")
        for node in module_level(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported(node)
        if name not in allowed
        and not any(path.is_relative_to(ROOT / at) and name in more for at, more in OPTIONAL_MODULE_LEVEL.items())
    ]
    assert not wrong


def test_no_other_verb_loads_the_service() -> None:
    code = (
        "import sys\nfrom runtime.cli import make_parser\nmake_parser()\n"
        f"print(sorted({set().union(*OPTIONAL_MODULE_LEVEL.values())!r} & set(sys.modules)), "
        "'runtime.service' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


@pytest.mark.parametrize("library", ["torch", "onnx"])
def test_runtime_uses_neither_torch_nor_onnx_anywhere(library: str) -> None:
    users = [path for path in modules("runtime") if library in imported(ast.parse(path.read_text(encoding="utf-8")))]
    assert not users
