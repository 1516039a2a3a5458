"""A spreadsheet runs no cell of a table that is written here."""

from __future__ import annotations

import csv
import io

import pytest

from runtime.common.csv_text import to_csv, without_apostrophe


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1+1", "-1+cmd|'/C calc'!A0", "@SUM(A1)", "\t=1", "\n=1", "＝1+1", '=HYPERLINK("x","y")']
)
def test_a_formula_becomes_text(cell: str) -> None:
    ((written, number),) = csv.reader(io.StringIO(to_csv([[cell, -0.5]]), newline=""))
    assert written == f"'{cell}"
    assert number == "-0.5"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("cell", ["x;=1+1", "x\t=1+1", "x,=1+1", 'x";=1', "x\n=1", "1;2"])
def test_whatever_separates_cells_a_text_is_one_cell(cell: str, delimiter: str) -> None:
    """A spreadsheet takes a semicolon where the decimal point is a comma."""
    ((read,),) = csv.reader(io.StringIO(to_csv([[cell]]), newline=""), delimiter=delimiter)
    assert read == cell


@pytest.mark.parametrize("cell", ["=x", "'=x", "''=x", "-5", "'-5", "'", "''", "'x", "\t'=", "＝x"])
def test_an_apostrophe_of_the_text_itself_comes_back(cell: str) -> None:
    ((written,),) = csv.reader(io.StringIO(to_csv([[cell]]), newline=""))
    assert without_apostrophe(written) == cell
    assert not written.startswith(("=", "＝"))


def test_a_carriage_return_begins_no_row() -> None:
    assert to_csv([["a\r=1", "b"]]) == "a\\u000d=1,b\n"


@pytest.mark.parametrize(
    "cell",
    ["jump", "-0.5", "+1e-3", "", "a=b", "it''s", "x;=1", "a\t=1", 'say "x"', "a,b", "a\nb", "'x", "1-2", "動画"],
)
def test_other_cells_stay(cell: str) -> None:
    assert list(csv.reader(io.StringIO(to_csv([[cell, "x"]]), newline=""))) == [[cell, "x"]]
