"""Run the command `afsd`, also as `python -m runtime`."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run `afsd` with the process's arguments and return the exit status (see `runtime.cli.main`).

    Until the command handles signals itself, Ctrl-C ends the process without a word, as SIGTERM does.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from runtime import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
