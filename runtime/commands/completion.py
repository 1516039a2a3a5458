"""Run `afsd completion SHELL`: print a script with which a shell completes the verbs and flags."""

from __future__ import annotations

import argparse
from typing import Any

from runtime.errors import import_failure

SHELLS = ("bash", "zsh", "tcsh")
"""Shells that shtab knows."""


def add_completion(subparsers: Any) -> None:
    """Add the verb `completion`."""
    parser = subparsers.add_parser(
        "completion",
        help="let the shell complete verbs and flags",
        description="Print a script for the shell, made with shtab.",
        epilog="examples:\n"
        "  afsd completion bash > ~/.local/share/bash-completion/completions/afsd\n"
        "  afsd completion zsh > ~/.zfunc/_afsd   (a folder of fpath)\n",
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(func=completion)


def completion(arguments: argparse.Namespace) -> int:
    """Run the verb (MissingDependencyError: shtab is not installed)."""
    from runtime.cli import make_parser

    try:
        import shtab
    except ImportError as error:
        raise import_failure(error, "shtab", "completion", "afsd completion") from None
    print(shtab.complete(make_parser(), shell=arguments.shell))
    return 0
