"""Every recipe parses, and says what it claims to be."""

from pathlib import Path

import pytest
import yaml

from imitate.config import Recipe, load_config

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses(path):
    load_config(Recipe, path)


def test_the_reference_recipe_is_complete_and_published():
    """Each field that the published run fixes is written out, so that no default of ours slips in."""
    path = ROOT / "recipes/reference.yaml"
    written, recipe = yaml.safe_load(path.read_text()), load_config(Recipe, path)
    ours = {"training": {"clip_gradient", "seed", "log_every", "checkpoint_every", "devices", "nodes"}}
    for part in ("model", "objective", "views", "training"):
        fields = set(type(getattr(recipe, part)).model_fields) - ours.get(part, set())
        assert fields - set(written[part]) <= {"backbone_options", "text_width"}
    steps = recipe.training.epochs * (213_384 // recipe.training.batch_size)
    assert steps == 33_340
