"""Looking into a raw tree: its files, its label columns, its images."""

import errno
import os
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from imitate.data.prepared import Dropped, Record
from imitate.types import UserError

MISSING = "missing file"  # the reason of a record whose image is not there


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
    """Whether a path that a table told stays in ``root`` as it is written; links in the tree are the owner's own."""
    whole, start = (Path(os.path.abspath(each)) for each in (path, root))  # noqa: PTH100 (resolve follows links)
    return whole.is_relative_to(start)


def is_there(path: Path) -> bool:
    """Whether it is a file; one that permissions hide counts, so that reading it tells."""
    try:
        return path.is_file()
    except PermissionError:
        return True
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def present(record: Record, *, root: Path) -> Record | Dropped:
    """The record, or why it is left out where its image file is not there or not below ``root``."""
    if not is_below(record.image, root):
        return Dropped(record.image_id, "image outside the root")
    return record if is_there(record.image) else Dropped(str(record.image), MISSING)
