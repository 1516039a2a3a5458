"""Sizes in words: memory in units of 1024, files in units of 1000."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import runtime
from runtime.common.sizes import file_size, memory_size


@pytest.mark.parametrize(
    ("size", "memory", "file"),
    [
        (0, "0.0 MiB", "0.0 MB"),
        (400_000, "0.4 MiB", "0.4 MB"),
        (9_500_000, "9.1 MiB", "9.5 MB"),
        (435_000_000, "415 MiB", "435 MB"),
        (2**30, "1.0 GiB", "1.1 GB"),
        (25_300_000_000, "23.6 GiB", "25.3 GB"),
        (4_000_000_000_000, "3725.3 GiB", "4.0 TB"),
    ],
)
def test_a_size_in_words(size: int, memory: str, file: str) -> None:
    assert memory_size(size) == memory
    assert file_size(size) == file


def test_no_message_has_a_unit_of_its_own() -> None:
    """Sizes are put into words in one place: no other text behind a number in braces ends with a unit of bytes."""
    root = Path(runtime.__file__).parents[1]
    unit = re.compile(r"\}\s*[kKMGT]i?B\b")
    spelled = {
        f"{path.relative_to(root)}:{number}"
        for package in ("runtime", "training", "export", "calibration")
        for path in (root / package).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if unit.search(line)
    }
    whole = {name.partition(":")[0] for name in spelled}
    assert whole <= {
        "runtime/commands/doctor.py",  # memory in GiB, as it is measured and stored
        "export/studies/speed/page.py",  # columns of MiB and GiB
        "export/studies/engine_table.py",
        *("runtime/service/intake/fetching.py", "runtime/service/intake/receiving.py"),  # a flag's own unit, MiB
        "runtime/benchmark/service_load/judging.py",  # growth beside its bound in the same unit
        "export/to_trt.py",  # the builder's peak in MiB, as its report has it
    }
