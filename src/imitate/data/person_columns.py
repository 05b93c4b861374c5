"""Columns of sexes and ages in a user's own table: what one cell means depends on what the others hold."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imitate.data.demographics import as_category, read_age, read_sex, require_categories
from imitate.data.words import folded
from imitate.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
PAIRS = {  # two letters that say together what each of them means: M is a woman beside H
    frozenset("hm"): {"h": "hombre", "m": "mujer"},
    frozenset("hv"): {"h": "hembra", "v": "varon"},
    frozenset("hf"): {"h": "homme", "f": "femme"},
    frozenset("km"): {"k": "kvinna", "m": "man"},
}
NEITHER = frozenset("oxu")  # other and unknown
LATEST = {"M": 36, "W": 52}  # the oldest in months and weeks, where nobody's age is in years
MOST_IMPOSSIBLE, UNKNOWN_AGE = 0.05, 999
_MONTHS = re.compile("month|monat|mois|meses|mesi|week|woche|semaine|semana|settiman")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_UNIT = re.compile(r"(\d+) ?([a-z])", re.IGNORECASE)


def spell_out_groups(table: pd.DataFrame, groups: Mapping[str, str], path: Path) -> None:
    """Check the columns of ``groups`` (sex, age, ... -> column), and write sexes as ``spelled_out``, in place."""
    require_categories({name: table[column] for name, column in groups.items()}, path)
    if "sex" in groups:
        table[groups["sex"]] = spelled_out(table[groups["sex"]], path)
    if "age" in groups:
        require_years(table[groups["age"]], path)


def spelled_out(cells: pd.Series, path: Path) -> pd.Series:
    """Sexes with a word for a letter that other letters of the column explain.

    UserError: M or F occurs together with a letter that leaves its meaning open, such as V (*varón* or *vrouw*).
    """
    given = {cell: folded(as_category(cell)).rstrip(".") for cell in cells.unique()}
    letters = frozenset(word for word in given.values() if len(word) == 1 and word.isalpha())
    pair = letters - NEITHER
    explained = PAIRS.get(pair, {})
    plain = pair <= {"m"} or pair <= {"f", "w"} or ("m" in pair and bool(pair & {"f", "w"}) and "h" not in pair)
    if not explained and not plain and pair & {"m", "f", "w", "d"}:
        raise UserError(
            f"{path}: sex column {cells.name!r} holds the letters {', '.join(sorted(pair)).upper()}, whose meaning "
            "depends on the language: write F and M, or whole words"
        )
    words = {cell: explained.get(word, cell) for cell, word in given.items()}
    found = cells.map(lambda cell: words.get(cell, cell))
    unread = [read_sex(cell)[1] == "unreadable" for cell in found]
    _say_unread(unread, cells, path, "a sex: write F, M or O")
    return found


def require_years(cells: pd.Series, path: Path) -> None:
    """UserError where a column of ages is in other units than it seems, or holds sexes or years of birth."""
    texts = [as_category(cell) for cell in cells]
    numbers = [float(text.replace(",", ".")) for text in texts if _NUMBER.fullmatch(text)]
    units = [(int(found[1]), found[2].upper()) for text in texts if (found := _UNIT.fullmatch(text))]
    letters = {unit for _, unit in units}
    late = [f"{number}{unit}" for number, unit in units if number > LATEST.get(unit, number)]
    if letters & LATEST.keys() and (letters - set("YMWD") or ("Y" not in letters and late)):
        shown = late[0] if late else next(f"{number}{unit}" for number, unit in units if unit in LATEST)
        raise UserError(
            f"{path}: age column {cells.name!r} holds {shown!r}: is the letter a unit or a sex? Write years as numbers"
        )
    impossible = [number for number in numbers if number > 120 and number != UNKNOWN_AGE]
    if len(impossible) > MOST_IMPOSSIBLE * len(numbers) or (numbers and _MONTHS.search(folded(str(cells.name)))):
        first = (impossible or numbers)[0]
        raise UserError(
            f"{path}: age column {cells.name!r} holds {first:g}, not an age in years: write years, or 6M, 2W, 10D"
        )
    _say_unread([read_age(cell)[1] in ("unreadable", "impossible") for cell in cells], cells, path, "an age")


def _say_unread(unread: list[bool], cells: pd.Series, path: Path, what: str) -> None:
    if count := sum(unread):
        said = "%s: %d cells of column %r, the first in row %d, are unknown, since they are not %s"
        log.warning(said, path.name, count, cells.name, unread.index(True) + 1, what)
