"""Sexes and ages of a hospital's table: read by what the column holds, or refused."""

from pathlib import Path

import pandas as pd
import pytest

from imitate.data.demographics import read_sex
from imitate.data.person_columns import require_years, spelled_out
from imitate.errors import UserError


def column(cells: str) -> pd.Series:
    return pd.Series([cell or None for cell in cells.split(" ")], name="col", dtype="str")


@pytest.mark.parametrize(
    ("cells", "sexes"),
    [
        ("H M M  h.", "MFF-M"), ("H F", "MF"), ("V H", "MF"), ("K M", "FM"), ("M W D", "MFO"), ("F M O U", "FMO-"),
        ("M M", "MM"), ("F", "F"), ("M F N", "MF-"), ("Varón Mujer", "MF"), ("Frau Mann", "FM"), ("M Female", "MF"),
    ],
)  # fmt: skip
def test_letters_mean_what_the_others_say(cells: str, sexes: str) -> None:
    assert "".join(read_sex(cell)[0] or "-" for cell in spelled_out(column(cells), Path("t.csv"))) == sexes


@pytest.mark.parametrize("cells", ["V M", "M N", "F N", "H M F", "U D", "H D", "M D", "B F"])
def test_letters_that_mean_other_sexes_in_other_languages_are_refused(cells: str) -> None:
    with pytest.raises(
        UserError, match=r"t\.csv: sex column 'col' holds the letters .*: write F and M, or whole words"
    ):
        spelled_out(column(cells), Path("t.csv"))


def test_sexes_that_are_not_read_are_said(caplog: pytest.LogCaptureFixture) -> None:
    spelled_out(column("F  1 2"), Path("t.csv"))
    assert caplog.messages == [
        "t.csv: 2 cells of column 'col', the first in row 3, are unknown, since they are not a sex: write F, M or O"
    ]


@pytest.mark.parametrize("cells", ["58M 47F", "58M 61M", "58W 60M", "3M 44H", "1957 1961 40", "700 41 300", "20200101"])
def test_ages_that_may_be_something_else_are_refused(cells: str) -> None:
    with pytest.raises(UserError, match="t.csv: age column 'col' holds"):
        require_years(column(cells), Path("t.csv"))


def test_months_without_a_unit_are_refused() -> None:
    with pytest.raises(UserError, match=r"'Alter \(Monate\)' holds 36, not an age in years: write years, or 6M"):
        require_years(column("36 40").rename("Alter (Monate)"), Path("t.csv"))


def test_ages_with_units_are_read(caplog: pytest.LogCaptureFixture) -> None:
    for cells in ("058Y 040M 003D", "3M 18M 36M", "58 6M 0 999", "90+ 40-44", ""):
        require_years(column(cells), Path("t.csv"))
    assert "1 cells of column 'col', the first in row 4, are unknown, since they are not an age" in caplog.text
    assert len(caplog.messages) == 1
