"""Tables as archives and hospitals ship them: CSV, gzipped CSV, Parquet; and a patient split for those without one."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import zlib
from collections.abc import Collection, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from imitate.data.lazy import np, pd
from imitate.data.records import Excluded, Record
from imitate.errors import UserError

MISSING = "missing file"  # the reason of a record whose image is not there
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validate", "validation", "dev"), "val"
)


def read_table(
    path: Path, required: Sequence[str], *, optional: Sequence[str] | None = None, text: bool = False
) -> pd.DataFrame:
    """The ``required`` columns and those of ``optional`` that exist (None: all columns).

    ``text`` reads every value as text, so that an id such as 007 survives, and only a blank is missing. The content
    decides on compression, the header line on the delimiter (comma, semicolon or tab); the encoding is UTF-8, or
    Windows-1252 where it is not. Raises UserError for an absent, unreadable or empty table and for absent columns.
    """
    if not path.is_file():
        raise UserError(f"no table {path.name} in {path.parent}: {_neighbours(path.parent)}")
    import pyarrow as pa

    read = _read_parquet if path.suffix == ".parquet" else _read_csv
    try:
        table = read(path, required, optional, text)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pa.ArrowException) as error:
        raise UserError(f"{path} is not a readable table: {' '.join(str(error).split())}") from error
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): copy or download it again") from error
    if table.empty:
        raise UserError(f"{path} has a header but no rows: copy or download it again")
    return table


def numbers(table: pd.DataFrame, columns: Sequence[str], path: Path, *, allowed: Sequence[int]) -> np.ndarray:
    """(rows, columns) float32, NaN where blank; UserError where a value is no number, or none of ``allowed``."""
    try:
        values = table[list(columns)].to_numpy(np.float32)
    except ValueError as error:
        raise UserError(f"{path}: not every label is a number ({error}): copy or download it again") from error
    strange = ~np.isnan(values) & ~np.isin(values, allowed)
    if strange.any():
        row, column = np.argwhere(strange)[0]
        raise UserError(
            f"{path}: column {columns[column]!r} holds {values[row, column]:g}, {int(strange.sum())} such labels: "
            f"expected {', '.join(map(str, allowed))} or blank"
        )
    return values


def newest_table(folder: Path, stem: str) -> Path | None:
    """The last by name of the CSV tables whose stem matches this glob pattern: the newest version, gzipped if both."""
    return max((path for suffix in (".csv", ".csv.gz") for path in folder.glob(stem + suffix)), default=None)


def split_name(spelling: object) -> str | None:
    """``train``, ``val`` or ``test`` for any usual spelling; None for a blank; UserError for another word."""
    if not isinstance(spelling, str) or not spelling.strip():
        return None
    name = SPLITS.get(spelling.strip().lower())
    if name is None:
        raise UserError(f"unknown split {spelling!r}: write one of {', '.join(SPLITS)}")
    return name


def hashed_split(patient: str) -> str:
    """80% train, 10% val, 10% test by the SHA-256 of the patient's id: the same whatever else the table holds."""
    place = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8]) / 2**64
    return "train" if place < 0.8 else "val" if place < 0.9 else "test"


def _neighbours(folder: Path) -> str:
    if not folder.is_dir():
        return f"the folder {folder} does not exist"
    names = sorted(entry.name for entry in folder.iterdir())
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"the folder holds {shown}" if names else "the folder is empty"


def _wanted(path: Path, found: Sequence[str], required: Sequence[str], optional: Sequence[str] | None) -> list[str]:
    missing = [column for column in required if column not in found]
    if missing:
        raise UserError(f"{path} lacks column {', '.join(map(repr, missing))}; its columns are {', '.join(found)}")
    if optional is None:
        return list(found)
    return list(dict.fromkeys([*required, *(column for column in optional if column in found)]))


def _read_parquet(path: Path, required: Sequence[str], optional: Sequence[str] | None, text: bool) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=_wanted(path, pq.read_schema(path).names, required, optional))
    if text:
        table = table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))
    return table.to_pandas()


def _read_csv(path: Path, required: Sequence[str], optional: Sequence[str] | None, text: bool) -> pd.DataFrame:
    as_text: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_values": [""]} if text else {}
    try:
        table = _decode_csv(path, encoding="utf-8-sig", **as_text)
    except UnicodeDecodeError:
        table = _decode_csv(path, encoding="cp1252", encoding_errors="replace", **as_text)
    return table[_wanted(path, list(table.columns), required, optional)]


def _decode_csv(path: Path, **options: Any) -> pd.DataFrame:
    """All columns: asked to read only some, pandas no longer notices rows that are too long."""
    with _open(path) as file:
        header = file.readline()
        delimiter = max(",;\t", key=lambda character: header.count(character.encode()))
        file.seek(0)
        table = pd.read_csv(file, sep=delimiter, skipinitialspace=True, **options)
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{path}: its rows have more fields than its header: quote fields that hold a {delimiter!r}")
    return table


def _open(path: Path) -> BufferedIOBase:
    """The uncompressed bytes; some browsers unpack a ``.csv.gz`` and keep its name, so the first bytes decide."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else path.open("rb")


def find(raw: Path, *names: str) -> Path:
    """The first of ``names`` (files or folders) below ``raw``; UserError where there is none."""
    for name in names:
        if (raw / name).exists():
            return raw / name
    raise UserError(f"{raw} has no {' or '.join(names)}: --raw is the folder that holds it")


def column_values(table: pd.DataFrame, column: str, *, path: Path, allowed: Collection[int] = ()) -> pd.Series:
    """A column as floats, NaN where blank; UserError for other text and for a number that is not ``allowed``."""
    cells = table[column].astype("string").str.strip()
    cells = cells.mask(cells == "")
    values = pd.to_numeric(cells, errors="coerce").astype("float64")
    wrong = cells.notna() & (values.isna() | (~values.isin(list(allowed)) if allowed else False))
    if wrong.any():
        wanted = f"{', '.join(map(str, allowed))} or blank" if allowed else "a number or blank"
        raise UserError(
            f"{path}: column {column!r} holds {cells[wrong].iloc[0]!r} in {int(wrong.sum())} rows: expected {wanted}"
        )
    return values


def require_filled(table: pd.DataFrame, columns: Collection[str], *, path: Path) -> None:
    """UserError where one of the columns has a blank."""
    for column in columns:
        if blanks := int(table[column].isna().sum()):
            raise UserError(f"{path}: column {column!r} is blank in {blanks} of {len(table)} rows: download it again")


def require_unique(ids: pd.Series, *, path: Path) -> None:
    """UserError where an id occurs twice: its rows could land in different splits."""
    again = ids[ids.duplicated()]
    if len(again):
        raise UserError(f"{path} lists {len(again)} ids again, {again.iloc[0]!r} first: remove the duplicate rows")


def is_below(path: Path, root: Path) -> bool:
    """Whether a path that a table names stays in ``root`` as it is written; links in the tree are the owner's own."""
    whole, start = (Path(os.path.abspath(each)) for each in (path, root))  # noqa: PTH100 (resolve follows links)
    return whole.is_relative_to(start)


def is_there(path: Path) -> bool:
    """Whether it is a file; one that permissions hide counts, so that reading it says so."""
    try:
        return path.is_file()
    except PermissionError:
        return True
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def present(record: Record, *, root: Path) -> Record | Excluded:
    """The record, or why it is excluded where its image file is not there or not below ``root``."""
    if not is_below(record.image, root):
        return Excluded(record.image_id, "image outside the root")
    return record if is_there(record.image) else Excluded(str(record.image), MISSING)
