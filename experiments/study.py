"""A study: methods that differ in settings, the seeds of each, and the tasks that measure them."""

import json
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from imitate.config import Config, load_config
from imitate.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
FOLD = "{fold}"  # in the names of data sets, of which a study takes one at a time


class Measure(Config):
    """A task on a data set."""

    task: str
    data: str
    settings: dict[str, Any] = Field({})
    fractions: tuple[float, ...] = (1.0,)
    optional: bool = False  # measured only of the methods that name it
    tested: bool = True  # against the reference; False: only reported


class Method(Config):
    """Without training it is ``random`` (the recipe's network, a seed a run) or ``pixels``."""

    settings: dict[str, Any] = Field({})  # over the recipe's
    train: tuple[str, ...] = ()  # the data sets to pre-train on, where they are not the study's
    model: Literal["run", "random", "pixels"] = "run"
    tasks: tuple[str, ...] | None = None  # None: all that are not optional


class Stage(Config):
    """Methods that are run together, seed by seed. The paired tests of one family share a Holm correction."""

    family: str
    methods: dict[str, Method]
    reference: str | None = None  # of its tests; None: the study's
    against: tuple[str, ...] = ()  # methods of other stages that its tests include


class Study(Config):
    recipe: Path
    train: str  # the data set to pre-train on
    data: dict[str, dict[str, Any]]  # name: source and options of `imitate prepare`, or {folds-of: NAME} (folds.py)
    tasks: dict[str, Measure]
    stages: tuple[Stage, ...]
    seeds: int = 3
    reference: str = "IMITATE"
    keep_predictions: bool = False  # beside the results, for small studies on synthetic data only
    runs: str = ""  # they are in WORK/RUNS, where other studies have methods of the same names with other settings
    resamples: int = 0  # of the main metrics that are tested, kept for paired tests; 0: tests need the predictions

    def of_fold(self, number: int) -> "Study":
        """With the number in the place of ``{fold}``, in the names of data sets."""

        def named(name: str) -> str:
            return name.replace(FOLD, str(number))

        tasks = {name: task.model_copy(update={"data": named(task.data)}) for name, task in self.tasks.items()}
        data = {named(name): options for name, options in self.data.items()}
        return self.model_copy(update={"train": named(self.train), "data": data, "tasks": tasks})

    @property
    def in_folds(self) -> bool:
        return FOLD in self.train

    @property
    def methods(self) -> dict[str, Method]:
        return {name: method for stage in self.stages for name, method in stage.methods.items()}

    @property
    def families(self) -> dict[str, str]:
        return {name: stage.family for stage in self.stages for name in stage.methods}

    @property
    def comparisons(self) -> dict[str, list[str]]:
        """Of each family the methods that are tested, the reference first."""
        found: dict[str, list[str]] = {}
        for stage in self.stages:
            names = found.setdefault(stage.family, [stage.reference or self.reference])
            names += [name for name in (*stage.against, *stage.methods) if name not in names]
        return found

    def made_of(self, data: str) -> dict[str, Any]:
        """The options of a data set; of folds also those of the folder that they divide."""
        options = self.data[data]
        return {**options, "whole": self.data[options["folds-of"]]} if "folds-of" in options else options

    def trained_on(self, method: str) -> tuple[str, ...]:
        return self.methods[method].train or (self.train,)

    def cells(self, method: str) -> list["Cell"]:
        """What is measured of a method."""
        return [
            Cell(method, name, fraction) for name in self.tasks_of(method) for fraction in self.tasks[name].fractions
        ]

    def tasks_of(self, method: str) -> list[str]:
        chosen = self.methods[method].tasks
        return [name for name, each in self.tasks.items() if not each.optional] if chosen is None else list(chosen)


class Cell(NamedTuple):
    """One measurement: a method on a task of the study, fitted on a fraction of the training patients."""

    method: str
    task: str
    fraction: float = 1.0

    @property
    def file(self) -> str:
        """Of its results in the work folder."""
        fraction = "" if self.fraction == 1 else f"-{100 * self.fraction:g}"
        return f"{slug(self.method)}--{self.task}{fraction}.json"


def load_study(path: Path) -> Study:
    """UserError where a name is used that the study does not define, or twice."""
    study = load_config(Study, path)
    names = [name for stage in study.stages for name in stage.methods]
    if twice := {name for name in names if [slug(each) for each in names].count(slug(name)) > 1}:
        raise UserError(f"{path}: methods {', '.join(sorted(twice))} share a name: give each its own")
    used = {
        "data set": {
            study.train,
            *(each.data for each in study.tasks.values()),
            *(name for method in study.methods.values() for name in method.train),
        }
        - study.data.keys(),
        "task": {task for method in study.methods.values() for task in method.tasks or ()} - study.tasks.keys(),
        "method": {study.reference, *(name for names in study.comparisons.values() for name in names)}
        - study.methods.keys(),
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
