"""Every committed study parses: its recipes with each row's settings, its tasks with theirs."""

from pathlib import Path

import pytest

from imitate.config import Recipe, load_config, validate
from imitate.tasks import task_class
from study import ROOT, load_study


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_parses(path: Path) -> None:
    study = load_study(path)
    assert study.seeds >= 3 and next(iter(study.rows)) == study.reference
    recipe = load_config(Recipe, ROOT / study.recipe)
    for row in study.rows.values():
        changed = load_config(Recipe, ROOT / study.recipe, row.settings).resolved()
        assert (changed != recipe) == bool(row.settings)
    for measure in study.tasks.values():
        validate(task_class(measure.task), measure.settings, where=measure.task)
