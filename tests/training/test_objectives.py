"""The contract of objectives: what they read, what they ask of the model, those of other packages."""

from typing import Any, ClassVar, Literal

import pytest
import torch
from recipes import TINY_MODEL, tiny_recipe
from torch import nn

from imitate.config import OPTIONS, ObjectiveOptions, Recipe, TextLevel
from imitate.errors import UserError
from imitate.models.imitate import seeded_model
from imitate.training import objectives
from imitate.training.draws import draw_step
from imitate.training.objectives import NEEDS, OBJECTIVES, Objective, find_objective, training_module


class Pairs(ObjectiveOptions):
    model: ClassVar[dict[str, Any]] = {"levels": (), "keep": (), "texts": "report"}

    name: str = "pairs"
    views: Literal[1, 2] = 1
    margin: float = 0.5


class PairsStep(nn.Module):
    def __init__(self, model, options, *, chunk=None):
        super().__init__()
        self.model, self.options = model, options
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, batch, draw):
        text = self.model.encode_text(batch["report"], batch["has_report"])
        return {"pairs": text.square().mean() + self.options.margin + self.bias, "labels": batch["labels"].sum()}


PAIRS = Objective(Pairs, frozenset({"images", "report", "labels"}), PairsStep)
UNKNOWN = Objective(Pairs, frozenset({"images", "volumes"}), PairsStep)


@pytest.fixture
def installed(monkeypatch):
    """Two objectives of another package."""
    found = {"pairs": _Loaded(PAIRS), "unknown": _Loaded(UNKNOWN)}
    monkeypatch.setattr("imitate.config.plugins", lambda group: found if group == "imitate.objectives" else {})
    monkeypatch.setattr(objectives, "plugins", lambda group: found if group == "imitate.objectives" else {})


class _Loaded:
    def __init__(self, objective):
        self.load = lambda: objective


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_names_what_it_reads(name):
    objective, recipe = OBJECTIVES[name], Recipe.model_validate({"objective": {"name": name}}).resolved()
    assert objective.needs <= NEEDS and objective.Options is OPTIONS[name] and "images" in objective.needs
    expected = {"imitate": ("findings", "impression"), "simclr": ()}.get(name, ("report",))
    assert tuple(objective.texts(recipe.model)) == expected and objective.reads_text == bool(expected)
    assert recipe.model.reads_text == objective.reads_text
    assert recipe.model.objective == name and bool(recipe.model.levels) == (name == "imitate")


def test_imitate_reads_the_texts_that_its_branches_learn_from():
    texts = OBJECTIVES["imitate"].texts
    assert set(texts(TINY_MODEL.model_copy(update={"texts": "swapped"}))) == {"findings", "impression"}
    assert texts(TINY_MODEL.model_copy(update={"texts": "report"})) == {"report": 1}
    some = (TextLevel(text="sentences", branch="findings", draw=3), TextLevel(text="report", branch="impression"))
    assert texts(TINY_MODEL.model_copy(update={"texts": some})) == {"sentences": 3, "report": 1}


def test_the_models_temperature_is_the_objectives():
    recipe = Recipe.model_validate({"objective": {"name": "convirt", "temperature_text": 0.1}})
    assert recipe.resolved().model.temperature == 0.1
    assert Recipe.model_validate({"objective": {"name": "mflag"}}).resolved().model.temperature == 0.07


@pytest.mark.parametrize("name", ["imitate", "mflag"])
def test_the_model_remembers_whether_its_temperature_was_learned(name):
    assert Recipe.model_validate({"objective": {"name": name}}).resolved().model.temperature_learned is False
    learned = Recipe.model_validate({"objective": {"name": "imitate", "learn_temperature": True}}).resolved()
    assert learned.model.temperature_learned is True


def test_another_packages_objective_is_found_asked_and_trained(installed):
    recipe = tiny_recipe().model_copy(
        update={"objective": Recipe.model_validate({"objective": {"name": "pairs", "margin": 2}}).objective}
    )
    recipe = recipe.resolved()
    assert recipe.model.levels == () and recipe.model.texts == "report" and recipe.model.objective == "pairs"
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    step = training_module(seeded_model(recipe.model, pretrained=False, seed=0), recipe.objective)
    assert any(name == "bias" for name, _ in step.named_parameters())
    draw = draw_step(step.model, recipe, step=0)
    assert len(draw.views) == 1
    batch = {"report": torch.randn(8, 12), "has_report": torch.ones(8, dtype=bool), "labels": torch.ones(8, 2)}
    terms = step(batch, draw)
    assert list(terms) == ["pairs", "labels"] and terms["labels"] == 16 and terms["pairs"] > 2
    with pytest.raises(ValueError, match="pairs has no kernel: remove what another objective reads"):
        Recipe.model_validate({"objective": {"name": "pairs", "kernel": "exp"}})


def test_what_no_batch_has_and_unknown_names_are_reported(installed):
    with pytest.raises(UserError, match="objective unknown needs volumes: a batch can have findings, images"):
        find_objective("unknown")
    with pytest.raises(UserError, match="there is no objective 'barlow'; there are imitate, .*simclr, pairs, unknown"):
        find_objective("barlow")


def test_an_objective_that_reads_one_section_has_the_texts_of_both_branches():
    for section in ("findings", "impression"):
        objective = Objective(Pairs, frozenset({"images", section}), PairsStep)
        assert tuple(objective.texts(TINY_MODEL)) == ("findings", "impression") and objective.reads_text
    both = Objective(Pairs, frozenset({"findings", "report"}), PairsStep)
    assert tuple(both.texts(TINY_MODEL)) == ("findings", "impression", "report")
    assert tuple(both.texts(TINY_MODEL.model_copy(update={"texts": "report"}))) == ("report",)
    assert not Objective(Pairs, frozenset({"images", "labels"}), PairsStep).reads_text


def test_an_objective_of_two_views_refuses_one():
    options = OPTIONS["simclr"](name="simclr")
    model = seeded_model(TINY_MODEL, pretrained=False, seed=0)
    with pytest.raises(UserError, match="objective simclr compares two views, not 1"):
        training_module(model, options.model_copy(update={"views": 1}))
    training_module(model, options)
    assert not any(p.requires_grad for p in model.text_head.parameters())


def test_all_objectives_that_contrast_image_and_text_have_the_same_temperature_by_default():
    """The published one: a comparison of objectives is then none of temperatures."""
    every = {name: each(name=name) for name, each in OPTIONS.items()}
    contrasting = {name: each for name, each in every.items() if hasattr(each, "temperature_text")}
    assert contrasting.keys() == {"imitate", "clip", "convirt"}
    assert {each.temperature_text for each in contrasting.values()} == {0.07}
    assert {each.model_dump()["learn_temperature"] for each in contrasting.values()} == {False}
