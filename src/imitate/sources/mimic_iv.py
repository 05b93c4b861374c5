"""The patients of MIMIC-CXR in the tables of MIMIC-IV: ``hosp/patients`` and ``hosp/admissions``, as csv or csv.gz."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from imitate.data.demographics import as_category, demographics, race_group
from imitate.data.tables import newest_table, read_table
from imitate.errors import UserError

OVER_89 = 91  # what MIMIC-IV writes for all of them


class _Person(NamedTuple):
    sex: str
    age: float | None  # in ``year``
    year: float | None
    races: list[str]  # of the admissions
    insurances: list[tuple[str, str]]  # the day of an admission as yyyymmdd, what paid; in their order


class People:
    """Nobody, where the tables are not there."""

    def __init__(self, people: dict[str, _Person] | None = None) -> None:
        self.people = people

    def fields(self, subject: str, day: object) -> dict[str, Any]:
        """The fields of a record of a study on this day (StudyDate, yyyymmdd).

        ``race`` is a group where all admissions agree, ``race_recorded`` what they say. ``insurance`` is that of the
        last admission up to the study, else of the first one after it. Over 89, the age stays the 91 of the tables.
        """
        if self.people is None:
            return {}
        person = self.people.get(subject)
        if person is None:
            return demographics(sex=None, age=None)
        date = as_category(day).partition(".")[0]
        age: object = person.age
        if person.age == OVER_89:
            age = f"{OVER_89}+"
        elif person.age and person.year and date[:4].isdecimal():
            age = person.age + int(date[:4]) - person.year
        elif person.age:
            age = None
        place = max(0, bisect_right(person.insurances, (date, "\uffff")) - 1)
        return demographics(
            sex=person.sex,
            age=age,
            race=race_group(person.races),
            race_recorded="; ".join(sorted(set(person.races))),
            insurance=person.insurances[place][1] if person.insurances else "",
        )


def read_people(raw: Path, given: Path | None) -> People:
    """From ``given``, else from ``raw`` or its ``hosp`` where the tables are there."""
    places = (given, given / "hosp") if given else (raw, raw / "hosp")
    folder = next((place for place in places if newest_table(place, "patients")), None)
    if folder is None:
        if given:
            raise UserError(f"no patients.csv.gz in {given} or its hosp: give the folder of MIMIC-IV's tables")
        return People()
    path = newest_table(folder, "patients")
    assert path is not None
    columns = ["subject_id", "gender", "anchor_age", "anchor_year"]
    table = read_table(path, columns, optional=(), text=True)
    people = {}
    for subject, sex, age, year in table[columns].itertuples(index=False, name=None):
        people[str(subject)] = _Person(as_category(sex), _number(age), _number(year), [], [])
    for subject, day, race, insurance in _admissions(folder):
        if subject in people:
            people[subject].races.extend([race] if race else [])
            people[subject].insurances.extend([(day, insurance)] if insurance else [])
    return People(people)


def _admissions(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Subject, day, race, insurance, in the order of the days."""
    path = newest_table(folder, "admissions")
    if path is None:
        return
    columns = ["subject_id", "admittime"]
    table = read_table(path, columns, optional=["race", "ethnicity", "insurance"], text=True)
    table["race"] = table["race"] if "race" in table else table.get("ethnicity", "")  # its name up to version 1.0
    table["insurance"] = table.get("insurance", "")
    for row in table.sort_values("admittime")[[*columns, "race", "insurance"]].itertuples(index=False, name=None):
        subject, time, race, insurance = map(as_category, row)
        yield subject, time[:10].replace("-", ""), race, insurance


def _number(cell: object) -> float | None:
    text = as_category(cell)
    return float(text) if text.replace(".", "", 1).isdecimal() else None
