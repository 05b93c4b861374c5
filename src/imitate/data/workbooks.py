"""Excel workbooks as tables: what the sheet shows, and nothing that it does not.

What a workbook holds and a table cannot is refused (formulas without their values, several sheets that could be meant)
or warned of (dates among ids, merged cells, hidden rows and sheets, texts that Excel has cut off).
"""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from imitate.data import table_files
from imitate.data.lazy import pd
from imitate.data.table_files import HEADER_LINES, Columns, require_single
from imitate.data.words import folded
from imitate.errors import UserError

log = logging.getLogger(__name__)
LONGEST = 32_767  # characters of a cell
DIGITS = 15  # of a number
SHOWN = 5  # sheets of a message
_OTHERS = {"content.xml": "an OpenDocument table", "xl/workbook.bin": "a binary workbook"}
_MERGED = re.compile(rb'<mergeCell ref="([A-Z]+)(\d+):([A-Z]+)(\d+)"')
_HIDDEN = re.compile(rb'<row\b(?=[^>]*\shidden="(?:1|true)")[^>]*\sr="(\d+)"')
_CELL = re.compile(rb'<c\b[^>]*\sr="([A-Z]+)(\d+)"[^>]*>\s*<f\b[^>]*(?:/>|>[^<]*</f>)\s*(?:<v\s*/>|<v></v>)?\s*</c>')


class Range(NamedTuple):
    """Cells by their first and last row and column, from 0."""

    top: int
    left: int
    bottom: int
    right: int


class Extras(NamedTuple):
    """What the XML of a sheet says beyond the values, rows and columns from 0."""

    merged: Sequence[Range]
    hidden: frozenset[int]  # rows
    formulas: Sequence[tuple[int, int]]  # that have no value


def read_workbook(path: Path, columns: Columns, sheet: str | None = None) -> pd.DataFrame:
    """The sheet that holds the required columns, every value as text, as it is shown.

    UserError: several visible sheets do, unless ``sheet`` names one.
    """
    from openpyxl import load_workbook

    _check(path)
    try:
        with path.open("rb") as file:  # the content decides, not the name
            sheets = load_workbook(file, read_only=True, data_only=True).worksheets
            chosen, start = _choose(path, sheets, columns, sheet)
            rows = list(_rows(chosen))
            extras = _extras(path, chosen)
            hidden = chosen.sheet_state != "visible"
    except (OSError, MemoryError, UserError):
        raise
    except Exception as error:  # openpyxl raises whatever it likes over damaged files
        raise UserError(f"{path} is not a readable workbook ({error}): save it again, or as CSV") from error
    if hidden:
        log.warning("%s: the hidden sheet %r is read, since no other has the columns", path.name, chosen.title)
    if len(rows) <= start:
        raise pd.errors.EmptyDataError("no cells")
    names = [str(_shown(value)) for value in rows[start]]
    named = columns.chosen(path, names)
    require_single(path, names, named)
    places = {names.index(name): title for name, title in named.items()}
    return _table(path, rows, start, places, extras)


def _choose(path: Path, sheets: Sequence[Any], columns: Columns, wanted: str | None) -> tuple[Any, int]:
    """A sheet, and the row of its header."""
    if wanted is not None:
        named = [each for each in sheets if folded(each.title) == folded(wanted)]
        if not named:
            titles = ", ".join(each.title for each in sheets[:SHOWN])
            raise UserError(f"{path} has no sheet {wanted!r}: it has {titles}")
        return named[0], _header_row(named[0], columns) or 0
    found = [(each, row) for each in sheets if (row := _header_row(each, columns)) is not None]
    visible = [(each, row) for each, row in found if each.sheet_state == "visible"]
    if len(visible) > 1:
        titles = ", ".join(each.title for each, _ in visible[:SHOWN])
        raise UserError(f"{path}: the sheets {titles} all have the columns: choose one with --sheet")
    return ([*visible, *found] or [(each, 0) for each in sheets])[0]


def _table(path: Path, rows: list[list[Any]], start: int, places: Mapping[int, str], extras: Extras) -> pd.DataFrame:
    """The rows below the header, of the columns at ``places``."""
    for row, column in extras.formulas:
        if row > start and column in places:
            where = f"row {row + 1}, column {places[column]!r}"
            raise UserError(
                f"{path}, {where}: a formula without a stored value: open and save it in Excel, or export a CSV"
            )
    _require_exact(path, rows, start, places)
    filled = _fill(rows, start, places, extras.merged)
    table = pd.DataFrame(
        [[row[place] if place < len(row) else None for place in places] for row in rows[start + 1 :]],
        columns=list(places.values()),
        dtype=object,
    )
    seen = [row for row in extras.hidden if start < row < len(rows)]
    for name in places.values():
        dates = [row for row, value in enumerate(table[name]) if isinstance(value, date | time)]
        if dates:
            said = "%s: column %r holds %d dates, the first in row %d: "
            said += "Excel turns ids such as 3-2 into dates: store them as text"
            log.warning(said, path.name, name, len(dates), dates[0] + start + 2)
    cut = int(table.map(lambda value: isinstance(value, str) and len(value) >= LONGEST).to_numpy().sum())
    for count, what in (
        (filled, "cells are merged: each has the value that is shown for all of them"),
        (len(seen), "rows are hidden: they are read like the others"),
        (cut, f"cells hold {LONGEST:,} characters, the most that Excel keeps: their ends may be missing"),
    ):
        if count:
            log.warning("%s: %d %s", path.name, count, what)
    return table.map(_shown).dropna(how="all", ignore_index=True)


def _require_exact(path: Path, rows: list[list[Any]], start: int, places: Mapping[int, str]) -> None:
    """UserError for a number of which Excel has rounded digits away: different ids may have become one."""
    for number, row in enumerate(rows[start + 1 :], start + 2):
        for place, name in places.items():
            value = row[place] if place < len(row) else None
            if isinstance(value, int | float) and abs(value) >= 10**DIGITS:
                raise UserError(
                    f"{path}, row {number}, column {name!r}: a number of {len(str(abs(int(value))))} digits, of which "
                    f"Excel keeps {DIGITS}: export it again with this column as text"
                )


def _fill(rows: list[list[Any]], start: int, places: Mapping[int, str], merged: Sequence[Range]) -> int:
    """Write the value of merged cells into all of them; how many were filled."""
    count = 0
    for cells in merged:
        if cells.bottom <= start or cells.top <= start or cells.bottom >= len(rows):
            continue
        value = rows[cells.top][cells.left] if cells.left < len(rows[cells.top]) else None
        for row in range(cells.top, cells.bottom + 1):
            for column in range(cells.left, min(cells.right + 1, len(rows[row]))):
                if column in places and rows[row][column] is None and value is not None:
                    rows[row][column] = value
                    count += 1
    return count


def _check(path: Path) -> None:
    """UserError for a zip archive that is none, or that would take far more memory than a table."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(f"{path} is not a readable workbook ({error}): copy or save it again") from error
    names = {member.filename for member in members}
    if "xl/workbook.xml" not in names:
        other = next((what for name, what in _OTHERS.items() if name in names), None)
        raise UserError(
            f"{path} is {other}: save it as .xlsx or CSV"
            if other
            else f"{path} is a zip archive, not a table: unpack it"
        )
    size = path.stat().st_size
    if (expanded := sum(member.file_size for member in members)) > max(table_files.MAX_EXPANDED, 100 * size):
        raise UserError(f"{path} is refused: its {size} bytes expand to {expanded}")


def _extras(path: Path, sheet: Any) -> Extras:
    """From the XML, which openpyxl reads for the values alone where it does not read a workbook whole."""
    with zipfile.ZipFile(path) as archive:
        text = archive.read(sheet._worksheet_path.removeprefix("/"))
    merged = [Range(int(top) - 1, _number(left), int(bottom) - 1, _number(right))
              for left, top, right, bottom in _MERGED.findall(text)]  # fmt: skip
    hidden = frozenset(int(row) - 1 for row in _HIDDEN.findall(text))
    return Extras(merged, hidden, [(int(row) - 1, _number(column)) for column, row in _CELL.findall(text)])


def _number(letters: bytes) -> int:
    """Of a column: A is 0, AA is 26."""
    found = 0
    for letter in letters:
        found = 26 * found + letter - 64
    return found - 1


def _header_row(sheet: Any, columns: Columns) -> int | None:
    for number, row in enumerate(islice(_rows(sheet), HEADER_LINES)):
        if columns.all_in([str(_shown(value)) for value in row if value is not None]):
            return number
    return None


def _rows(sheet: Any) -> Iterator[list[Any]]:
    """The values of each row; numbers that are shown with leading zeros as text."""
    if hasattr(sheet, "reset_dimensions"):  # some programs write wrong ones
        sheet.reset_dimensions()
    for row in sheet.iter_rows():
        yield [_value(cell) for cell in row]


def _value(cell: Any) -> Any:
    value = cell.value
    if isinstance(value, int) and not isinstance(value, bool) and re.fullmatch("0{2,}", cell.number_format or ""):
        return str(value).zfill(len(cell.number_format))
    return None if value == "" else value


def _shown(value: object) -> str | None:
    """As the sheet shows it: 7 for 7.0, a date without a time where there is none."""
    from openpyxl.utils.escape import unescape

    if value is None:
        return None
    if isinstance(value, str):
        return unescape(value) if "_x" in value else value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    return str(value)
