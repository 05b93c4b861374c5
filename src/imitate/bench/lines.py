"""The lines of a bench's table: models, of which several runs of one recipe are the seeds of one."""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from imitate.config import read_yaml
from imitate.errors import UserError
from imitate.inference.encoder import TIMM, WORDS
from imitate.models.hub import HUB, is_ours, unfinished
from imitate.models.peers import IMPORTED
from imitate.tasks.record import called

log = logging.getLogger(__name__)
DEEP = 3  # folders within folders in which runs are looked for, as in STUDY/METHOD/SEED


class Line(NamedTuple):
    """``models`` are the seeds of one method, ``like`` the architecture of those without one."""

    name: str
    models: tuple[str, ...]
    like: str | None = None


class Model(NamedTuple):
    """``method`` is what the seeds of one line have in common."""

    name: str
    path: str
    method: str
    seed: Any = None


def lines(given: Sequence[str], *, like: str | None = None) -> list[Line]:
    """In the order in which they are given. A folder of runs stands for all of them.

    ``NAME=MODEL`` names a line; models of one NAME are its seeds. Without NAME, runs whose recipes differ in the seed
    alone are one line. ``random`` and ``imagenet`` have by default the architecture of the first run.
    UserError where two lines would have one name.
    """
    named = [each for word in given for each in _named(word)]
    if not named:
        raise UserError("no models: give runs, folders of runs, published encoders or random")
    groups: list[list[Model]] = []
    for model in dict.fromkeys(named):
        mine = (each for each in groups if each[0].method == model.method and (each[0].name or _is_new(model, each)))
        if (group := next(mine, None)) is None:
            groups.append([model])
        else:
            group.append(model)
    first = next((each.path for each in named if is_ours(Path(each.path))), None)
    found = []
    for group in groups:
        models = tuple(each.path for each in group)
        untrained = models[0] in ("random", "imagenet")
        found.append(Line(group[0].name or _called(models), models, like or (first if untrained else None)))
    return _distinct(found)


def _named(word: str) -> Iterator[Model]:
    """Each model that a word of the command line stands for."""
    name, equals, path = ("", "", word) if Path(word).exists() else _split(word)
    if not path or (equals and not name):
        raise UserError(f"{word!r} is not a model: write MODEL or NAME=MODEL")
    folder = Path(path)
    below: list[Path] = []
    if not _is_word(path) and folder.is_dir() and not (_is_model(folder) or _is_run(folder)):
        below = list(_within(folder, DEEP))
    for each in map(str, below) if below else [path]:
        yield Model(name, each, f"name {name}") if name else Model("", each, *_method(each))


def _split(word: str) -> tuple[str, str, str]:
    """At the first = that has a path behind it, since a path may hold others; else at the last."""
    parts = word.split("=")
    for number in range(1, len(parts)):
        if (path := "=".join(parts[number:])) and Path(path).exists():
            return "=".join(parts[:number]), "=", path
    return word.rpartition("=")


def _within(folder: Path, deep: int) -> Iterator[Path]:
    """The finished runs, exported and imported models below a folder, by name, numbers by their value."""
    for each in sorted((path for path in folder.iterdir() if path.is_dir()), key=_order):
        if _is_model(each) and not unfinished(each):
            yield each
        elif _is_run(each):
            log.warning("%s is excluded: the run is not finished", each)
        elif deep > 1:
            yield from _within(each, deep - 1)


def _is_model(path: Path) -> bool:
    return is_ours(path) or (path / IMPORTED).is_file()


def _is_run(path: Path) -> bool:
    """Finished or not; what lies within one that is not, such as best/, is not its result."""
    return (path / "config.yaml").is_file()


def _order(path: Path) -> tuple[int, int, str]:
    return (0, int(path.name), "") if path.name.isdecimal() else (1, 0, path.name)


def _is_word(model: str) -> bool:
    return model in WORDS or model.startswith((TIMM, HUB))


def _method(model: str) -> tuple[str, Any]:
    """Of a run its recipe without the seed, and the seed."""
    file = Path(model) / "config.yaml"
    if not (is_ours(Path(model)) and file.is_file()):
        return f"model {model}", None
    recipe = read_yaml(file, holds="this run's settings")
    seed = recipe.get("training", {}).pop("seed", None)
    return json.dumps(recipe, sort_keys=True, default=str), seed


def _is_new(model: Model, seeds: Sequence[Model]) -> bool:
    """Two runs of one recipe and one seed are two methods, of two versions of the code."""
    return model.seed not in [each.seed for each in seeds]


def _called(models: Sequence[str]) -> str:
    """As ``imitate evaluate`` calls it; of several names what they begin with, such as ours of ours-1 and ours-2."""
    plain = [each if _is_word(each) else Path(each).stem for each in models]
    name = called(models, plain)
    if " + " not in name:
        return name
    common = re.sub(r"([-_. ]?(seed|s|run))?[-_. ]*$", "", _beginning(name.split(" + ")))
    return common or name


def _beginning(names: Sequence[str]) -> str:
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(min(names), max(names), strict=False))
    return "".join(letter for letter, _ in alike)


def _distinct(found: list[Line]) -> list[Line]:
    """With the folder above before names that are used twice."""
    names = [line.name for line in found]
    longer = [
        line._replace(name="/".join(Path(line.models[0]).resolve().parts[-2:])) if names.count(line.name) > 1 else line
        for line in found
    ]
    names = [line.name.casefold() for line in longer]
    if twice := {line.name: line.models[0] for line in longer if names.count(line.name.casefold()) > 1}:
        raise UserError(f"{', '.join(twice.values())} would have the same name in the table: write NAME=MODEL for each")
    return longer
