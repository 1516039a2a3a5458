"""The examples that the verbs' help shows are commands that their parsers take."""

from __future__ import annotations

import argparse
import shlex
from itertools import takewhile

from runtime.cli import make_parser
from runtime.errors import InputError

SHELL = (">", "|", "&&")
"""Words with which a shell's part of a line begins."""


def examples(parser: argparse.ArgumentParser, name: str) -> list[tuple[str, str]]:
    """(verb, line) of each example in the help of a parser and of the verbs below it."""
    found = [(name, line.strip()) for line in (parser.epilog or "").splitlines() if line.startswith("  afsd ")]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, below in action.choices.items():
                found += examples(below, verb)
    return found


def test_the_examples_of_all_verbs_parse() -> None:
    parser = make_parser()
    found = examples(parser, "afsd")
    assert {"detect", "features", "watch"} < {verb for verb, _ in found}
    wrong = []
    for verb, line in found:
        words = list(takewhile(lambda word: word not in SHELL, shlex.split(line, comments=True)))
        if any(set(word) & set("*?[") for word in line.split() if not word.startswith(("'", '"'))):
            wrong.append(f"{line}: a pattern that a shell expands; quote it")
        try:
            assert parser.parse_args(words[1:]).verb == words[1], verb
        except InputError as error:
            wrong.append(f"{line}: {error}")
    assert not wrong
