"""The judge of the service's load, on services that are right and on those that fail in a way of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("starlette")

from runtime.benchmark.service_load.client import Client
from runtime.benchmark.service_load.judging import MIB, RequestRecord, Study, Usage, find_faults
from runtime.benchmark.service_load.kinds import KINDS
from tests.runtime.benchmark.service_load.double import Rule, doubled

VIDEO = os.urandom(9_000)
FOUND = {"clip": [{"label": "jump", "score": 0.9, "segment": [1.0, 2.0]}]}
SENT = ("video", "form", "address", "cancelled", "name", "truncated", "playlist", "no video")
"""Kinds that make a job."""
GOOD = Study((), 1.0, Usage(60, 200), Usage(60, 200), Usage(60, 200), workers=1, metrics={}, status=0, left=0)


def right(content: bytes) -> str:
    """End a job as the service does: what holds a whole video, or names one, is done."""
    return "done" if VIDEO in content or b'"url"' in content else "failed"


def study(tmp_path: Path, rule: Rule, found: Mapping[str, object] = FOUND) -> Study:
    (tmp_path / "clip.mp4").write_bytes(VIDEO)
    with doubled(rule, dict(found)) as address:
        client = Client(address, [tmp_path / "clip.mp4"], FOUND, "http://127.0.0.1:9")
        return replace(GOOD, records=[client.run(kind, seed) for seed, kind in enumerate((*SENT, "video", "video"))])


def kinds_of(faults: list[str]) -> set[str]:
    return {fault.partition(" × ")[2].partition(":")[0] for fault in faults}


def test_a_service_that_is_right_has_no_fault(tmp_path: Path) -> None:
    assert find_faults(study(tmp_path, right)) == []


def test_a_service_that_fails_every_job_is_noticed(tmp_path: Path) -> None:
    faults = find_faults(study(tmp_path, lambda _: "failed"))
    assert kinds_of(faults) == {"video", "form", "address", "name"}
    assert "3 × video: 202 failed, expected 202 done" in faults


def test_a_service_that_finds_something_in_a_playlist_is_noticed(tmp_path: Path) -> None:
    faults = find_faults(study(tmp_path, lambda _: "done"))
    assert kinds_of(faults) == {"truncated", "playlist", "no video"}
    assert "1 × playlist: 202 done, expected 202 failed" in faults


def test_another_result_is_noticed(tmp_path: Path) -> None:
    other = {"clip": [{"label": "jump", "score": 0.8, "segment": [1.0, 2.0]}]}
    faults = find_faults(study(tmp_path, right, other))
    assert kinds_of(faults) == {"video", "form", "address"}
    assert "with another result than afsd detect" in faults[0]


def test_what_is_not_answered_is_lost_and_a_fault(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(VIDEO)
    client = Client("http://127.0.0.1:9", [tmp_path / "clip.mp4"], FOUND, "")
    record = client.run("video", 0)
    assert (record.lost, record.wrong) == (True, False)
    (fault,) = find_faults(replace(GOOD, records=[record]))
    assert fault.startswith("1 × video: lost (ConnectionRefusedError")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_ends_and_no_other_is_right(kind: str) -> None:
    assert KINDS[kind].ends
    for end in KINDS[kind].ends:
        assert not RequestRecord(kind, end, 1.0).wrong
    for end in ("500", "429", "answered", "202 cancelled", "202 running", "deleted 404, then 410"):
        assert RequestRecord(kind, end, 1.0).wrong


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peak": Usage(60 + 65 * MIB, 200)}, "the service's memory grew by 65 MiB, expected at most 64"),
        ({"peak": Usage(60, 200 + 513 * MIB), "workers": 2},
         "the workers' memory grew by 513 MiB, expected at most 512"),
        ({"status": -9}, "the service ended with exit status -9, expected 0"),
        ({"left": 3}, "the service left 3 temporary files, expected none"),
    ],
)  # fmt: skip
def test_memory_files_and_the_end_are_judged(changes: dict[str, object], said: str) -> None:
    assert find_faults(replace(GOOD, **changes)) == [said]  # type: ignore[arg-type]
    assert find_faults(replace(GOOD, peak=Usage(60 + 64 * MIB, 200 + 512 * MIB), workers=2)) == []
