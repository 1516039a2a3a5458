"""A small reader of protobuf's text format, by its public grammar, to look at configurations independently."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

TOKEN = re.compile(r'\s*(?:#[^\n]*\n\s*)*("(?:[^"\\\n]|\\.)*"|[\w.+-]+|[{}\[\]:,])')


class Name(str):
    """A value of an enumeration."""


def read(text: str) -> dict[str, list[Any]]:
    """Return the fields of a message; each is a list of its values."""
    tokens = _tokens(text)
    message, end = _message(tokens)
    assert end == ""
    return message


def parameters(config: dict[str, list[Any]]) -> dict[str, str]:
    """Return the map field "parameters"."""
    return {entry["key"][0]: entry["value"][0]["string_value"][0] for entry in config.get("parameters", [])}


def _tokens(text: str) -> Iterator[str]:
    at, text = 0, text.rstrip()
    while at < len(text):
        found = TOKEN.match(text, at)
        assert found, f"no token at {text[at : at + 40]!r}"
        at = found.end()
        yield found[1]
    yield ""


def _message(tokens: Iterator[str]) -> tuple[dict[str, list[Any]], str]:
    fields: dict[str, list[Any]] = {}
    for token in tokens:
        if token in ("", "}"):
            return fields, token
        assert re.fullmatch(r"[a-z_]\w*", token), token
        values = fields.setdefault(token, [])
        following = next(tokens)
        if following == ":":
            following = next(tokens)
        if following == "{":
            inner, end = _message(tokens)
            assert end == "}"
            values.append(inner)
        elif following == "[":
            while (one := next(tokens)) != "]":
                if one != ",":
                    values.append(_value(one))
        else:
            values.append(_value(following))
    raise AssertionError("no end")


def _value(token: str) -> Any:
    if token[0] == '"':
        body = re.sub(r"\\([0-7]{3})", lambda octal: f"\\x{int(octal[1], 8):02x}", token)
        return ast.literal_eval(body)
    if re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", token):
        return float(token) if "." in token or "e" in token else int(token)
    return {"true": True, "false": False}.get(token, Name(token))
