"""Put a changed module in place of one that is loaded already: functions get the new code, constants the new values."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any


def graft(module: ModuleType, tree: ast.Module) -> None:
    """Run a changed syntax tree and move what came of it into `module` and into those that import from it.

    Functions and methods keep their identity, so whoever holds one already calls the new code, with its new defaults.
    Other values are put wherever a module has the old object under the same name.
    """
    changed = ModuleType(module.__name__)
    vars(changed).update({k: v for k, v in vars(module).items() if k.startswith("__") and k != "__annotations__"})
    sys.modules[module.__name__] = changed  # dataclasses look their module up
    try:
        exec(compile(tree, str(module.__file__), "exec"), vars(changed))
    finally:
        sys.modules[module.__name__] = module
    for name, value in vars(changed).items():
        if not name.startswith("__"):
            _graft_value(module, name, vars(module).get(name), value)


def _graft_value(module: ModuleType, name: str, old: Any, new: Any) -> None:
    if getattr(new, "__module__", None) == module.__name__ and (_function(new) or isinstance(new, type)):
        if isinstance(new, type) and isinstance(old, type):
            _graft_class(old, new)
        elif not _graft_function(old, new):
            _replace(name, old, new)
    elif _shown(old) != _shown(new):
        _replace(name, old, new)


def _graft_class(old: type, new: type) -> None:
    for name, value in vars(new).items():
        before = vars(old).get(name)
        parts = [(before, value)]
        if isinstance(value, property):
            parts = [(getattr(before, part, None), getattr(value, part)) for part in ("fget", "fset", "fdel")]
        elif isinstance(value, classmethod | staticmethod):
            parts = [(getattr(before, "__func__", None), value.__func__)]
        for one, other in parts:
            if isinstance(other, FunctionType) and not _graft_function(one, other):
                setattr(old, name, value)
        if not any(isinstance(other, FunctionType) for _, other in parts) and not name.startswith("__"):
            if isinstance(value, type) and isinstance(before, type):
                _graft_class(before, value)
            elif _shown(before) != _shown(value):
                setattr(old, name, value)


def _graft_function(old: Any, new: Any) -> bool:
    """Give the function `old` the code of `new`; return False if that cannot be."""
    while hasattr(old, "__wrapped__") and hasattr(new, "__wrapped__"):
        if hasattr(old, "cache_clear"):
            old.cache_clear()
        old, new = old.__wrapped__, new.__wrapped__
    if not (isinstance(old, FunctionType) and isinstance(new, FunctionType)):
        return False
    if old.__code__.co_freevars != new.__code__.co_freevars:
        return False
    old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    return True


def _replace(name: str, old: Any, new: Any) -> None:
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get(name, new) is old:
            vars(module)[name] = new


def _function(value: Any) -> Callable[..., Any] | None:
    return value if isinstance(value, FunctionType) or hasattr(value, "__wrapped__") else None


def _shown(value: Any) -> str:
    """Describe a value without addresses, so that two runs of the same code give the same text."""
    return f"{type(value).__qualname__} {re.sub(r' at 0x[0-9a-f]+', '', repr(value))}"
