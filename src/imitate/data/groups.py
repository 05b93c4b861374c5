"""Groups of images by what a prepared folder says of the patient and of the image: sex, age in bands, scanner, ..."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from imitate.data.corpus import Corpus
from imitate.data.demographics import MOST
from imitate.data.stacked import by_piece
from imitate.errors import UserError

BANDS = (18, 40, 60, 80)  # years at which the next band of ages begins
UNKNOWN = "unknown"
LIGHT = ("sex", "age", "projection")
JOIN = "+"  # sex+age names an intersection


def group_values(
    data: Corpus, name: str, rows: Int[np.ndarray, " n"], *, bands: Sequence[float] = BANDS
) -> Shaped[np.ndarray, " n"]:
    """The group of each of these rows, ``unknown`` where the folder does not say; of sex+age, such as "F, 40-59".

    An intersection is unknown where one of its parts is. UserError: the folder has no such column, or it holds too many
    values for groups.
    """
    parts = [_values(data, part.strip(), rows, bands) for part in name.split(JOIN)]
    known = np.all([part != UNKNOWN for part in parts], axis=0)
    joined = np.array([", ".join(words) for words in zip(*parts, strict=True)], dtype=object)
    return np.where(known, joined, UNKNOWN).astype(np.str_)


def group_columns(data: Corpus) -> list[str]:
    """The columns that hold anything."""
    rows = np.arange(len(data))
    found = [name for name in LIGHT if any(value not in ("", None) for value in _cells(data, name, rows))]
    extra = {key for each in _extra(data, rows) for key, value in each if value}
    return [*found, *(["scanner"] if any(_cells(data, "scanner", rows)) else []), *sorted(extra)]


def band_names(bands: Sequence[float]) -> list[str]:
    """0-17, 18-39, ..., 80+."""
    if not bands or list(bands) != sorted(set(bands)) or bands[0] <= 0:
        given = " ".join(f"{each:g}" for each in bands)
        raise UserError(f"age bands {given}: give years in ascending order, above 0")
    starts = [0, *bands]
    closed = [f"{low:g}-{high - 1:g}" for low, high in pairwise(starts)]
    return [*closed, f"{starts[-1]:g}+"]


def _values(data: Corpus, name: str, rows: np.ndarray, bands: Sequence[float]) -> np.ndarray:
    cells = _cells(data, name, rows)
    if all(cell in ("", None) for cell in cells):
        known = ", ".join(group_columns(data)) or "none"
        raise UserError(f"{data.root} has no {name!r} for these images; their columns are: {known}")
    if name == "age":
        names = [*band_names(bands), UNKNOWN]
        ages = np.array([np.nan if cell is None else cell for cell in cells], float)
        return np.array(names, dtype=object)[np.where(np.isnan(ages), -1, np.searchsorted(bands, ages, "right"))]
    found = np.array([cell or UNKNOWN for cell in cells], dtype=object)
    if len(distinct := set(found)) > MOST:
        raise UserError(
            f"{data.root}: {name!r} has {len(distinct)} different values, more than {MOST}: groups need a column of "
            "categories, not numbers or free text"
        )
    return found


def _cells(data: Corpus, name: str, rows: np.ndarray) -> list[Any]:
    """Of a column; None or "" where it says nothing."""
    if name in LIGHT:
        column = data.table[name].iloc[rows].tolist() if name in data.table else [None] * len(rows)
        return [None if cell != cell else cell for cell in column]
    if name == "scanner":
        return _read(data, name, rows)
    return [next((value for key, value in pairs if key == name), "") for pairs in _extra(data, rows)]


def _extra(data: Corpus, rows: np.ndarray) -> list[list[tuple[str, str]]]:
    return [pairs or [] for pairs in _read(data, "extra", rows)]


def _read(data: Corpus, name: str, rows: np.ndarray) -> list[Any]:
    """A column that stays on disk; nothing of a folder of the first format, and of a corpus in memory."""
    if data.parts:
        ends = np.cumsum([len(part) for part in data.parts], dtype=np.int64)
        found: list[Any] = [None] * len(rows)
        for number, positions, local in by_piece(rows, ends):
            for position, cell in zip(positions, _read(data.parts[number], name, local), strict=True):
                found[position] = cell
        return found
    if data.columns is None or data.meta["format"] == 1 or not len(rows):
        return [None] * len(rows)
    return list(data.columns.take(name, rows).to_pylist())
