"""Which part of a model is taken from which source, and what is said of it."""

import json
import logging
import re
from dataclasses import replace

import pytest
import torch
from peer_files import tiny_vit
from recipes import TINY_MODEL, tiny_recipe
from torch import nn

from imitate.config import ImitateConfig, ImitateOptions, Recipe
from imitate.errors import UserError
from imitate.models.image import ImageEncoder
from imitate.models.imitate import Imitate, seeded_model
from imitate.models.lsa import LsaTextEncoder
from imitate.training.objectives import training_module
from imitate.training.warm_start import RECORD, Start, fill_objective, recorded_settings, start_from
from imitate.training.weights import Weights

TEXT = LsaTextEncoder.fit(["left effusion", "right opacity", "the heart is large", "clear lungs"], width=2)
OTHER = LsaTextEncoder.fit(["left edema", "right opacity", "the heart is small", "clear lungs"], width=2)
CONFIG = TINY_MODEL.model_copy(update={"text_width": 2})
POOLED = {"levels": (), "keep": ()}
VIT = {"depth": 4, "embed_dim": 128, "patch_size": 8, "num_heads": 2}

BLOCKS = {"backbone": "vit_base_patch16_224", "backbone_options": VIT, "keep": (0.1, 0.1)}  # all of one width
SPATIAL, POOLS = ({"aggregation": name, "token_width": 16} for name in ("spatial", "pooled"))
BEHIND = "it reads the aggregation, which is fresh"


def recipe_of(**model: object) -> Recipe:
    config = ImitateConfig.model_validate({**CONFIG.model_dump(exclude_unset=True), **model})
    return tiny_recipe().model_copy(update={"model": config, "init": "source"})


def weights_of(model: Imitate, **others: object) -> Weights:
    network = model.image.network
    own = {"encoders": {"text": TEXT}, "objective": {"log_temperature": torch.tensor(0.07).log()}, **others}
    return Weights("a source", network.state_dict(), {"mean": (0.4,) * 3, "std": (0.2,) * 3}, network, model, **own)


def started(source: ImitateConfig, recipe: Recipe, text: LsaTextEncoder = TEXT) -> tuple[Imitate, Imitate, Start]:
    """The source, the model that starts from it, and what became of it."""
    one = seeded_model(source, pretrained=False, seed=1)
    two = seeded_model(recipe.model, pretrained=False, seed=2)
    return one, two, start_from(two, weights_of(one), recipe, {"text": text})


def equal(one: Imitate, two: Imitate) -> set[str]:
    """The parts whose weights all are those of the source, of those that were drawn at random."""
    theirs = one.state_dict()
    drawn = {name: each for name, each in two.state_dict().items() if each.ndim > 1 and each.unique().numel() > 2}
    parts = {name.partition(".")[0] for name in drawn}
    return {part for part in parts if all(
        name in theirs and torch.equal(each, theirs[name]) for name, each in drawn.items() if name.startswith(part)
    )}  # fmt: skip


def test_a_model_of_the_same_recipe_is_taken_whole():
    one, two, start = started(CONFIG, recipe_of())
    assert all(torch.equal(each, two.state_dict()[name]) for name, each in one.state_dict().items())
    assert sum(start.loaded.values()) == len(one.state_dict()) and start.loaded["aggregation"] == 6
    assert not start.fresh and not start.unused and not start.interpolated and start.text == TEXT.name
    assert start.taken == {"mean": (0.4,) * 3, "std": (0.2,) * 3}


def test_a_recipe_that_reads_no_text_takes_the_text_head_as_it_is():
    one, two = (seeded_model(CONFIG, pretrained=False, seed=seed) for seed in (1, 2))
    start = start_from(two, weights_of(one, encoders={}), recipe_of(), {})
    assert "text_head" in start.loaded and start.text is None and not start.fresh


def test_statistics_that_the_recipe_sets_stay():
    assert started(CONFIG, recipe_of(mean=(0.3,) * 3))[2].taken == {}
    assert started(CONFIG, recipe_of(range=(-1, 1)))[2].taken == {"mean": (0.4,) * 3, "std": (0.2,) * 3}


@pytest.mark.parametrize(
    "source, model, text, loaded, reasons",
    [
        ({}, {}, OTHER, {"image", "aggregation", "findings_head", "impression_head"},
         {"text_head": "it reads a different text encoder"}),
        ({}, {"text_width": 3}, TEXT, {"image", "aggregation", "findings_head", "impression_head"},
         {"text_head": r"0.weight is \[1024, 2\] in the source, not \[1024, 3\]"}),
        ({"levels": (), "keep": ()}, {}, TEXT, {"image", "impression_head", "text_head"},
         {"aggregation": "the source has none", "findings_head": "the source has none"}),
        ({"slots": 32}, {}, TEXT, {"image", "impression_head", "text_head"},
         {"aggregation": r"positional_embedding is \[1, 33, 16\] in the source, not \[1, 65, 16\]",
          "findings_head": "it reads the aggregation, which is fresh"}),
        ({"token_width": 16}, {"aggregation": "spatial", "token_width": 16}, TEXT, {"image", "text_head"},
         {"aggregation": "it is channels in the source", "findings_head": "it reads the aggregation, which is fresh",
          "impression_head": r"0.weight is \[32, 32\] in the source, not \[16, 16\]"}),
        ({**POOLS, "token_width": 32}, {}, TEXT, {"image", "text_head"},
         {"aggregation": "the source has none", "findings_head": r"0.weight is .*",
          "impression_head": "it reads a different feature in the source"}),
        ({**POOLS, "token_width": 32}, {"levels": (), "keep": ()}, TEXT, {"image", "text_head"},
         {"impression_head": "it reads a different feature in the source"}),
        ({}, {**POOLS, "token_width": 32}, TEXT, {"image", "text_head"},
         {"aggregation": "the source has none", "findings_head": r"0.weight is .*",
          "impression_head": "it reads a different feature in the source"}),
        ({"heads": 2}, {}, TEXT, {"image", "impression_head", "text_head"},
         {"aggregation": "heads is 2 in the source, not 4", "findings_head": BEHIND}),
        ({"keep": (0.25, 0.15, 0.1, 0.2)}, {}, TEXT, {"image", "impression_head", "text_head"},
         {"aggregation": r"keep is \(0.25, 0.15, 0.1, 0.2\) in the source, not \(0.25, 0.15, 0.1, 0.1\)",
          "findings_head": BEHIND}),
        ({**BLOCKS, "levels": (1, 2)}, {**BLOCKS, "levels": (3, 4)}, TEXT, {"image", "impression_head", "text_head"},
         {"aggregation": r"levels is \(1, 2\) in the source, not \(3, 4\)", "findings_head": BEHIND}),
        ({**SPATIAL, "heads": 2}, SPATIAL, TEXT, {"image", "text_head"},
         {"aggregation": "heads is 2 in the source, not 4", "findings_head": BEHIND, "impression_head": BEHIND}),
        ({**BLOCKS, **POOLS, "levels": (1, 2)}, {**BLOCKS, **POOLS, "levels": (2, 1)}, TEXT, {"image", "text_head"},
         {"aggregation": r"levels is \(1, 2\) in the source, not \(2, 1\)",
          "findings_head": BEHIND, "impression_head": BEHIND}),
    ],
    ids=["other words", "other width", "no levels", "other slots", "other aggregation", "pooled before",
         "pooled before and no levels", "pooled now", "other heads", "other keep",
         "other levels", "other heads of places", "levels in another order"],
)  # fmt: skip
def test_a_part_that_does_not_fit_starts_fresh_and_says_why(source, model, text, loaded, reasons):
    one, two, start = started(CONFIG.model_copy(update=source), recipe_of(**model), text)
    assert equal(one, two) == loaded == start.loaded.keys()
    assert start.fresh.keys() == reasons.keys()
    for part, reason in reasons.items():
        assert re.fullmatch(reason, start.fresh[part])


def test_settings_that_an_aggregation_does_not_read_may_differ():
    for source, ours in (({**SPATIAL, "keep": (0.1,) * 4}, SPATIAL), ({**POOLS, "heads": 2}, POOLS)):
        one, two, start = started(CONFIG.model_copy(update=source), recipe_of(**ours))
        assert "aggregation" in start.loaded and "aggregation" in equal(one, two) and not start.fresh


def test_a_part_that_has_grown_is_taken_as_far_as_it_goes():
    spatial = {"aggregation": "spatial", "token_width": 16}
    _, two, start = started(CONFIG.model_copy(update=spatial), recipe_of(**spatial, grounding=True))
    assert start.fresh == {"aggregation.place_head.weight": "the source has none"} and "findings_head" in start.loaded
    _, _, start = started(two.config, recipe_of(**spatial))
    assert start.unused == ["aggregation.place_head.weight"] and not start.fresh


@pytest.mark.parametrize(
    "backbone, options, message",
    [
        ("resnet10t", {}, r"source does not fit resnet10t: .*; set model.backbone=resnet18 and model.backbone_opti"),
        ("resnet18", {"channels": [8, 8, 16, 32]},
         r"e.g. layer1.0.conv1.weight, which has the shape \[4, 64, 3, 3\] there, not \[8, 64, 3, 3\]; set model.back"),
        ("resnet18", {"channels": [4, 8, 16, 32], "act_layer": "silu"},
         "init: source has a different architecture from resnet18: act1 is ReLU there and SiLU here; set model.backbone"),
    ],
)  # fmt: skip
def test_another_architecture_is_reported(backbone, options, message):
    with pytest.raises(UserError, match=message):
        started(CONFIG, recipe_of(backbone=backbone, backbone_options=options, **POOLED))


def test_another_number_of_heads_is_reported():
    recipe = recipe_of(
        backbone="vit_base_patch16_224", backbone_options={**VIT, "num_heads": 4, "img_size": 32}, **POOLED
    )
    network = tiny_vit()
    with pytest.raises(UserError, match="num_heads of blocks.0.attn is 2 there and 4 here; set model.backbone to its"):
        start_from(seeded_model(recipe.model, pretrained=False, seed=0),
                   Weights("x", network.state_dict(), {}, network), recipe, {})  # fmt: skip


def test_a_file_of_which_nothing_fits_is_reported():
    model = seeded_model(CONFIG, pretrained=False, seed=0)
    count = sum(not name.endswith("num_batches_tracked") for name in model.image.network.state_dict())
    with pytest.raises(UserError, match=rf"does not fit resnet18: {count} of {count} tensors are missing"):
        start_from(model, Weights("x", {"linear.weight": torch.zeros(2)}, {}), recipe_of(), {})


def test_positions_are_interpolated_and_what_an_encoder_has_beside_is_unused():
    """A peer, or a file: the branches are fresh."""
    network = tiny_vit(reg_tokens=2)
    recipe = recipe_of(backbone="vit_base_patch16_224", backbone_options={**VIT, "reg_tokens": 2}, image_size=16,
                       slots=128)  # fmt: skip
    model = seeded_model(recipe.model, pretrained=False, seed=0)
    state = {f"module.encoder.{name}": each for name, each in network.state_dict().items()}
    weights = Weights("x", {**state, "fc.weight": torch.zeros(3, 3)}, {}, network, ignored=("its text encoder",))
    start = start_from(model, weights, recipe, {"text": TEXT})
    assert start.interpolated == ["pos_embed"] and start.unused == ["its text encoder", "fc.weight"]
    assert start.loaded == {"image": len(state)} and start.text is None
    assert start.fresh.keys() == {"aggregation", "findings_head", "impression_head", "text_head"}
    own, theirs = model.image.network.pos_embed, network.pos_embed
    assert torch.equal(own[:, :3], theirs[:, :3])  # of CLS and registers
    grid = theirs[:, 3:].transpose(1, 2).unflatten(2, (4, 4))
    smaller = nn.functional.interpolate(grid, (2, 2), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    torch.testing.assert_close(own[:, 3:], smaller)


def test_tables_of_a_swin_are_brought_to_the_windows_of_smaller_images():
    options = {"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}
    large, small = (ImageEncoder("swin_tiny_patch4_window7_224", options=options, size=size) for size in (224, 64))
    recipe = recipe_of(backbone="swin_tiny_patch4_window7_224", backbone_options=options, **POOLED)
    model = seeded_model(recipe.model, pretrained=False, seed=0)
    model.image = small
    start = start_from(model, Weights("x", large.network.state_dict(), {}, large.network), recipe, {})
    assert start.interpolated == [f"layers.{i}.blocks.0.attn.relative_position_bias_table" for i in (2, 3)]


OBJECTIVES = {
    "learned": {"learn_temperature": True},
    "sigmoid": {"learn_temperature": True, "contrast": "sigmoid", "kernel": "none"},
    "fixed": {},
}


@pytest.mark.parametrize(
    "objective, loaded, fresh, unused, temperature",
    [
        ("learned", 1, [], ["objective.bias"], 0.04),
        ("sigmoid", 2, [], [], 0.04),
        ("fixed", 0, [], ["objective.bias", "objective.log_temperature"], 0.07),
    ],
)
def test_a_learned_temperature_and_bias_go_on(objective, loaded, fresh, unused, temperature):
    recipe = Recipe(objective=OBJECTIVES[objective])
    step = training_module(seeded_model(CONFIG, pretrained=False, seed=0), recipe.objective)
    start = Start("source", "x", None, {}, None)
    start.objective = {"log_temperature": torch.tensor(0.04).log(), "bias": torch.tensor(-9.0)}
    fill_objective(step, start)
    assert float(torch.as_tensor(step.temperature).detach()) == pytest.approx(temperature)
    assert start.loaded.get("objective", 0) == loaded and [*start.fresh] == fresh and start.unused == unused
    if objective == "sigmoid":
        assert step.bias == -9


def test_a_temperature_that_the_recipe_names_is_where_learning_starts():
    objective = {"log_temperature": torch.tensor(0.04).log(), "bias": torch.tensor(-9.0)}
    weights = weights_of(seeded_model(CONFIG, pretrained=False, seed=1), objective=objective)
    for given, kept in (({}, {"log_temperature", "bias"}), ({"temperature_text": 0.2}, {"bias"})):
        recipe = recipe_of().model_copy(update={"objective": ImitateOptions(learn_temperature=True, **given)})
        start = start_from(seeded_model(CONFIG, pretrained=False, seed=0), weights, recipe, {"text": TEXT})
        assert start.objective.keys() == kept


def test_a_fixed_temperature_that_is_the_sources_is_not_unused_and_a_bias_that_no_source_has_is_fresh():
    start = Start("source", "x", None, {}, None, objective={"log_temperature": torch.tensor(0.07).log()})
    fill_objective(training_module(seeded_model(CONFIG, pretrained=False, seed=0), Recipe().objective), start)
    assert not start.unused and not start.loaded
    recipe = Recipe(objective=OBJECTIVES["sigmoid"])
    fill_objective(training_module(seeded_model(CONFIG, pretrained=False, seed=0), recipe.objective), start)
    assert start.fresh == {"objective.bias": "the source has none"}


def test_the_report_is_one_line_and_the_record_holds_all(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    start = Start("runs/first", "a model of ours", "abc", {"mean": [0.4]}, "lsa-2", {"image": 7}, {"text_head": "why"},
                  list("abcdef"), ["pos_embed"], {"bias": torch.zeros(())})  # fmt: skip
    start.report(tmp_path)
    assert caplog.messages == [
        "starting from runs/first (a model of ours): loaded image (7 tensors); text encoder lsa-2; interpolated "
        f"pos_embed; fresh text_head (why); unused a, b, c, d and 2 more; all in {tmp_path / RECORD}"
    ]
    record = json.loads((tmp_path / RECORD).read_text())
    assert record.keys() == vars(start).keys() - {"objective"} and record["unused"] == list("abcdef")
    assert recorded_settings(tmp_path) == {"mean": (0.4,)} and record["commit"] == "abc"
    replace(start, text=None, interpolated=[], fresh={}, unused=[]).report(tmp_path)
    assert caplog.messages[1] == (
        f"starting from runs/first (a model of ours): loaded image (7 tensors); all in {tmp_path / RECORD}"
    )
