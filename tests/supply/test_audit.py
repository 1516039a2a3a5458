"""What the audit makes of pip-audit's answers: a list that cannot be asked is no clean bill. pip-audit is a double."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.supply.audit import main

KNOWN = {"name": "one", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "two", "skip_reason": "Dependency not found"}
HIT = {
    "name": "three",
    "version": "3.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1", "4.0"]}, {"id": "PYSEC-2", "fix_versions": []}],
}


def audit(tmp_path: Path, printed: str, complaint: str = "") -> int:
    (tmp_path / "printed").write_text(printed)
    program = tmp_path / "pip-audit"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\ncat {tmp_path}/printed\necho "{complaint}" >&2\nexit 1\n'
    )
    program.chmod(0o755)
    return main(str(program), ["a.txt"])


@pytest.mark.parametrize(
    ("found", "status", "text"),
    [
        ([KNOWN], 0, "1 packages audited, 0 known vulnerabilities"),
        (
            [KNOWN, UNKNOWN], 0,
            "1 packages audited, 0 known vulnerabilities\nnot audited, since the list does not know them: two",
        ),
        ([UNKNOWN], 0, "audit skipped: the list of vulnerabilities knows none of the 1 packages here"),
        (
            [KNOWN, HIT], 1,
            "2 packages audited, 2 known vulnerabilities\n"
            "three 3.0: PYSEC-1, mended in 3.1, 4.0\nthree 3.0: PYSEC-2, mended in none",
        ),
    ],
)  # fmt: skip
def test_the_verdict(
    found: list[object], status: int, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(tmp_path, json.dumps({"dependencies": found, "fixes": []})) == status
    assert capsys.readouterr().out == f"a.txt: {text}\n"
    arguments = (tmp_path / "arguments").read_text()
    assert "--no-deps" in arguments  # the lock is complete: nothing is resolved or installed
    assert arguments.endswith("--requirement a.txt\n")


@pytest.mark.parametrize("printed", ["", "not JSON", "{}"])
@pytest.mark.parametrize(
    ("complaint", "status", "text"),
    [
        (
            "Traceback …\nrequests.exceptions.ProxyError: at an address", 0,
            "skipped: the list of vulnerabilities does not answer (requests.exceptions.ProxyError)",
        ),
        ("ERROR: package one has duplicate requirements", 2, "failed: ERROR: package one has duplicate requirements"),
        ("", 2, "failed: it printed nothing"),
    ],
)  # fmt: skip
def test_without_an_answer_it_is_skipped_with_the_reason_and_anything_else_is_a_failure(
    printed: str, complaint: str, status: int, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(tmp_path, printed, complaint) == status
    assert capsys.readouterr().out == f"a.txt: audit {text}\n"


def test_the_worst_of_several_lock_files_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "pip-audit"
    answers = {"b.txt": json.dumps({"dependencies": [HIT]}), "a.txt": json.dumps({"dependencies": [KNOWN]})}
    cases = "".join(f"*{lock}) echo '{answer}' ;;\n" for lock, answer in answers.items())
    program.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}esac\n')
    program.chmod(0o755)
    assert main(str(program), ["b.txt", "a.txt"]) == 1
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "b.txt",
        "three 3.0",
        "three 3.0",
        "a.txt",
    ]
