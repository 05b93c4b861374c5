"""A sweep: settings that are tried one after the other, of which those with the best validation metric count."""

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from imitate.config import validate
from imitate.errors import UserError
from imitate.names import Mode
from imitate.tasks.base import Task, Tried

log = logging.getLogger(__name__)


def candidates(task: Task, sweep: Mapping[str, Sequence[Any]], mode: Mode) -> list[dict[str, Any]]:
    """Every combination of the values, as the task takes them; [] of no sweep.

    UserError: a setting that the task does not have, that has no effect in this mode, or that says what is measured,
    on the test or on the validation images.
    """
    effective = task.used(mode, image_size=224) if task.trains else {}
    can_be = effective.keys() - task.measuring - task.judging
    for key in sweep:
        if key not in can_be:
            can = ", ".join(sorted(can_be)) or "nothing"
            raise UserError(f"sweep: {key} cannot be tried in {task.name} in mode {mode}; you can try {can}")
    found = []
    for values in product(*sweep.values()) if sweep else ():
        asked = dict(zip(sweep, values, strict=True))
        chosen = validate(type(task), {**task.model_dump(), **asked}, where=f"sweep of {task.name}")
        found.append({key: getattr(chosen, key) for key in sweep})
    return found


def best_first(tried: Sequence[Tried]) -> list[Tried]:
    """Of equal metrics the earlier one. UserError: no fit had a finite metric."""
    ordered = sorted(tried, key=lambda each: math.inf if each.validation is None else each.validation)
    if ordered[0].validation is None:
        raise UserError(
            "no fit of the sweep had a finite validation value: try lower learning rates or smaller batches"
        )
    return ordered


def warn_of_ends(sweep: Mapping[str, Sequence[Any]], chosen: Mapping[str, Any]) -> None:
    """Of numbers, where one beyond the list might be better."""
    for key, value in chosen.items():
        try:
            numbers = [float(each) for each in sweep[key]]
        except (TypeError, ValueError):  # words, lists, or none
            continue
        if len(numbers) > 2 and float(value) in (min(numbers), max(numbers)):
            log.warning("the best %s, %g, is the smallest or largest of the sweep", key, value)


def taken(fits: Sequence[Sequence[Tried]]) -> dict[str, Any]:
    """The values that count: one where every fit chose the same, else those of each fit."""
    found = {}
    for key in fits[0][0].settings if fits and fits[0] else ():
        values = [tried[0].settings[key] for tried in fits]
        found[key] = values[0] if all(value == values[0] for value in values) else values
    return found
