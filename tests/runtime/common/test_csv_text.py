"""A spreadsheet runs no cell of a table that is written here."""

from __future__ import annotations

import csv
import io

import pytest

from runtime.common.csv_text import to_csv


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1+1", "-1+cmd|'/C calc'!A0", "@SUM(A1)", "\t=1", "\n=1", "＝1+1", '=HYPERLINK("x","y")']
)
def test_a_formula_becomes_text(cell: str) -> None:
    ((written, number),) = csv.reader(io.StringIO(to_csv([[cell, -0.5]]), newline=""))
    assert written == f"'{cell}"
    assert number == "-0.5"


def test_a_carriage_return_begins_no_row() -> None:
    assert to_csv([["a\r=1", "b"]]) == "a\\u000d=1,b\n"


@pytest.mark.parametrize("cell", ["jump", "-0.5", "+1e-3", "", "a=b", "'x", "1-2", "動画"])
def test_other_cells_stay(cell: str) -> None:
    assert list(csv.reader(io.StringIO(to_csv([[cell, "x"]]), newline=""))) == [[cell, "x"]]
