"""Change a valid input so that it may be damaged, hostile or merely odd; every change follows from a random state."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]
"""Function that makes another input of a valid one."""

NUMBERS = (
    "0", "-1", "1", "-0.0", "1e308", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "2147483648", "4294967296",
    "9223372036854775808", "1e-320", "0.5", "1e9", "1_000", "0x10", "١٢", "9" * 5000, "1" + "0" * 400, "1e", "--1",
    "+1",
)  # fmt: skip
"""Numbers as text, and what is nearly one."""
TEXTS = (
    "", " ", ".", "..", "../x", "../../etc/x", "/etc/passwd", "/x", "a/b", "a\\b", "..mp4", "x\0y", "x\ny", "x\r\ny",
    "\x1b[31mred", "\u202egnp.exe", "\u2028", "CON", "nul.txt", "a.", "a ", "x" * 300, "é" * 200, "=1+1", "@SUM(A1)",
    "1\n00:00:00,000 --> 00:00:01,000\nforged", "<script>alert(1)</script>", "http://[",
    "rtsp://u:secret@h:1/x?token=secret",
    "file:///etc/passwd", "(?P<x", "(a+)+$", "*" * 50, "%s%n", "{}", "${HOME}", "~", "-", "--help", "@x", "\ud800",
    "\ufeffx",
)  # fmt: skip
INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1)
"""Integers at which sizes and offsets break."""
DEPTH = 20_000
"""Nesting that is deeper than parsers recurse."""

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_][A-Za-z_0-9]*")


def mutate_bytes(data: bytes, rng: Random) -> bytes:
    """Flip a bit, or damage a stretch: overwritten, cut, repeated, removed, moved."""
    if not data or rng.random() < 0.02:
        return rng.choice((b"", b"\0", rng.randbytes(rng.randint(1, 200))))
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        data = rng.choice(_BYTE_CHANGES)(data, rng) or b"\0"
    return data


def flip_bit(data: bytes, rng: Random) -> bytes:
    """Flip one bit."""
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def mutate_artifact(data: bytes, rng: Random) -> bytes:
    """Flip one bit, as a bad disk does, or damage a stretch."""
    return flip_bit(data, rng) if rng.random() < 0.7 else mutate_bytes(data, rng)


def mutate_text(data: bytes, rng: Random) -> bytes:
    """Replace a number, a word or a line by an odd one."""
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    pattern, odd = rng.choice(((_NUMBER, NUMBERS), (_WORD, TEXTS), (_WORD, NUMBERS), (_NUMBER, TEXTS)))
    found = list(pattern.finditer(data))
    if rng.random() < 0.2 or not found:
        lines = data.splitlines(keepends=True) or [b""]
        at = rng.randrange(len(lines))
        if rng.random() < 0.5:
            lines[at] *= rng.choice((0, 2, 1000))
        else:
            lines.insert(at, _encode(rng.choice(TEXTS)) + b"\n")
        return b"".join(lines)
    match = rng.choice(found)
    return data[: match.start()] + _encode(rng.choice(odd)) + data[match.end() :]


def mutate_json(data: bytes, rng: Random) -> bytes:
    """Change one value of a JSON document: another type, an odd number or text, a key more, less, renamed or twice."""
    chance = rng.random()
    if chance < 0.15:
        return mutate_bytes(data, rng)
    if chance < 0.35:
        return mutate_text(data, rng)
    if chance < 0.4:
        return rng.choice((b"[", b'{"a":')) * DEPTH
    tree = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        tree = _change(tree, rng)
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.5)
    for number in NUMBERS:  # which JSON of Python cannot hold
        text = text.replace(f'"\N{SNOWMAN}{number}"', number).replace(json.dumps(f"\N{SNOWMAN}{number}"), number)
    return text.encode("utf-8", "surrogatepass")


def make_pickle(data: bytes, rng: Random) -> bytes:
    """Make a pickle that would call a function, in one of the ways that pickles can, or damage such a one."""
    name = rng.choice(("os.system", "builtins.eval", "builtins.exec", "subprocess.Popen", "posix.system", "os.remove"))
    module, function = name.rsplit(".", 1)
    argument = b"(S'touch let-in'\ntR."
    made = rng.choice(
        (
            f"c{module}\n{function}\n".encode() + argument,
            b"\x80\x02" + f"c{module}\n{function}\n".encode() + b"X\x0c\x00\x00\x00touch let-in\x85R.",
            b"\x80\x04" + _short(module) + _short(function) + b"\x93\x8c\x0ctouch let-in\x85R.",
            f"(S'touch let-in'\ni{module}\n{function}\n.".encode(),
            b"\x80\x02}X\x01\x00\x00\x00a"
            + f"c{module}\n{function}\n".encode()
            + b"X\x0c\x00\x00\x00touch let-in\x85Rs.",
            pickle.dumps({"state_dict": _Calls()}),
        )
    )
    return made if rng.random() < 0.6 else mutate_bytes(made, rng)


class _Calls:
    """Is unpickled by a call of `print`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("let in",)


def _short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _change(tree: Any, rng: Random) -> Any:
    """Change one node of a tree, deep ones as likely as high ones."""
    path: list[Any] = []
    node = tree
    while isinstance(node, (dict, list)) and node and rng.random() < 0.85:
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        path.append(key)
        node = node[key]
    value = _odd(node, rng)
    if not path:
        return value
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    if isinstance(parent, dict) and rng.random() < 0.3:
        if rng.random() < 0.5:
            del parent[path[-1]]
        else:
            parent[rng.choice(TEXTS)] = parent.pop(path[-1])
    elif isinstance(parent, list) and rng.random() < 0.2:
        parent[:] = parent * rng.choice((0, 2, 50))
    else:
        parent[path[-1]] = value
    return tree


def _odd(node: Any, rng: Random) -> Any:
    chance = rng.random()
    if chance < 0.4:
        return f"\N{SNOWMAN}{rng.choice(NUMBERS)}"
    if chance < 0.65:
        return rng.choice(TEXTS)
    return rng.choice((None, True, False, [], {}, [node], {"a": node}, [[]] * 3, -1, 0, 1e9, 10**20, [1, "x", None]))


def _overwrite(data: bytes, rng: Random) -> bytes:
    number = rng.choice(INTEGERS)
    size = rng.choice((1, 2, 4, 8))
    encoded = (number % (1 << 8 * size)).to_bytes(size, rng.choice(("little", "big")))
    at = rng.randrange(len(data))
    return data[:at] + encoded + data[at + size :]


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _repeat(data: bytes, rng: Random) -> bytes:
    first, last = _stretch(data, rng)
    return data[:last] + data[first:last] * rng.choice((1, 3)) + data[last:]


def _remove(data: bytes, rng: Random) -> bytes:
    first, last = _stretch(data, rng)
    return data[:first] + data[last:]


def _noise(data: bytes, rng: Random) -> bytes:
    first, last = _stretch(data, rng)
    return data[:first] + rng.randbytes(last - first) + data[last:]


def _zero(data: bytes, rng: Random) -> bytes:
    first, last = _stretch(data, rng)
    return data[:first] + bytes(last - first) + data[last:]


def _stretch(data: bytes, rng: Random) -> tuple[int, int]:
    first = rng.randrange(len(data))
    return first, min(len(data), first + int(2 ** rng.uniform(0, 10)))


_BYTE_CHANGES: Sequence[Mutation] = (flip_bit, flip_bit, _overwrite, _overwrite, _cut, _repeat, _remove, _noise, _zero)
