"""What is shown to people moves no cursor, forges no line and holds no password."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from runtime.common.console import print_error, run_script
from runtime.common.tables import align
from runtime.common.text import counted, cut_to_columns, one_line, printable, some, without_secrets
from runtime.errors import AfsdError, VideoError


@pytest.mark.parametrize(
    "code", [0x00, 0x07, 0x0A, 0x0D, 0x1B, 0x7F, 0x85, 0x9B, 0x2028, 0x202E, 0x2066, 0x200F, 0xFEFF]
)
def test_control_characters_are_escaped(code: int) -> None:
    shown = printable(f"a{chr(code)}b")
    assert shown == f"a\\u{code:04x}b"
    assert json.loads(f'"{shown}"') == f"a{chr(code)}b"


def test_things_are_counted_in_words() -> None:
    assert [counted(n, "video") for n in (0, 1, 2)] == ["0 videos", "1 video", "2 videos"]
    assert [counted(n, "class", "classes") for n in (1, 3)] == ["1 class", "3 classes"]
    assert [some("abcde"[:n]) for n in (0, 1, 3, 5)] == ["", "a", "a, b, c", "a, b, c and 2 more"]


def test_letters_of_all_alphabets_stay() -> None:
    text = "naïve 動画 क्‍ष 👩‍💻 –"
    assert printable(text) == one_line(text) == text


def test_a_table_keeps_its_rows() -> None:
    lines = align([["class", "n"], ["jump\nfake  9\x1b[1A", "1"]]).splitlines()
    assert lines == ["class                       n", "jump\\u000afake  9\\u001b[1A  1"]


def test_whatever_a_command_prints_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> str:
        print("\x1b[2Jfrom anywhere", file=sys.stderr)
        return json.dumps({"label": "a\x9b\u202eb\x7f"}, ensure_ascii=False)

    before: tuple[Any, Any] = sys.stdout, sys.stderr
    assert run_script(run) == 0
    out, err = capsys.readouterr()
    assert err == "\\u001b[2Jfrom anywhere\n"
    assert json.loads(out) == {"label": "a\x9b\u202eb\x7f"}
    assert out.isprintable() or out.rstrip("\n").isprintable()
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://me:secret@host:554/live", "rtsp://host:554/live"),
        ("rtsp://me:sec/ret?#x@host:554/live", "rtsp://host:554/live"),
        ("https://secret@host/a.mp4?X-Amz-Signature=secret&b=1", "https://host/a.mp4?…"),
        ("cannot open 'https://host:8443/a?token=secret', gave up", "cannot open 'https://host:8443/a?…', gave up"),
        ("https://host/a.m3u8#access_token=secret", "https://host/a.m3u8"),
        ("rtsp://host/user=admin&password=secret&channel=1", "rtsp://host/user=admin&password=…&channel=1"),
        ("s3://key:secret@bucket/a.mp4: s3://key:secret@bucket/b", "s3://bucket/a.mp4: s3://bucket/b"),
        ("https://host/@someone/a.mp4", "https://host/@someone/a.mp4"),
        ("http://[::1]:8080/x?secret", "http://[::1]:8080/x?…"),
        ("rtsp://me:it's%secret\"@host:554/live", "rtsp://host:554/live"),
        ("no address: secret@host", "no address: secret@host"),
    ],
)
def test_passwords_and_queries_of_addresses_are_left_out(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert without_secrets(text) == one_line(text) == shown
    assert str(VideoError(text)) == str(AfsdError(OSError(text))) == shown
    print_error(OSError(text))
    assert capsys.readouterr().err == f"afsd: error: {shown}\n"


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("動画動画", 8, "動画動画"),
        ("動画動画", 7, "動画動…"),
        ("動画動画", 6, "動画…"),
        ("e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
        ("", 0, ""),
    ],
)
def test_a_text_is_cut_to_columns(text: str, columns: int, shown: str) -> None:
    assert cut_to_columns(text, columns) == shown
