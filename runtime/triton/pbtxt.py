"""Write protobuf's text format, in which Triton takes the configuration of a model (config.pbtxt)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.errors import InputError

Message = Mapping[str, object]
"""A message: field → value. A list is a repeated field, a mapping a message within, an `Enum` the name of a value."""

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Enum(str):
    """Names a value of an enumeration, which is written without quotes."""


def to_pbtxt(message: Message) -> str:
    """Return a message as text, two blanks for each level.

    Raises:
        InputError: a text that is no UTF-8, such as a path with bytes that are no letters.
    """
    return "".join(f"{line}\n" for line in _lines(message, ""))


def _lines(message: Message, indent: str) -> list[str]:
    lines: list[str] = []
    for name, value in message.items():
        repeated = isinstance(value, Sequence) and not isinstance(value, str)
        values = list(value) if isinstance(value, Sequence) and repeated else [value]
        if repeated and not any(isinstance(one, Mapping) for one in values):
            lines.append(f"{indent}{name}: [ {', '.join(map(_scalar, values))} ]" if values else f"{indent}{name}: [ ]")
            continue
        for one in values:
            if isinstance(one, Mapping):
                inner = _lines(one, indent + "  ")
                lines += [f"{indent}{name} {{", *inner, f"{indent}}}"] if inner else [f"{indent}{name} {{ }}"]
            else:
                lines.append(f"{indent}{name}: {_scalar(one)}")
    return lines


def _scalar(value: object) -> str:
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    raise TypeError(f"{type(value).__name__} has no text in protobuf")


def quoted(text: str) -> str:
    """Return text in quotes as protobuf's text format has it: letters as they are, control characters in octal.

    Raises:
        InputError: no UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"got {text!r}, which is no UTF-8, so a configuration of Triton cannot hold it; rename it"
        ) from None
    return '"' + "".join(_ESCAPES.get(letter) or _control(letter) for letter in text) + '"'


def _control(letter: str) -> str:
    return f"\\{ord(letter):03o}" if ord(letter) < 0x20 or ord(letter) == 0x7F else letter
