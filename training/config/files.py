"""Read configurations from YAML, overrides and checkpoints; a file names only what differs from the defaults."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from runtime.common import limits
from runtime.common.files import read_text
from runtime.common.mappings import StructureError, from_mapping, to_mapping
from runtime.common.text import one_line, quote
from runtime.errors import ConfigError
from training.config.settings import Config

CONFIG_FOLDER = Path(__file__).parent / "presets"
"""Folder of the named configurations."""


class _Yaml(yaml.SafeLoader):  # type: ignore[misc]  # untyped library
    """Reads floats as YAML 1.2 does: PyYAML would read 1e-5, without a point, as text.

    A key given twice is an error, as in JSON. So is an alias (*name): a few lines of them can stand for gigabytes.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"got the alias *{event.anchor}; write it out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        content: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(content) < len(node.value):
            seen = set()
            for key, _ in node.value:
                if key.value in seen:
                    what = f"{quote(key.value)} is there twice; keep one of the two"
                    raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
                seen.add(key.value)
        return content


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def list_configs() -> list[str]:
    """Return the names that `load_config` accepts beside file paths."""
    return sorted(path.stem for path in CONFIG_FOLDER.glob("*.yaml"))


def load_config(name_or_path: str, overrides: list[str] | None = None) -> Config:
    """Read a configuration by name (`thumos14`) or YAML path, and apply `section.key=value` overrides.

    Raises:
        ConfigError: file or name not found, not YAML, an unknown key, a wrong type or range.
    """
    path = CONFIG_FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        raise ConfigError(
            f"{name_or_path}: config file not found; expected a path or one of {', '.join(list_configs())}"
        )
    try:
        text = read_text(path, limits.CONFIG_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise ConfigError(f"{path}: cannot be read ({reason}); expected a YAML file of settings") from None
    data = {} if (content := _parse(text, f"{path}: not a YAML file")) is None else content
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: got {quote(data)}, expected sections of settings")
    for override in overrides or []:
        _apply_override(data, override)
    return config_from_mapping(data, str(path))


def _parse(text: str, problem: str) -> Any:
    """Parse YAML (ConfigError, which begins with `problem`: it is none)."""
    try:
        return yaml.load(text, _Yaml)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        raise ConfigError(f"{problem}: {_describe(error)}") from None  # the latter ones of dates, numbers, odd tags


def _describe(error: Exception) -> str:
    """Return line, column and reason of a YAML error, in one line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return one_line(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', 'a mistake')}"


def config_from_mapping(data: object, origin: str) -> Config:
    """Build a configuration from plain data, as a checkpoint stores it; `origin` names the data in a ConfigError."""
    try:
        return from_mapping(Config, data)
    except StructureError as error:
        raise ConfigError(f"{origin}: {error}") from None


def config_to_mapping(config: Config) -> dict[str, object]:
    """Return the plain data from which `config_from_mapping` builds an equal configuration."""
    mapping: dict[str, object] = to_mapping(config)
    return mapping


def apply_overrides(config: Config, overrides: Sequence[str], origin: str) -> Config:
    """Return a copy with some `section.key=value` changed; `origin` names the configuration in a ConfigError."""
    data = config_to_mapping(config)
    for override in overrides:
        _apply_override(data, override)
    return config_from_mapping(data, origin)


def _apply_override(data: dict[str, object], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"override {quote(override)}: expected section.key=value")
    *sections, last = key.strip().split(".")
    node: dict[str, object] = data
    for section in sections:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise ConfigError(f"override {quote(override)}: {section} is not a section")
        node = child
    node[last] = _parse(text, f"override {quote(override)}: not a value")
