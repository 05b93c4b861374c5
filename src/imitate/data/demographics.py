"""Who is in an image: sex, age and further columns of a source in one spelling, and counts of how they were written.

A kind says how a value was written, such as "age: nnnY". Kinds are counted, so that no value stands in them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imitate.data.words import folded, is_nothing
from imitate.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from imitate.data.records import Record

SEXES = {
    "F": ("f", "female", "w", "woman", "weiblich", "frau", "femme", "feminin", "femenino", "feminino", "mujer",
          "mulher", "hembra", "femmina", "donna", "vrouw", "kvinna", "kvinne", "kvinde", "kobieta"),
    "M": ("m", "male", "man", "mannlich", "maennlich", "mann", "homme", "masculin", "masculino", "hombre", "homem",
          "varon", "maschio", "uomo", "mand"),
    "O": ("o", "other", "x", "d", "divers", "diverse", "intersex", "non-binary", "nonbinary"),
    "": ("u", "unk", "unknown", "unbekannt", "inconnu", "desconocido", "not reported", "undisclosed"),
}  # fmt: skip
_SEXES = {word: sex for sex, words in SEXES.items() for word in words}
OLDEST = 120  # years
MOST = 50  # values of a column of groups
UNITS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_AGE = re.compile(r"(-?\d+(?:[.,]\d+)?) ?([YMWD]?)", re.IGNORECASE)
_WORDED = re.compile(r"(\d+(?:[.,]\d+)?) ?-?(year|yr|jahr|month|monat|week|woche|day|tag)\w*(?: old)?", re.IGNORECASE)
_WORDS = {"year": "Y", "yr": "Y", "jahr": "Y", "month": "M", "monat": "M", "week": "W", "woche": "W", "day": "D",
          "tag": "D"}  # fmt: skip
_RANGE = re.compile(r"(\d+) ?(?:-|–|to) ?(\d+)")
_LEAST = re.compile(r"(?:>=?|≥|over) ?(\d+)|(\d+) ?(?:\+|(?:and|or) (?:over|older|more|above))")
RACES = {  # the first of whose words a race begins with; all others are Other
    "White": ("white",),
    "Black": ("black", "african"),
    "Asian": ("asian",),
    "Hispanic": ("hispanic", "latino"),
}
UNKNOWN_RACES = ("unknown", "unable to obtain", "patient declined", "declined", "patient refused", "refused",
                 "race and ethnicity unknown", "not reported")  # fmt: skip


_ABSENT = object()


def demographics(
    *, sex: object = _ABSENT, age: object = _ABSENT, scanner: object = "", **extra: object
) -> dict[str, Any]:
    """These fields of a ``Record``, from the cells of a table: ``Record(..., **demographics(sex=cell, age=cell))``.

    ``sex`` or ``age`` that is given, be it None, is a column that the source has. Other keywords than these three
    become entries of ``extra``, such as race, ethnicity, insurance, site.
    """
    kinds = []
    fields: dict[str, Any] = {}
    if sex is not _ABSENT:
        fields["sex"], kind = read_sex(sex)
        kinds.append(f"sex: {kind}")
    if age is not _ABSENT:
        fields["age"], kind = read_age(age)
        kinds.append(f"age: {kind}")
    if text := as_category(scanner):
        fields["scanner"] = text
    found = {name: text for name, cell in extra.items() if (text := as_category(cell))}
    return {**fields, "extra": found, "originals": tuple(kinds)}


def persons(table: pd.DataFrame, columns: Mapping[str, str]) -> list[dict[str, object]]:
    """Of each row what ``demographics`` takes; ``columns`` map those of the table, where it has them, to names."""
    found: list[dict[str, object]] = [{} for _ in range(len(table))]
    for column, name in columns.items():
        if column in table:
            for person, cell in zip(found, table[column], strict=True):
                person[name] = cell
    return found


def read_sex(cell: object) -> tuple[str, str]:
    """F, M, O, or empty where unknown or unreadable; and its kind, the word as it was written."""
    text = as_category(cell)
    if not text:
        return "", "blank"
    word = folded(text).rstrip(".")
    return (_SEXES[word], word) if word in _SEXES else ("", "unreadable")


def read_age(cell: object) -> tuple[float | None, str]:
    """Years, and the kind of the cell: 60, 060Y, 3M, 2W, 10D, 6 months, 40-44 (its middle), 90+ or >89 (its limit).

    None for an age below 0 or above 120, and for 0 in any unit: archives write it for an age that nobody knows.
    """
    text = as_category(cell)
    if not text:
        return None, "blank"
    years, kind = _years(" ".join(text.split()))
    if years is None:
        return None, "unreadable"
    if not 0 <= years <= OLDEST:
        return None, "impossible"
    return (round(years, 4), kind) if years else (None, "zero")


def _years(text: str) -> tuple[float | None, str]:
    if found := _AGE.fullmatch(text) or _WORDED.fullmatch(text):
        unit = _WORDS.get(found[2].lower(), found[2].upper())
        return float(found[1].replace(",", ".")) * UNITS[unit or "Y"], f"nnn{unit}"
    if found := _RANGE.fullmatch(text):
        return (float(found[1]) + float(found[2])) / 2, "range"
    if found := _LEAST.fullmatch(text.lower()):
        return float(found[1] or found[2]), "limit"
    return None, ""


def as_category(cell: object) -> str:
    """The text of a cell without the spaces around it; empty for a blank, NaN, and a database's word for nothing."""
    text = "" if cell is None or cell != cell else str(cell).strip()
    return "" if is_nothing(text) else text


def race_group(cells: Iterable[object]) -> str:
    """White, Black, Asian, Hispanic or Other, where all that were recorded and not unknown agree; else empty.

    A race belongs to the group with whose word it begins: "WHITE - RUSSIAN" is White, "PORTUGUESE" is Other.
    """
    words = {folded(text.partition(",")[0]) for cell in cells if (text := as_category(cell))}
    groups = {_race(word) for word in words if not word.startswith(UNKNOWN_RACES)}
    return groups.pop() if len(groups) == 1 else ""


def _race(word: str) -> str:
    return next((group for group, starts in RACES.items() if word.startswith(starts)), "Other")


HEADERS = {  # an element of a DICOM header -> what it is here
    "PatientSex": "sex",
    "PatientAge": "age",
    "EthnicGroup": "ethnicity",
    "Manufacturer": "scanner",
    "ManufacturerModelName": "model",
    "DetectorType": "detector",
    "StationName": "station",
    "InstitutionName": "site",
    "ViewPosition": "projection",
}
"""No other element is read: the others may name a person, or identify one."""


def with_header(record: Record, header: Mapping[str, str] | None) -> Record:
    """The record with what its header says where the tables say nothing; ``originals`` are those of the header."""
    if header is None:
        return replace(record, originals=("file: no DICOM",))
    cells = {HEADERS[keyword]: value for keyword, value in header.items()}
    projection = cells.pop("projection", "")
    found = demographics(**cells)
    extra = {**found.pop("extra"), **record.extra}
    own = {name: value for name in ("sex", "age", "scanner") if (value := getattr(record, name)) not in ("", None)}
    return replace(record, **{**found, **own, "extra": extra, "projection": record.projection or projection})


def require_categories(columns: Mapping[str, pd.Series], path: Path) -> None:
    """UserError where a column, the age aside, holds too many different values for groups, as free text does."""
    for name, cells in columns.items():
        distinct = len({as_category(cell) for cell in cells.unique()} - {""})
        if name != "age" and distinct > MOST:
            raise UserError(
                f"{path}: group column {cells.name!r} holds {distinct} different values, more than {MOST}: a group "
                "column holds categories, not numbers or free text; remove it"
            )


def counted(kinds: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Kinds by their column: {"age: nnnY": 3} becomes {"age": {"nnnY": 3}}."""
    found: dict[str, dict[str, int]] = {}
    for name, count in sorted(kinds.items()):
        column, _, kind = name.partition(": ")
        found.setdefault(column, {})[kind] = count
    return found


class Values:
    """How often each value of each column occurs, for ``index.json``; of a column with many values, how many."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def add(self, columns: Mapping[str, list[Any]]) -> None:
        """``sex``, ``age``, ``scanner`` and ``extra`` of some rows."""
        for name in ("sex", "scanner"):
            self._counts.setdefault(name, Counter()).update(each or "" for each in columns[name])
        ages = ("known" if age is not None else "" for age in columns["age"])
        self._counts.setdefault("age", Counter()).update(ages)
        for pairs in columns["extra"]:
            for name, value in pairs or ():
                self._counts.setdefault(name, Counter())[value] += 1

    def as_dict(self, images: int) -> dict[str, dict[str, int]]:
        """Without the columns that hold nothing."""
        found = {}
        for name, counts in self._counts.items():
            known = {value: count for value, count in sorted(counts.items()) if value}
            if not known:
                continue
            missing = images - sum(known.values())
            if len(known) > MOST:
                known = {f"({len(known)} values)": sum(known.values())}
            found[name] = known | ({"missing": missing} if missing else {})
        return found
