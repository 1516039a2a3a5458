"""What is printed: JSON whole, everything else without control characters and secrets, and what a full disk drops."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from runtime.common.console import EscapingStream, print_json, run_command

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
