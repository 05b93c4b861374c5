"""Quotes in CSV files: one that is not closed takes the rows after it into a field, and their images are gone."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from imitate.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

OPEN_AT_END = re.compile(r"EOF inside string starting at row (\d+)")  # of pandas, whose row 0 is the header
_BREAK = re.compile(r"\r\n?|\n")
_RUN = re.compile(r"[^\W_]+")


def require_closed(
    table: pd.DataFrame, path: Path, file: TextIOWrapper, *, delimiter: str, ids: Collection[str]
) -> None:
    """UserError where a line within a field is a row of the table: its ``ids`` look like those of other rows.

    Lines of a report may well hold as many delimiters as a row, so that these do not suffice.
    """
    import pyarrow.compute as pc

    rows = _Rows(table, delimiter, [place for place, name in enumerate(table.columns) if name in ids] or [0])
    for place in [each for each, dtype in enumerate(table.dtypes) if dtype.kind == "O"]:
        cells = rows.cells(place)
        for cell in cells.filter(pc.match_substring_regex(cells, rows.pattern(place))).to_pylist():
            lines = _BREAK.split(cell)
            for number, line in enumerate(lines):
                if (number or not place) and rows.holds(line, place, whole=number < len(lines) - 1):
                    found = _number(file, line)
                    raise UserError(
                        f"{path}, line {found}: this row is within a field of column {table.columns[place]!r} that a "
                        f"quote opens in line {found - number}: close that quote, and double quotes within a text"
                    )


class _Rows:
    """What the rows of a table look like."""

    def __init__(self, table: pd.DataFrame, delimiter: str, ids: Sequence[int]) -> None:
        self._table, self._delimiter, self._ids = table, delimiter, ids  # places of the columns that identify a row
        self._width = table.shape[1]
        self._cells: dict[int, pa.Array] = {}
        self._known: dict[int, tuple[set[str], set[str]]] = {}

    def cells(self, place: int) -> pa.Array:
        """A column as text."""
        import pyarrow as pa

        if place not in self._cells:
            self._cells[place] = pa.array(self._table.iloc[:, place].astype("string"), pa.large_string())
        return self._cells[place]

    def pattern(self, place: int) -> str:
        """Of a field at ``place`` that may hold a row: most reports are set aside at once."""
        mark = re.escape(self._delimiter)
        fields = [self._field(each) if each in self._ids else rf"[^{mark}\r\n]*" for each in range(self._width)]
        end = "\n" if self._has(place, "\n") else "\r"  # a class of both would take four times as long to find
        return f"{end}{mark.join([*fields[:place], ''])}" if place else f"(?:^|{end}){mark.join(fields)}[\r\n]"

    def holds(self, line: str, place: int, *, whole: bool) -> bool:
        """Whether it is a row; one that is not ``whole`` ends in the column at ``place``."""
        fields = [field.strip(' "') for field in line.split(self._delimiter)]
        if len(fields) != self._width and (whole or not 0 < place < len(fields)):
            return False
        last = self._width if len(fields) == self._width else place
        given = [each for each in self._ids if each < last and fields[each]]
        if not all(_shape(fields[each]) in self._of(each)[0] for each in given):
            return False
        telling = any(not _shape(fields[each]).isalpha() for each in given)
        return telling and any(fields[each] not in self._of(each)[1] for each in given)

    def _field(self, place: int) -> str:
        """A pattern of the fields of a column."""
        return rf"[^{re.escape(self._delimiter)}\r\n{'' if self._has(place, ' ') else ' '}]*"

    def _has(self, place: int, text: str) -> bool:
        import pyarrow.compute as pc

        return bool(pc.any(pc.match_substring(self.cells(place), text)).as_py())

    def _of(self, place: int) -> tuple[set[str], set[str]]:
        """The shapes and the values of a column."""
        if place not in self._known:
            values = {value.strip() for value in self.cells(place).drop_null().to_pylist()}
            self._known[place] = set(map(_shape, values)), values
        return self._known[place]


def _shape(text: str) -> str:
    """Words as a, numbers as so many 9, and mixtures as x: a-9999.a for scan-0012.png."""
    return _RUN.sub(lambda run: "a" if run[0].isalpha() else "9" * len(run[0]) if run[0].isdecimal() else "x", text)


def _number(file: TextIOWrapper, line: str) -> int:
    """Of the line of a file that begins so."""
    file.seek(0)
    begins = line.replace('"', "")
    return next(number for number, each in enumerate(file, 1) if each.replace('"', "").startswith(begins))
