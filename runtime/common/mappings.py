"""Build frozen dataclasses from plain mappings, strictly: an error names every unknown key and wrong type.

The ModelSpec of an artifact and the training configuration are loaded here.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from runtime.common.text import quote

T = TypeVar("T")


class StructureError(ValueError):
    """Reports a mapping that does not fit the dataclass; the message starts with the dotted path of the key."""


def from_mapping(cls: type[T], data: object, path: str = "") -> T:
    """Build the frozen dataclass `cls` from a mapping.

    Keys are field names; missing keys take the field's default. Lists become tuples, nested mappings become
    nested dataclasses, an int is accepted where a float is wanted (never the reverse, never a bool).

    Raises:
        StructureError: unknown or missing key, or a value of the wrong type, with its dotted path.
    """
    if not isinstance(data, Mapping):
        raise StructureError(f"{path or cls.__name__}: got {type(data).__name__}, expected a mapping")
    hints = _hints(cls)  # type: ignore[arg-type]  # a class can be hashed
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    unknown = [key for key in data if key not in fields]
    if unknown:
        key = unknown[0] if isinstance(unknown[0], str) else quote(unknown[0])
        raise StructureError(f"{_join(path, key)}: unknown key; expected one of {', '.join(sorted(fields))}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], _join(path, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise StructureError(f"{_join(path, name)}: missing")
    try:
        return cls(**values)
    except ValueError as error:
        raise StructureError(f"{path or cls.__name__}: {error}") from None


def to_mapping(value: Any) -> Any:
    """Convert dataclasses to dicts and tuples to lists, ready for JSON or YAML; the inverse of `from_mapping`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_mapping(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(k): to_mapping(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_mapping(v) for v in value]
    return value


@lru_cache
def _hints(cls: Any) -> dict[str, Any]:
    """Return the types of a class's fields, which take longer to find out than all else: a folder has many records."""
    return get_type_hints(cls)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(args, value, path)
    if origin is Literal:
        if value not in args or isinstance(value, bool) != any(value is a for a in args if isinstance(a, bool)):
            raise StructureError(f"{path}: got {quote(value)}, expected one of {', '.join(map(repr, args))}")
        return value
    if origin is tuple:
        return _convert_tuple(args, value, path)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise StructureError(f"{path}: got {type(value).__name__}, expected a mapping")
        return {_convert(args[0], k, path): _convert(args[1], v, _join(path, str(k))) for k, v in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_mapping(hint, value, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise StructureError(f"{path}: got {quote(value)}, expected a number that fits a float") from None
    if hint is Any or (isinstance(value, hint) and (hint is bool or not isinstance(value, bool))):
        return value
    raise StructureError(f"{path}: got {quote(value)} ({type(value).__name__}), expected {hint.__name__}")


def _convert_union(args: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in args:
        return None
    errors = []
    for hint in (a for a in args if a is not type(None)):
        try:
            return _convert(hint, value, path)
        except StructureError as error:
            errors.append(error)
    raise errors[0]


def _convert_tuple(args: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise StructureError(f"{path}: got {type(value).__name__}, expected a list")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_convert(args[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if len(args) != len(value):
        raise StructureError(f"{path}: got {len(value)} values, expected {len(args)}")
    return tuple(_convert(a, v, f"{path}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True)))
