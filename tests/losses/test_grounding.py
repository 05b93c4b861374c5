"""Texts and places against loops."""

import math

import numpy as np
import pytest
import torch
from batches import batch
from recipes import TINY_MODEL, tiny_recipe
from torch.nn import functional as F

from imitate.config import ImitateConfig, ImitateOptions, Recipe, TextLevel
from imitate.losses.grounding import place_similarities
from imitate.models.imitate import seeded_model
from imitate.training.draws import draw_step
from imitate.training.objectives import training_module


def looped(places, texts) -> np.ndarray:
    places, texts = (F.normalize(each, dim=-1).detach().numpy() for each in (places, texts))
    found = np.zeros((len(places), len(texts)))
    for i, image in enumerate(places):
        for j, text in enumerate(texts):
            cosines = [float(place @ text) for place in image]
            weights = [math.exp(c / 0.1) for c in cosines]
            found[i, j] = sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights)
    return found


def test_the_best_places_of_an_image_decide():
    torch.manual_seed(0)
    places, texts = torch.randn(3, 5, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    np.testing.assert_allclose(place_similarities(places, texts).numpy(), looped(places, texts), rtol=1e-12)


def test_the_term_is_the_contrast_of_these_similarities_over_the_findings_texts():
    texts = (
        TextLevel(text="findings", branch="findings", weight=2),
        TextLevel(text="report", branch="impression"),
    )
    model = ImitateConfig(**{**TINY_MODEL.model_dump(), "aggregation": "spatial", "token_width": 8, "texts": texts})
    options = ImitateOptions(grounding=0.5, visual_visual=0, kernel="none", views=1)
    recipe = tiny_recipe().model_copy(update={"model": model, "objective": options}).resolved()
    module = training_module(seeded_model(recipe.model, pretrained=False, seed=0), recipe.objective).double()
    sample = batch(findings=(2, 5))
    places = []
    module.model.aggregation.register_forward_hook(lambda module, given, out: places.append(out.places))
    terms = module(sample, draw_step(module.model, recipe, step=0))
    keep = [0, 1, 3, 4, 6, 7]
    text = module.model.encode_text(sample["findings"].double(), sample["has_findings"])
    cosines, total = looped(places[0], text) / 0.07, 0.0
    for matrix in (cosines, cosines.T):
        for i in keep:
            total -= matrix[i, i] - math.log(sum(math.exp(matrix[i, j]) for j in keep))
    assert list(terms) == ["findings", "impression", "grounding"]
    assert terms["grounding"].item() == pytest.approx(0.5 * 2 * total / len(keep), rel=1e-9)


def test_places_are_those_of_the_spatial_aggregation():
    with pytest.raises(ValueError, match="it needs model.aggregation spatial"):
        Recipe(objective=ImitateOptions(grounding=1.0))
    with pytest.raises(ValueError, match="grounding needs model.aggregation spatial"):
        ImitateConfig(grounding=True)
