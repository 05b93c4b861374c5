"""What a workbook holds and a table cannot: refused or said, never read as something else in silence."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from imitate.data.tables import read_table
from imitate.errors import UserError

HEADER = ["image_path", "patient", "findings"]


def book(path: Path, **sheets: list[list[Any]]) -> openpyxl.Workbook:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for title, rows in sheets.items():
        sheet = made.create_sheet(title)
        for row in rows:
            sheet.append(row)
    return made


def read(path: Path, made: openpyxl.Workbook, **options: Any) -> pd.DataFrame:
    made.save(path)
    return read_table(path, HEADER[:2], optional=HEADER[2:], text=True, **options)


def test_two_sheets_with_the_columns_must_be_distinguished(tmp_path: Path) -> None:
    years = {"Y2019": [HEADER, ["a.png", "1", "x"]], "Y2020": [HEADER, ["b.png", "2", "y"]], "About": [["us"]]}
    path = tmp_path / "t.xlsx"
    with pytest.raises(
        UserError, match=r"t\.xlsx: the sheets Y2019, Y2020 all have the columns: choose one with --sheet"
    ):
        read(path, book(path, **years))
    assert read(path, book(path, **years), sheet="y2020")["patient"].tolist() == ["2"]
    with pytest.raises(UserError, match=r"has no sheet 'Y2021': it has Y2019, Y2020, About"):
        read(path, book(path, **years), sheet="Y2021")
    (tmp_path / "t.csv").write_text("image_path,patient\na,1\n")
    with pytest.raises(UserError, match=r"t\.csv is not an Excel workbook"):
        read_table(tmp_path / "t.csv", HEADER[:2], sheet="Y2020")


def test_a_hidden_sheet_gives_way_to_a_visible_one_and_is_said_where_it_is_the_only_one(tmp_path: Path, caplog) -> None:
    path = tmp_path / "t.xlsx"
    made = book(path, old=[HEADER, ["a.png", "1", "x"]], new=[HEADER, ["b.png", "2", "y"]])
    made["old"].sheet_state = "hidden"
    assert read(path, made)["patient"].tolist() == ["2"] and not caplog.text
    made = book(path, old=[HEADER, ["a.png", "1", "x"]], about=[["us"]])
    made["old"].sheet_state = "hidden"
    assert read(path, made)["patient"].tolist() == ["1"]
    assert "t.xlsx: the hidden sheet 'old' is read, since no other has the columns" in caplog.text


def test_a_formula_without_its_value_is_refused_in_the_columns_that_count(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    with pytest.raises(
        UserError, match=r"t\.xlsx, row 3, column 'patient': a formula without a stored value: open and save"
    ):
        read(path, book(path, s=[HEADER, ["a.png", "1", "x"], ["b.png", "=A1", "y"]]))
    rows = [[*HEADER, "other"], ["a.png", "1", "x", "=1+1"]]
    assert read(path, book(path, s=rows))["patient"].tolist() == ["1"]


def test_merged_cells_have_the_value_that_is_shown_for_all_of_them(tmp_path: Path, caplog) -> None:
    path = tmp_path / "t.xlsx"
    made = book(path, s=[["Title", None, None], HEADER, ["a.png", "7", "x"], ["b.png", None, "y"], ["c.png", "8", "z"]])
    made["s"].merge_cells("A1:C1")
    made["s"].merge_cells("B3:B4")
    assert read(path, made)["patient"].tolist() == ["7", "7", "8"]
    assert "t.xlsx: 1 cells are merged: each has the value that is shown for all of them" in caplog.text


def test_dates_hidden_rows_and_cut_texts_are_warned_of(tmp_path: Path, caplog) -> None:
    path = tmp_path / "t.xlsx"
    rows = [
        HEADER,
        ["a.png", datetime(2020, 2, 1), "x" * 32_767],
        ["b.png", date(2021, 3, 4), "y"],
        ["c.png", "1", "z"],
    ]
    made = book(path, s=rows)
    made["s"].row_dimensions[3].hidden = True
    assert read(path, made)["patient"].tolist() == ["2020-02-01", "2021-03-04", "1"]
    for said in (
        "column 'patient' holds 2 dates, the first in row 2: Excel turns ids such as 3-2 into dates: store them as text",
        "1 rows are hidden: they are read like the others",
        "1 cells hold 32,767 characters, the most that Excel keeps: their ends may be missing",
    ):
        assert f"t.xlsx: {said}" in caplog.text


def test_numbers_are_read_as_they_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    made = book(path, s=[HEADER, ["a.png", 123, "one_x000D_\ntwo"], ["b.png", 7.0, "y"]])
    made["s"]["B2"].number_format = "00000000"
    found = read(path, made)
    assert found["patient"].tolist() == ["00000123", "7"] and found["findings"].tolist() == ["one\r\ntwo", "y"]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    with pytest.raises(UserError, match=r"t\.xlsx has 2 columns 'patient': rename all but one"):
        read(path, book(path, s=[[*HEADER, "patient"], ["a.png", "1", "x", "2"]]))
    (tmp_path / "t.csv").write_text("image_path,patient,patient\na,1,2\n")
    with pytest.raises(UserError, match=r"t\.csv has 2 columns 'patient'"):
        read_table(tmp_path / "t.csv", HEADER[:2], text=True)


def test_numbers_that_excel_has_rounded_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    for value in (1.23456789012346e18, 1234567890123450000):
        with pytest.raises(UserError, match=r"row 3, column 'patient': a number of 19 digits, of which Excel keeps 15"):
            read(path, book(path, s=[HEADER, ["a.png", 1, "x"], ["b.png", value, "y"]]))
    exact = [HEADER, ["a.png", 123456789012345, "x"], ["b.png", "12345678901234567", "y"]]
    assert read(path, book(path, s=exact))["patient"].tolist() == ["123456789012345", "12345678901234567"]
