"""The columns of a bench's table: data sets x tasks x fractions of the training patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imitate.config import parse_settings
from imitate.data.corpus import Corpus
from imitate.errors import Lacking, UserError
from imitate.tasks import check_data, find_task
from imitate.tasks.base import Task
from imitate.tasks.evaluation import Evaluation, planned

YAML = (".yaml", ".yml")


@dataclass(frozen=True, eq=False)
class Column:
    """``what`` is a task or the path of a recipe; ``lacks`` says why the folder cannot be measured, "" where it can."""

    what: str
    plan: Evaluation
    task: Task
    data: Corpus
    name: str  # of the data
    fraction: float
    lacks: str = ""

    @property
    def title(self) -> str:
        """For a line of text."""
        what = Path(self.what).stem if _recipe(self.what) else self.what
        return f"{what} on {self.name}{'' if self.fraction == 1 else f' at {100 * self.fraction:g}%'}"


def columns(
    tasks: Sequence[str], data: Sequence[Path], *, fractions: Sequence[float] = (), settings: Sequence[str] = ()
) -> list[Column]:
    """Tasks in their order, of each the folders, of each the fractions from the smallest.

    Without ``fractions`` those of a recipe, or 1; a task that trains nothing has no others. ``settings`` are key=value
    for every task that knows the key, or task.key=value. UserError for mistakes.
    """
    for what, given in (("tasks: give some with --tasks", tasks), ("folders: give some with --data", data)):
        if not given:
            raise UserError(f"no {what}")
    corpora = _distinct([Corpus.open(path) for path in dict.fromkeys(data)])
    chosen = _settings(tuple(dict.fromkeys(tasks)), settings)
    return [
        column
        for what, own in chosen.items()
        for name, corpus in corpora.items()
        for column in _of_task(what, own, name, corpus, fractions)
    ]


def _recipe(what: str) -> Path | None:
    return Path(what) if what.endswith(YAML) else None


def _planned(what: str, settings: Mapping[str, Any], fraction: float | None = None) -> Evaluation:
    recipe = _recipe(what)
    return planned(None if recipe else what, recipe, mode=None, fraction=fraction, settings=dict(settings))


def _of_task(
    what: str, settings: Mapping[str, Any], name: str, data: Corpus, fractions: Sequence[float]
) -> list[Column]:
    whole = _planned(what, settings)
    found = []
    for fraction in sorted(set(fractions) if fractions and find_task(whole.task).trains else whole.fractions):
        plan, lacks = _planned(what, settings, fraction), ""
        task = plan.tasks()[fraction]
        try:
            plan = plan.on(data)
            check_data(task, data)
        except Lacking as error:
            lacks = str(error)
        found.append(Column(what, plan, task, data, name, fraction, lacks))
    return found


def _settings(tasks: Sequence[str], given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each task, those that are for it."""
    fields = {what: set(find_task(_planned(what, {}).task).model_fields) for what in tasks}
    found: dict[str, dict[str, Any]] = {what: {} for what in tasks}
    for key, value in parse_settings(tuple(given)).items():
        owner, dot, name = key.rpartition(".")
        owners = [what for what in tasks if owner in (what, Path(what).stem)]
        if dot and not owners:
            raise UserError(f"setting {key}: {owner} is not one of the tasks {', '.join(tasks)}")
        those = owners if dot else [what for what in tasks if name in fields[what]]
        if not those:
            every = ", ".join(tasks)
            raise UserError(f"setting {key}: none of {every} has it; imitate evaluate TASK --help lists settings")
        for what in those:
            found[what][name] = value
    return found


def _distinct(corpora: Sequence[Corpus]) -> dict[str, Corpus]:
    """By name, with the folder above where two have one; UserError where that does not distinguish them."""
    names = [each.name for each in corpora]
    longer = ["/".join(each.root.resolve().parts[-2:]) if names.count(each.name) > 1 else each.name for each in corpora]
    if len(set(longer)) < len(longer):
        raise UserError(f"two folders have the same name ({', '.join(longer)}): rename one")
    return dict(zip(longer, corpora, strict=True))
