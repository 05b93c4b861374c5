"""What is known of a run before any process is started: its recipe, its data and their order."""

import logging
import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from imitate.config import Recipe
from imitate.data.corpus import Corpus
from imitate.data.overlap import without_held_out
from imitate.data.sampler import BatchSampler, training_rows
from imitate.errors import UserError
from imitate.inference.label_texts import with_label_texts
from imitate.names import SECTIONS
from imitate.training.objectives import find_objective

log = logging.getLogger(__name__)


class Plan(NamedTuple):
    """What is known before any process is started, so that mistakes end none that waits."""

    recipe: Recipe
    data: Corpus
    order: BatchSampler
    recorded: dict[str, Any]  # of the data
    changes: Collection[str]  # keys of the recipe with which a run may continue


def check_weights(weights: tuple[float, ...], *, folders: int) -> None:
    if weights and len(weights) != folders:
        raise UserError(f"--weights has {len(weights)} values for {folders} folders: give one for each, or none")
    if bad := [weight for weight in weights if not (weight > 0 and math.isfinite(weight))]:
        raise UserError(f"--weights {bad[0]:g}: weights must be above 0; to exclude a folder, do not name it in --data")


def plan_of(recipe: Recipe, data: Corpus, weights: tuple[float, ...], changes: Collection[str]) -> Plan:
    """UserError where the data are not what the recipe needs."""
    objective = find_objective(recipe.objective.name)
    recorded = {
        "paths": [str(each.root) for each in data.each],
        "fingerprints": [each.fingerprint for each in data.each],
        "weights": list(weights),
    }
    if "labels" in objective.needs and not data.classes:
        raise UserError(
            f"objective {recipe.objective.name} needs labels, but {data.root} has none: prepare a source with them"
        )
    if recipe.labels_as_text:
        data = with_label_texts(data)
    usable = training_rows(data, textless=recipe.objective.compares_views, every=not objective.reads_text)
    rows, training = without_held_out(data, usable), recipe.training
    _check_texts(recipe, data, rows)
    order = BatchSampler(rows, weights=weights, batch_size=training.batch_size, seed=training.seed)
    return Plan(recipe, data, order, recorded, changes)


def _check_texts(recipe: Recipe, data: Corpus, rows: Sequence[Int[np.ndarray, " _"]]) -> None:
    """UserError where a branch would learn from a section that no training image has, beside one that some have.

    Warn of a branch that evaluation compares with a section that it does not learn from.
    """
    wanted = find_objective(recipe.objective.name).texts(recipe.model)
    every = np.concatenate(rows)
    absent = {section for section in SECTIONS if not data.has(section)[every].any()}
    if absent < set(SECTIONS) and (missed := sorted(absent & wanted.keys())):
        raise UserError(
            f"{data.root}: no training image has the section {missed[0]}, which model.texts needs: set "
            "model.texts=report, which uses the sections that exist as one text"
        )
    read = {branch: {level.text for level in recipe.model.text_levels if level.branch == branch} for branch in SECTIONS}
    for branch, other in (SECTIONS, SECTIONS[::-1]):
        if recipe.model.levels and read[branch] == {other} and other in read[other]:  # so that they are not swapped
            log.warning(
                "the %s branch learns only from the %s section, as the %s branch does, but retrieval, which chooses "
                "best/, compares it with the %s section: add that text to model.texts", branch, other, other, branch,
            )  # fmt: skip
