"""What to measure, by flags or by a recipe: one row of a published table, with the values that stand in it."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, field_validator, model_validator

from imitate.config import Config, find_recipe, load_config, validate
from imitate.config.base import Where
from imitate.config.files import line_of
from imitate.data.corpus import Corpus
from imitate.errors import Lacking, UserError
from imitate.names import Mode, Resize, TaskName
from imitate.tasks import find_task
from imitate.tasks.base import Published, Task

log = logging.getLogger(__name__)
Place = Callable[[float, tuple[int | str, ...]], str]


class Folder(Config):
    """How the folder was prepared, and what the network sees of it; None where that does not matter."""

    source: str
    mode: Mode | None = None
    resize: Resize | None = None
    size: int | None = None
    input: int | None = None  # side of the network's input


class Evaluation(Config):
    """A recipe of ``recipes/downstream`` or ``recipes/benchx``."""

    task: TaskName
    mode: Mode = "clean"
    data: Folder | None = None  # None: any
    settings: dict[str, Any] = Field({})
    fractions: dict[float, dict[str, Any]] = Field({1.0: {}}, min_length=1)  # of the patients: its own settings
    sweep: dict[str, tuple[Any, ...]] = Field({})  # settings to try: the best on validation counts
    headline: str = ""  # the main metric, where it is not the task's own
    published: Published | None = None
    note: str = ""  # where nothing is quoted: in what this is not what was published

    @field_validator("task")
    @classmethod
    def _is_known(cls, name: str) -> str:
        return str(find_task(name).name)

    @model_validator(mode="after")
    def _is_possible(self) -> "Evaluation":
        if self.mode not in find_task(self.task).modes:
            raise ValueError(
                f"mode {self.mode} has no effect on {self.task}: omit it; publications differ in settings of the task "
                "(imitate evaluate TASK --help)"
            )
        for fraction in self.fractions:
            if not 0 < fraction <= 1:
                raise ValueError(f"a fraction must be in (0, 1], not {fraction:g}")
            if fraction < 1 and not find_task(self.task).trains:
                raise ValueError(f"{self.task} trains nothing, so a fraction of {fraction:g} has no effect: omit it")
        for key, values in self.sweep.items():
            if not values:
                raise ValueError(f"sweep: {key} has no values to try")
            if any(key in own for own in (self.settings, *self.fractions.values())):
                raise ValueError(f"sweep: {key} has a value as well: remove one of the two")
        return self

    def tasks(self, place: "Place | None" = None) -> dict[float, Task]:
        """By fraction, the smallest first. UserError for settings that the task does not know, with their ``place``."""
        kind = find_task(self.task)

        def where(fraction: float) -> Where:
            return lambda location: f"settings of {self.task}{place(fraction, location) if place else ''}"

        return {
            fraction: validate(kind, {**self.settings, **own}, where=where(fraction))
            for fraction, own in sorted(self.fractions.items())
        }

    def on(self, data: Corpus) -> "Evaluation":
        """Without its published values where the folder was prepared in another way. Lacking: another source."""
        if self.data is None:
            return self
        wanted = self.data.model_dump(exclude_none=True, exclude={"input"})
        source, found = wanted.pop("source"), data.meta.get("source")
        if source != found:
            raise Lacking(
                f"{data.root} holds {found}, but the recipe is for {source}: give a folder prepared from that source"
            )
        differ = [
            f"{key} {data.meta.get(key)}, not {value}" for key, value in wanted.items() if data.meta.get(key) != value
        ]
        return self.without_published(f"{data.root} has {'; '.join(differ)}") if differ else self

    def seen_at(self, image_size: int) -> "Evaluation":
        """Without its published values where the network sees images of another size."""
        wanted = self.data.input if self.data else None
        if wanted in (None, image_size):
            return self
        return self.without_published(f"the network sees images of {image_size} px, not {wanted}")

    def without_published(self, why: str) -> "Evaluation":
        if self.published is not None:
            log.warning("%s: the published values are omitted", why)
        return self.model_copy(update={"published": None})


def planned(
    task: str | None,
    recipe: Path | None,
    *,
    mode: Mode | None,
    fraction: float | None,
    settings: dict[str, Any],
    sweep: Mapping[str, Any] = MappingProxyType({}),
) -> Evaluation:
    """The recipe's evaluation, or the task's, with the flags that are given in place of what it says.

    Published values stay only where no flag changes what the recipe says.
    """
    if recipe is not None:
        plan = load_config(Evaluation, recipe)
        if task not in (None, plan.task):
            raise UserError(f"{recipe} measures {plan.task}, not {task}: omit one of the two")
    elif task is not None:
        plan = validate(Evaluation, {"task": task}, where="imitate evaluate")
    else:
        raise UserError("nothing to measure: name a TASK, or a --recipe such as recipes/downstream/rsna_linear.yaml")
    fractions = plan.fractions if fraction is None else {fraction: plan.fractions.get(fraction, {})}
    if both := sorted(settings.keys() & sweep.keys()):
        raise UserError(f"{both[0]} has a value and is swept: remove one of the two")
    fixed = {key: value for key, value in plan.settings.items() if key not in sweep}
    changed = {
        "mode": mode or plan.mode,
        "settings": fixed,
        "fractions": {
            fraction: {key: value for key, value in {**own, **settings}.items() if key not in sweep}
            for fraction, own in fractions.items()
        },
        "sweep": {key: value for key, value in {**plan.sweep, **sweep}.items() if key in sweep or key not in settings},
    }
    found = validate(Evaluation, {**plan.model_dump(), **changed}, where=str(recipe or plan.task))
    if recipe is not None:
        file = find_recipe(recipe)

        def place(fraction: float, key: tuple[int | str, ...]) -> str:
            if not key or key[0] in settings:
                return ""
            section = ("fractions", str(fraction)) if key[0] in plan.fractions.get(fraction, {}) else ("settings",)
            return f" in {recipe}{line_of(file, (*section, *key))}"

        found.tasks(place)  # a mistake is said with its line
    differ = _changes(plan, found)
    return found.without_published("; ".join(differ)) if differ else found


def _changes(plan: Evaluation, found: Evaluation) -> list[str]:
    """What flags changed of a recipe."""
    differ = [] if found.mode == plan.mode else [f"mode {found.mode}, not {plan.mode}"]
    differ += [] if found.sweep == plan.sweep else ["a different sweep"]
    before = plan.tasks()
    for fraction, task in found.tasks().items():
        if fraction not in before:
            differ.append(f"a fraction of {fraction:g}")
            continue
        old, new = before[fraction].model_dump(), task.model_dump()
        differ += [f"{key} {new[key]}, not {old[key]}" for key in new if new[key] != old[key]]
    return list(dict.fromkeys(differ))
