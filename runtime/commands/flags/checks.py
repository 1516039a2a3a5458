"""Refuse flags that do nothing as a command is given, in place of doing nothing without a word."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from runtime.errors import InputError

GIVEN, NEEDS = "given_flags", "flag_needs"
"""Attributes of the arguments: flags whose values are not the default ones, and what a verb's flags need."""


def require_beside(parser: argparse.ArgumentParser, needs: Mapping[str, Sequence[str]]) -> None:
    """Let a verb refuse flags that do nothing without another one.

    Args:
        parser: parser of the verb.
        needs: flag → flags of which one must be given, too; "--method percentile" is a flag with its value.
    """
    parser.set_defaults(**{NEEDS: dict(needs)})


def note_given(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Add to the arguments which of a parser's flags have other values than their defaults."""
    changed = {
        action.option_strings[-1]
        for action in parser._actions
        if action.option_strings and getattr(arguments, action.dest, action.default) != parser.get_default(action.dest)
    }
    setattr(arguments, GIVEN, given_flags(arguments) | changed)


def given_flags(arguments: argparse.Namespace) -> frozenset[str]:
    """Return the flags whose values are not the default ones."""
    return getattr(arguments, GIVEN, frozenset())


def check_flags(arguments: argparse.Namespace) -> None:
    """Check that what each flag needs is given, too (InputError: a flag does nothing)."""
    for flag, needed in getattr(arguments, NEEDS, {}).items():
        if flag in given_flags(arguments) and not any(_is_given(arguments, one) for one in needed):
            raise InputError(f"{flag} does nothing without {' or '.join(needed)}; give that, too, or leave {flag} out")


def refuse_flags(arguments: argparse.Namespace, flags: Sequence[str], reason: str) -> None:
    """Check that none of the flags is given, which do nothing for a reason (InputError)."""
    for flag in flags:
        if flag in given_flags(arguments):
            raise InputError(f"{flag} does nothing here: {reason}; leave it out")


def _is_given(arguments: argparse.Namespace, words: str) -> bool:
    flag, _, value = words.partition(" ")
    if not value:
        return flag in given_flags(arguments)
    has = getattr(arguments, flag.lstrip("-").replace("-", "_"))
    return value in has if isinstance(has, (list, tuple)) else has == value
