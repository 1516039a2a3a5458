"""The examples that the verbs' help shows are commands that their parsers take."""

from __future__ import annotations

import argparse
import shlex
from itertools import takewhile

from runtime import cli
from runtime.errors import InputError

SHELL = (">", "|", "&&")
"""Words with which a shell's part of a line begins."""


REMARK = "   ("
"""Beginning of a remark behind a command."""


def examples(parser: argparse.ArgumentParser, name: str) -> list[tuple[str, str]]:
    """(verb, line) of each example in the help of a parser and of the verbs below it."""
    _, _, lines = (parser.epilog or "").partition("examples:\n")
    found = [(name, line.strip().partition(REMARK)[0]) for line in lines.splitlines()]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, below in action.choices.items():
                found += examples(below, verb)
    return found


def test_every_verb_has_examples_that_parse() -> None:
    parser = cli.make_parser()
    found = examples(parser, "afsd")
    assert {name for name, _ in cli.find_verbs()} - {"demo"} <= {verb for verb, _ in found}
    wrong = []
    for verb, line in found:
        words = list(takewhile(lambda word: word not in SHELL, shlex.split(line, comments=True)))
        if words[0] == "torchrun":  # starts several processes of `python -m training`, which is the verb
            words = ["afsd", verb, *words[words.index("training") + 1 :]]
        if any(set(word) & set("*?[") for word in line.split() if not word.startswith(("'", '"'))):
            wrong.append(f"{line}: a pattern that a shell expands; quote it")
        try:
            assert words[0] == "afsd"
            assert parser.parse_args(words[1:]).verb == words[1], verb
        except InputError as error:
            wrong.append(f"{line}: {error}")
    assert not wrong
