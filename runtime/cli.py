"""Run the command `afsd`: find its verbs, run one, and turn errors into one line and an exit status."""

from __future__ import annotations

import argparse
import logging
import os
import pkgutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, NoReturn

import runtime.commands
from runtime.commands.flags.checks import check_flags, note_given
from runtime.common.console import EXIT_ERROR, print_error, print_warning, run_command, without_progress
from runtime.common.log import log_to_console
from runtime.common.text import one_line
from runtime.errors import AfsdError, ArtifactWarning, InputError, VideoWarning
from runtime.video.prefetch import READING

VERBS_GROUP = "afsd.commands"
"""Entry-point group through which other packages add verbs; each entry is `add_<verb>(subparsers) -> None`."""

SIGNALLED = 128
"""Exit status from which on a signal ended the command."""

AddVerb = Callable[[Any], None]
"""Function that adds one sub-parser and sets its default `func(arguments) -> int`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `afsd` with `argv` (default: the process's arguments) and return the exit status.

    0: success; otherwise one line on stderr, see `run_command`. Without `argv`, a thread that hangs in the reading of a
    source ends with the process at once, since the library it hangs in would crash in a dying interpreter.
    """
    if argv is not None:
        return _run(argv)
    status = _run(sys.argv[1:])
    ended = status > SIGNALLED  # by a signal: waits for no thread, and no child
    if ended or any(thread.daemon and thread.name.startswith(READING) for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    return status


def _run(argv: Sequence[str]) -> int:
    def run() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("always", VideoWarning)
            warnings.simplefilter("always", ArtifactWarning)
            warnings.showwarning = _show_warning
            arguments = make_parser().parse_args(argv)
            if arguments.quiet_log:
                for category in (VideoWarning, ArtifactWarning):
                    warnings.simplefilter("ignore", category)
            level = logging.INFO if arguments.verbose_log else logging.ERROR if arguments.quiet_log else logging.WARNING
            with log_to_console(level), without_progress() if arguments.quiet_log else nullcontext():
                check_flags(arguments)
                status: int = arguments.func(arguments)
            return status

    return run_command(run)


VERBS: dict[str, tuple[str, ...]] = {
    "find actions": ("detect", "watch", "clips", "convert"),
    "serve others": ("serve", "triton"),
    "judge": ("evaluate", "benchmark", "info"),
    "set up": ("doctor", "completion", "demo"),
    "train": ("prepare", "train", "cross-validate", "features", "paper-tables", "make-synthetic"),
    "make engines": ("export", "calibrate", "export-backbone"),
}
"""What one wants to do, with the verbs for it, in the order of the help; other verbs come last."""


class _HelpFormatter(argparse.HelpFormatter):
    """Keeps the lines of a text that has several, such as examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in the words of a command as any other error, in one line. The help keeps lines of examples."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": _HelpFormatter, **options})
        for short, name, text in (
            ()
            if "-" not in self.prefix_chars
            else (
                (
                    "-v",
                    "verbose_log",
                    "also print what was chosen: engine, device, compiled anew or kept; in a log, how far a folder is",
                ),
                ("-q", "quiet_log", "print neither warnings nor progress"),
            )
        ):
            # a verb's parser keeps what stood before the verb
            self.add_argument(short, dest=name, action="store_true", default=argparse.SUPPRESS, help=text)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        parsed, rest = super().parse_known_args(args, namespace)
        note_given(self, parsed)
        return parsed, rest

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


class _TopParser(_Parser):
    """Lists the verbs by what one wants to do."""

    verbs: Any
    """Action of the verbs."""

    def format_help(self) -> str:
        """Return usage, the verbs in groups, and the options."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        entries = {entry.dest: entry for entry in self.verbs._get_subactions()}
        for title, names in VERBS.items():
            self._add_section(formatter, title, [entries.pop(name) for name in names if name in entries])
        self._add_section(formatter, "more", list(entries.values()))
        self._add_section(formatter, "options", [action for action in self._actions if action is not self.verbs])
        formatter.add_text(self.epilog)
        return formatter.format_help()

    @staticmethod
    def _add_section(formatter: argparse.HelpFormatter, title: str, actions: Sequence[argparse.Action]) -> None:
        formatter.start_section(title)
        formatter.add_arguments(actions)
        formatter.end_section()


def make_parser() -> argparse.ArgumentParser:
    """Make the parser with all verbs that can be found."""
    parser = _TopParser(
        prog="afsd",
        allow_abbrev=False,
        description="Find actions in videos: from checkpoint to detections.",
        epilog="afsd VERB --help explains a verb, with examples; make demo shows it all at work.",
    )
    parser.set_defaults(verbose_log=False, quiet_log=False)
    parser.add_argument("--version", action="version", version=f"afsd {runtime.__version__}")
    subparsers = parser.verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    for verb, add in find_verbs():
        if verb in subparsers.choices:
            continue
        try:
            add(subparsers)
        except (Exception, SystemExit) as error:  # of another package's code
            subparsers.choices.pop(verb, None)
            _unavailable(verb, _explain(verb, error))(subparsers)
    return parser


def find_verbs() -> Iterator[tuple[str, AddVerb]]:
    """Yield runtime's own verbs, then those of installed packages; only runtime's without an installation."""
    for module in pkgutil.iter_modules(runtime.commands.__path__):
        if not module.ispkg:
            yield module.name, getattr(import_module(f"runtime.commands.{module.name}"), f"add_{module.name}")
    for entry in sorted(entry_points(group=VERBS_GROUP), key=lambda entry: entry.name):
        try:
            yield entry.name, entry.load()
        except (Exception, SystemExit) as error:  # of another package's code
            yield entry.name, _unavailable(entry.name, _explain(entry.value, error))


def _explain(origin: str, error: BaseException) -> AfsdError:
    """Return what keeps a verb from being added: a library that is missing, or code that does not work."""
    if isinstance(error, ModuleNotFoundError):
        return AfsdError(f"{one_line(error)}; install it")
    return AfsdError(
        f"{origin} does not load ({type(error).__name__}: {one_line(error)}); repair or remove its package"
    )


def _unavailable(verb: str, reason: AfsdError) -> AddVerb:
    """Return the function that adds a verb that cannot be loaded: it is listed, and gives the reason when used."""

    def refuse(_: argparse.Namespace) -> int:
        print_error(reason)
        return EXIT_ERROR

    def add(subparsers: Any) -> None:
        no_flags = "\0"  # whatever is typed after the verb is taken as plain words
        told = one_line(reason).replace("%", "%%")  # argparse formats help texts
        parser = subparsers.add_parser(verb, help=f"not available: {told}", add_help=False, prefix_chars=no_flags)
        parser.add_argument("rest", nargs="*")
        parser.set_defaults(func=refuse)

    return add


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print_warning(message)
