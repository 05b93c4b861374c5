"""What the objectives of a step have in common: the global batch of several processes, in threads."""

from typing import Any

import pytest
import torch
from batches import batch
from recipes import tiny_recipe
from torch import nn
from two_processes import both

from imitate.config import OPTIONS, Recipe
from imitate.models.imitate import seeded_model
from imitate.training import baselines, pretraining, step
from imitate.training.draws import draw_step
from imitate.training.objectives import training_module

OBJECTIVES: list[tuple[str, dict[str, Any]]] = [
    ("imitate", {}),
    ("imitate", {"identical": "one"}),
    ("imitate", {"identical": "ignored"}),
    ("imitate", {"negatives": "rank"}),
    ("clip", {}),
    ("clip", {"negatives": "rank"}),
    ("mflag", {}),
    ("mflag", {"negatives": "rank"}),
    ("simclr", {}),
]


def module_of(recipe: Recipe) -> nn.Module:
    """Normalisation in eval mode, so that a part of the batch is embedded as within the whole."""
    module = training_module(seeded_model(recipe.model, pretrained=False, seed=0), recipe.objective).double()
    for each in module.modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm):
            each.eval()
    return module


@pytest.mark.parametrize(("name", "settings"), OBJECTIVES)
def test_the_terms_of_two_processes_are_those_of_the_global_batch_or_of_their_own(monkeypatch, name, settings):
    recipe = tiny_recipe().model_copy(update={"objective": OPTIONS[name](name=name, **settings)}).resolved()
    sample = batch(8, findings=(1, 6), impression=(2,))
    for text in ("findings", "impression"):
        sample[text][5] = sample[text][0]

    modules = [module_of(recipe) for _ in range(2)]  # not within the threads, which share the generator of weights

    def terms(part: slice, module: nn.Module) -> dict[str, float]:
        own = {key: value[part] for key, value in sample.items()}
        return {
            key: float(value) for key, value in module(own, draw_step(module.model, recipe, step=2, part=part)).items()
        }

    halves = slice(0, 4), slice(4, 8)
    alone = (
        [terms(slice(0, 8), modules[0])] * 2
        if "negatives" not in settings
        else [terms(part, modules[0]) for part in halves]
    )
    with torch.no_grad():
        found = both(monkeypatch, step, pretraining, baselines)(lambda rank: terms(halves[rank], modules[rank]))
    for ours, expected in zip(found, alone, strict=True):
        assert ours == pytest.approx(expected, rel=1e-6)


def test_sixteen_bits_become_thirty_two():
    tensors = [torch.ones(2, dtype=dtype) for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)]
    found = [each.dtype for each in step.full_precision(*tensors)]
    assert found == [torch.float32, torch.float32, torch.float32, torch.float64]
