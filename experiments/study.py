"""A study: rows that differ in settings, the seeds of each, and the tasks that measure them."""

import json
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from imitate.config import Config, load_config
from imitate.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


class Measure(Config):
    """A task on a data set."""

    task: str
    data: str
    settings: dict[str, Any] = Field({})
    fractions: tuple[float, ...] = (1.0,)
    optional: bool = False  # measured only of the rows that name it


class Row(Config):
    """A method. Without training it is ``random`` (the recipe's network, a seed a run) or ``pixels``."""

    settings: dict[str, Any] = Field({})  # over the recipe's
    model: Literal["run", "random", "pixels"] = "run"
    tasks: tuple[str, ...] | None = None  # None: all that are not optional


class Stage(Config):
    """Rows that are run together, seed by seed. The paired tests of one family share a Holm correction."""

    family: str
    rows: dict[str, Row]


class Study(Config):
    recipe: Path
    train: str  # the data set to pre-train on
    data: dict[str, dict[str, Any]]  # name: source and options of `imitate prepare`
    tasks: dict[str, Measure]
    stages: tuple[Stage, ...]
    seeds: int = 3
    reference: str = "IMITATE"

    @property
    def rows(self) -> dict[str, Row]:
        return {name: row for stage in self.stages for name, row in stage.rows.items()}

    def measures(self, row: Row) -> dict[str, Measure]:
        names = [name for name, each in self.tasks.items() if not each.optional] if row.tasks is None else row.tasks
        return {name: self.tasks[name] for name in names}


class Cell(NamedTuple):
    """One results file."""

    row: str
    measure: str
    fraction: float

    @property
    def file(self) -> str:
        share = "" if self.fraction == 1 else f"-{100 * self.fraction:g}"
        return f"{slug(self.row)}--{self.measure}{share}.json"


def load_study(path: Path) -> Study:
    """UserError where a name is used that the study does not define, or twice."""
    study = load_config(Study, path)
    names = [name for stage in study.stages for name in stage.rows]
    if twice := {name for name in names if [slug(each) for each in names].count(slug(name)) > 1}:
        raise UserError(f"{path}: rows {', '.join(sorted(twice))} share a name: give each its own")
    used = {
        "data set": {study.train, *(each.data for each in study.tasks.values())} - study.data.keys(),
        "task": {task for row in study.rows.values() for task in row.tasks or ()} - study.tasks.keys(),
        "row": {study.reference} - study.rows.keys(),
    }
    for kind, missing in used.items():
        if missing:
            raise UserError(f"{path}: {kind} {', '.join(sorted(missing))} is used but not defined")
    return study


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def flags(settings: dict[str, Any]) -> list[str]:
    """``--settings key=value ...`` as the command line reads it."""
    return ["--settings", *(f"{key}={json.dumps(value)}" for key, value in settings.items())] if settings else []
