"""The same tests at two sizes: a few seconds in the ordinary suite, minutes under ``make stress``."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from folders import write_folder
from recipes import tiny_recipe
from runs import pretrain

WriteCounts = Callable[..., None]


@pytest.fixture
def write_counts(request: pytest.FixtureRequest) -> WriteCounts:
    """Write what was counted to ``$IMITATE_FIGURES/<name>.json``, for the large sizes only."""

    def write(name: str, **values: Any) -> None:
        folder = os.environ.get("IMITATE_FIGURES")
        if folder and request.node.get_closest_marker("stress"):
            path = Path(folder, f"{name}.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    return write


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A recipe, its data, and a run that nothing interrupted. For reading only."""
    folder = tmp_path_factory.mktemp("undisturbed")
    data, recipe = write_folder(folder / "data", n=40), folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(checkpoint_every=1).model_dump(mode="json")))
    assert pretrain(recipe, data, folder / "run") == 0
    return recipe, data, folder / "run"
