"""Table files as archives and hospitals ship them: CSV of any delimiter and encoding, Parquet, Excel workbooks.

The content decides on the kind, the compression and the encoding. ``Columns`` says which columns are read.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Collection, Sequence
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from imitate.data.encodings import encoding_of, require_western
from imitate.data.lazy import pd
from imitate.data.quotes import OPEN_AT_END, require_closed
from imitate.data.words import folded
from imitate.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

PARQUET, ZIP, GZIP, OLD_EXCEL = b"PAR1", b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0"
DELIMITERS = ",;\t|"
HEADER_LINES = 20  # among which the header is looked for: titles precede it
LINE = 2**16  # characters of a header at most
MAX_EXPANDED, MAX_RATIO = 2**28, 1000  # a file of more bytes in memory, which are so many times its own, is refused
BATCH = 4096  # rows of a Parquet file
_SEPARATOR = re.compile(r'"?sep=(.)"?;*\s*', re.IGNORECASE)  # the first line of what Excel writes


class Columns(NamedTuple):
    """The ``required`` columns and those of ``optional`` that exist (None: all columns)."""

    required: Sequence[str]
    optional: Sequence[str] | None = None

    def chosen(self, path: Path, found: Sequence[str]) -> dict[str, str]:
        """Columns of the file -> what they are called here, in order; UserError where a required one is absent.

        A name counts in any Unicode form; case and accents count only where they distinguish two columns.
        """
        wanted = dict.fromkeys([*self.required, *(self.optional or ())])
        own = {name: name for name in wanted if name in found}
        keys = [folded(name) for name in found if name not in own]
        alike = {folded(name): name for name in found if name not in own and keys.count(folded(name)) == 1}
        pairs = ((name, alike.pop(folded(name), None)) for name in wanted if name not in own)
        named = own | {name: place for name, place in pairs if place is not None}
        if missing := [name for name in self.required if name not in named]:
            raise UserError(f"{path} lacks column {', '.join(map(repr, missing))}; its columns are {', '.join(found)}")
        renamed = {place: name for name, place in named.items()}
        if self.optional is None:
            return {place: renamed.get(place, place) for place in found}
        return {named[name]: name for name in wanted if name in named}

    def all_in(self, found: Sequence[str]) -> bool:
        """Whether a line of a file holds the names of all the required columns."""
        return set(map(folded, self.required)) <= set(map(folded, found))


def read_file(path: Path, columns: Columns, *, text: bool, sheet: str | None = None) -> pd.DataFrame:
    """The columns of a table file; ``text`` reads every value as text, and only a blank is missing.

    ``sheet`` is that of a workbook; UserError for another file.
    """
    with path.open("rb") as file:
        head = file.read(8)
    if sheet is not None and not head.startswith(ZIP):
        raise UserError(f"{path} is not an Excel workbook (.xlsx) and has no sheet {sheet!r}: omit --sheet")
    if path.suffix.lower() == ".parquet" or head.startswith(PARQUET):
        return _read_parquet(path, columns, text)
    if head.startswith(ZIP):
        from imitate.data.workbooks import read_workbook

        return read_workbook(path, columns, sheet)
    if head.startswith(OLD_EXCEL):
        raise UserError(f"{path} is a workbook of Excel 2003 or earlier: save it as .xlsx or CSV")
    return _read_csv(path, columns, text)


def read_bounded(
    file: pq.ParquetFile, path: Path, columns: Sequence[str], *, groups: Sequence[int] | None = None
) -> pa.Table:
    """Columns of a Parquet file, or of these row groups; UserError for one that expands to far more than a table does.

    Its metadata know what compression saves; what a dictionary of repeated values saves shows as it is read.
    """
    import pyarrow as pa

    size = path.stat().st_size
    limit = max(MAX_EXPANDED, MAX_RATIO * size)
    groups = range(file.num_row_groups) if groups is None else groups
    expanded = sum(file.metadata.row_group(number).total_byte_size for number in groups)
    batches = []
    if expanded <= limit:
        expanded = 0
        for part in file.iter_batches(BATCH, columns=list(columns), row_groups=list(groups), use_threads=False):
            arrays = [each.dictionary_decode() if isinstance(each, pa.DictionaryArray) else each for each in part]
            batch = pa.RecordBatch.from_arrays(arrays, part.schema.names)
            expanded += batch.nbytes
            if expanded > limit:
                break
            batches.append(batch)
    if expanded > limit:
        raise UserError(f"{path} is refused: its {size} bytes would take more than {limit >> 20} MiB of memory")
    table = pa.Table.from_batches(batches, batches[0].schema) if batches else file.schema_arrow.empty_table()
    return table.select(list(columns))


def _read_parquet(path: Path, columns: Columns, text: bool) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        chosen = columns.chosen(path, file.schema_arrow.names)
        table = read_bounded(file, path, list(chosen))
    if text:
        table = table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))
    frame: pd.DataFrame = table.to_pandas().rename(columns=chosen)
    return frame


def _read_csv(path: Path, columns: Columns, text: bool) -> pd.DataFrame:
    with _open(path) as file:
        encoding = encoding_of(file.read(1024))
    try:
        return _decode_csv(path, columns, text, encoding=encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding:
            raise UserError(f"{path} is not a readable table: not everything in it is {encoding}") from error
        with _open(path) as file:
            require_western(file, path)
        return _decode_csv(path, columns, text, encoding="cp1252")


def _decode_csv(path: Path, columns: Columns, text: bool, *, encoding: str) -> pd.DataFrame:
    """All columns: asked to read only some, pandas no longer notices rows that are too long."""
    as_text: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_values": [""]} if text else {}
    with _open(path) as binary, TextIOWrapper(binary, encoding, newline="") as file:
        delimiter = _find_header(file, columns)
        start = file.tell()
        names = next(csv.reader(iter(file.readline, ""), delimiter=delimiter, skipinitialspace=True), [])
        file.seek(start)
        try:
            table = pd.read_csv(file, sep=delimiter, skipinitialspace=True, **as_text)
        except pd.errors.ParserError as error:
            if opened := OPEN_AT_END.search(str(error)):
                raise UserError(f"{path}, row {opened[1]}: a quote opens a field and is never closed") from error
            raise
        if not isinstance(table.index, pd.RangeIndex):
            raise UserError(f"{path}: its rows have more fields than its header: quote fields that hold {delimiter!r}")
        chosen = columns.chosen(path, list(table.columns))
        require_single(path, names, chosen)
        ids = [place for place, name in chosen.items() if name in columns.required[:2]]  # image and patient, mostly
        require_closed(table, path, file, delimiter=delimiter, ids=ids)
    return table[list(chosen)].rename(columns=chosen)


def require_single(path: Path, names: Sequence[object], chosen: Collection[str]) -> None:
    """UserError where two columns have the name of a chosen one."""
    for name in chosen:
        if (count := [str(each) for each in names].count(name)) > 1:
            raise UserError(f"{path} has {count} columns {name!r}: rename all but one")


def _find_header(file: TextIOWrapper, columns: Columns) -> str:
    """The delimiter; leaves the file where its header begins, after titles, or at its first line."""
    named, first = "", None
    for _ in range(HEADER_LINES):
        start, line = file.tell(), file.readline(LINE)
        if separator := _SEPARATOR.fullmatch(line):
            named = separator[1]
            continue
        for delimiter in sorted(named or DELIMITERS, key=line.count, reverse=True) if line.strip() else ():
            first = first or (start, delimiter)
            if columns.all_in(next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])):
                file.seek(start)
                return delimiter
    start, delimiter = first or (0, ",")
    file.seek(start)
    return delimiter


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    """The uncompressed bytes; some browsers unpack a ``.csv.gz`` and keep its name, so the first bytes decide."""
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP
    return gzip.open(path) if zipped else path.open("rb")
