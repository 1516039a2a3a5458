"""What is printed: JSON whole, everything else without control characters and secrets, and what a full disk drops."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
from typing import Any

import pytest

from runtime.common.console import EscapingStream, ProgressLine, print_json, run_command

LABELS = ['http://a?b"c', "x https://u:p@h/y?z#w", "a\u202eb\x1b[31m\x85", "tab\tand\nline", "é", '"', "\\"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("indent", [None, 1])
def test_json_is_whole_and_moves_no_cursor(encoding: str, indent: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding))

    def run() -> int:
        print_json({"labels": LABELS}, indent=indent)
        return 0

    assert run_command(run) == 0
    text = raw.getvalue().decode(encoding)
    assert json.loads(text) == {"labels": LABELS}
    assert not set(text.replace("\n", "")) & set("\u202e\x1b\x85")


def test_text_loses_secrets_and_control_characters_however_it_is_written() -> None:
    plain = io.StringIO()
    stream = EscapingStream(plain)
    stream.write("rtsp://u:secret@h:1/x?token=secret \x1b[31m\n")
    stream.writelines(["rtsp://u:secret@h/\n", "\u2028"])
    assert plain.getvalue() == "rtsp://h:1/x?… \\u001b[31m\nrtsp://h/\n\\u2028"


def test_what_a_full_stream_cannot_take_is_dropped_and_known() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    stream: Any = EscapingStream(Full())
    print("a", file=stream, flush=True)
    print("b", file=stream)
    assert stream.failure.errno == 28


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
@pytest.mark.parametrize(("columns", "shown"), [(20, "57 of 200 videos, …"), (0, "57 of 200 videos, 17.9 h")])
def test_progress_is_never_wider_than_its_terminal(columns: int, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that the terminal breaks in two would stay there; a width of 0 is that of one that does not say."""
    import fcntl
    import pty
    import termios

    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with open(terminal, "w", encoding="utf-8") as stream:  # noqa: PTH123 — an open file
        monkeypatch.setattr("sys.stderr", stream)
        ProgressLine().show("57 of 200 videos, 17.9 h")
        written = os.read(reader, 1000).decode()
    os.close(reader)
    assert written == f"\r{shown}\x1b[K"
    assert len(shown) < (columns or 80)
