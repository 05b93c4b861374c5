"""Tables as hospitals export them."""

import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imitate.data import table_files
from imitate.data.folder import Folder, Shard
from imitate.data.tables import read_table
from imitate.errors import UserError

ROWS = [["image_path", "patient", "findings"], ["a.png", "007", "Lungs; heart: clear."], ["b.png", "8", "Ödem | no"]]
COLUMNS = ["image_path", "patient"]
EXPECTED = [dict(zip(ROWS[0], row, strict=True)) for row in ROWS[1:]]


def csv_of(delimiter: str) -> str:
    return "".join(delimiter.join(f'"{value}"' for value in row) + "\r\n" for row in ROWS)


def read(path: Path, *required: str) -> list[dict[Any, Any]]:
    return read_table(path, required or COLUMNS, text=True).to_dict("records")


@pytest.mark.parametrize(
    "text",
    [
        csv_of("|"),
        "sep=;\r\n" + csv_of(";"),
        '"sep=\t"\n' + csv_of("\t"),
        "Export vom 3.4.2021, Radiologie\r\n\r\n" + csv_of(";"),
        "a,b,c,d\n" + csv_of("|"),
    ],
    ids=["bar", "separator", "quoted separator", "title", "title of more delimiters"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_csv_in_any_form(text: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "t.TXT").write_bytes(text.encode(encoding))
    assert read(tmp_path / "t.TXT") == EXPECTED


def workbook(path: Path, *sheets: Sequence[Sequence[object]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_workbook_is_read_from_the_sheet_that_has_the_columns(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", [["About"], ["us"]], [["Title"], [], *ROWS, [], ["c.png", 9.0, True]])
    path = path.rename(tmp_path / "T.XLSX")  # openpyxl knows lower case alone
    found = read_table(path, COLUMNS, optional=["findings"], text=True)
    assert found[:2].to_dict("records") == EXPECTED
    assert found.iloc[2].tolist() == ["c.png", "9", "True"] and len(found) == 3
    with pytest.raises(UserError, match=r"lacks column 'split'; its columns are About"):
        read(path, "split")


def test_files_that_are_no_table_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "zip.csv", "w") as archive:
        archive.writestr("a.txt", "a")
    with zipfile.ZipFile(tmp_path / "hollow.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<a")
    (tmp_path / "cut.xlsx").write_bytes(workbook(tmp_path / "whole.xlsx", ROWS).read_bytes()[:900])
    (tmp_path / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    (tmp_path / "odd.csv").write_bytes("\ufeffimage_path\n".encode("utf-16-le") + b"x")
    for name, message in (
        ("zip.csv", "is a zip archive, not a table: unpack it"),
        ("hollow.xlsx", "is not a readable workbook .*: save it again, or as CSV"),
        ("cut.xlsx", "is not a readable workbook"),
        ("old.xls", "is a workbook of Excel 2003 or earlier: save it as .xlsx or CSV"),
        ("odd.csv", "not everything in it is utf-16"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            read(tmp_path / name)
        assert name in str(caught.value)
    monkeypatch.setattr(table_files, "MAX_EXPANDED", 1000)
    workbook(tmp_path / "bomb.xlsx", [COLUMNS, *[["a" * 30_000, "b"]] * 60])
    with pytest.raises(UserError, match=r"bomb\.xlsx is refused: its \d+ bytes expand to \d+"):
        read(tmp_path / "bomb.xlsx")


def test_names_of_columns_are_found_in_any_form(tmp_path: Path) -> None:
    header = unicodedata.normalize("NFD", "Größe") + ",PATIENT ,Befund,befund"
    (tmp_path / "t.csv").write_text(f"{header}\n1,2,3,4\n", encoding="utf-8")
    assert read(tmp_path / "t.csv", "Größe", "patient", "befund") == [
        {"Größe": "1", "patient": "2", "Befund": "3", "befund": "4"}
    ]
    with pytest.raises(UserError, match="lacks column 'BEFUND'"):  # either of two
        read(tmp_path / "t.csv", "BEFUND")


def test_a_parquet_file_that_expands_to_gigabytes_is_refused_before(tmp_path: Path) -> None:
    """Compression shows in the metadata; a dictionary of one value, 300,000 times, only as it is read."""
    zeros, repeated = tmp_path / "zeros.parquet", tmp_path / "repeated.parquet"
    schema = pa.schema([("image_path", pa.string()), ("patient", pa.string())])
    text = "x" * 2**20
    with pq.ParquetWriter(zeros, schema, compression="zstd", use_dictionary=False) as file:
        for _ in range(300):
            file.write_table(pa.table([[text], ["p"]], schema=schema))
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 300_000, pa.int32()), ["x" * 5000])
    pq.write_table(pa.table({"image_path": column, "patient": column}), repeated, compression="zstd")
    for path in (zeros, repeated):
        assert path.stat().st_size < 200_000
        before = pa.total_allocated_bytes()
        with pytest.raises(UserError, match=rf"{path.name} is refused: its \d+ bytes would take more than 256 MiB"):
            read(path)
        assert pa.total_allocated_bytes() - before < 2**26
    folder = Folder(tmp_path, {"format": 2, "size": 16}, (Shard(300_000, repeated, repeated, None),))
    with pytest.raises(UserError, match="is refused"):
        folder.read(0, ["patient"])
