import math

import pytest
import torch
from recipes import TINY_MODEL
from torch import nn

from imitate.config import TrainingConfig
from imitate.models.image import ImageEncoder
from imitate.models.imitate import seeded_model
from imitate.models.text_tower import TextTower
from imitate.training.optim import (
    averaged,
    backbone_rates,
    build_optimizer,
    learning_rate,
    parameter_groups,
    restore,
    set_rates,
    text_rates,
)


def test_schedule_is_torchs_cosine_over_the_true_steps():
    training = TrainingConfig(learning_rate=2e-4, final_learning_rate=1e-8)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=2e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=1e-8)
    for step in range(50):
        assert learning_rate(step, total=50, training=training) == pytest.approx(
            optimizer.param_groups[0]["lr"], rel=1e-6
        )
        optimizer.step()
        schedule.step()


def test_warmup_rises_to_the_peak_and_the_end_is_low():
    training = TrainingConfig(learning_rate=1.0, final_learning_rate=0.0, warmup_steps=4)
    rates = [learning_rate(step, total=20, training=training) for step in range(21)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0] and rates[20] == pytest.approx(0)
    assert all(a >= b for a, b in zip(rates[4:], rates[5:], strict=False))
    assert rates[19] == pytest.approx((1 + math.cos(math.pi * 15 / 16)) / 2)  # of the last step that runs
    fraction = training.model_copy(update={"warmup_steps": 0, "warmup_fraction": 0.2})
    assert [learning_rate(step, total=20, training=fraction) for step in range(21)] == rates


def test_a_warm_up_as_long_as_the_run_is_reported_once(caplog):
    training = TrainingConfig(learning_rate=1.0, warmup_steps=20)
    assert [learning_rate(step, total=19, training=training) for step in (0, 18)] == [0.05, 0.95]
    assert [record.message for record in caplog.records] == [
        "training.warmup_steps=20 of a run of 19 steps: the learning rate never reaches its peak; set "
        "training.warmup_fraction instead"
    ]
    learning_rate(0, total=21, training=training)
    assert len(caplog.records) == 1


def test_decay_spares_norms_biases_and_embeddings_unless_as_published():
    model = seeded_model(TINY_MODEL, pretrained=False, seed=0)
    decayed, spared = parameter_groups(model, weight_decay=0.05, everything=False)
    assert decayed["weight_decay"] == 0.05 and spared["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"])
    ids = {id(p) for p in spared["params"]}
    assert id(model.aggregation.positional_embedding) in ids and id(model.image.network.bn1.weight) in ids
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))
    (group,) = parameter_groups(model, weight_decay=0.05, everything=True)
    assert len(group["params"]) == len(list(model.parameters()))
    assert build_optimizer(model, TrainingConfig()).defaults["betas"] == (0.9, 0.999)


def test_embeddings_are_known_by_their_names():
    module = nn.Module()
    for name in ("text_embedding", "cls_token", "queries", "kernel"):
        module.register_parameter(name, nn.Parameter(torch.zeros(2, 3)))
    module.log_temperature = nn.Parameter(torch.zeros(()))
    decayed, spared = parameter_groups(module, weight_decay=0.1, everything=False)
    assert [id(p) for p in decayed["params"]] == [id(module.kernel)] and len(spared["params"]) == 4
    decayed, spared = parameter_groups(module, weight_decay=0.1, everything=True)
    assert [id(p) for p in spared["params"]] == [id(module.log_temperature)] and spared["weight_decay"] == 0


def test_an_image_encoder_alone_is_decayed_as_within_a_model():
    encoder = ImageEncoder("vit_tiny_patch16_224", options={"depth": 4, "img_size": 64})
    decayed, _ = parameter_groups(encoder, weight_decay=0.1, everything=False)
    assert id(encoder.network.pos_embed) not in {id(p) for p in decayed["params"]}
    rates = backbone_rates(encoder, TrainingConfig(layer_decay=0.5))
    assert rates["network.blocks.3.mlp.fc1.weight"] == 1 and rates["network.blocks.2.mlp.fc1.weight"] == 0.5


@pytest.mark.parametrize("older", [False, True])
def test_layer_decay_goes_down_a_vit_block_by_block_to_its_embeddings(older, monkeypatch):
    """Older versions of timm take registers and the first normalisation for what comes after the last block."""
    options = {"depth": 4, "img_size": 56, "embed_dim": 48, "pre_norm": True}
    encoder = ImageEncoder("vit_small_patch14_reg4_dinov2", options=options)
    if older:
        matcher = {
            "stem": "^cls_token|pos_embed|patch_embed",
            "blocks": [(r"^blocks\.(\d+)", None), ("^norm", (99999,))],
        }
        monkeypatch.setattr(encoder.network, "group_matcher", lambda coarse: matcher)
    rates = backbone_rates(encoder, TrainingConfig(layer_decay=0.5))
    assert rates.keys() == {name for name, _ in encoder.named_parameters()}
    for name, rate in rates.items():
        block = int(name.split(".")[2]) if name.startswith("network.blocks.") else None
        stem = ("patch_embed", "pos_embed", "cls_token", "reg_token", "norm_pre")
        below = 4 if name.removeprefix("network.").startswith(stem) else 3 - (3 if block is None else block)
        assert rate == 0.5**below, name
    assert sum(rate == 0.5**4 for rate in rates.values()) == 6  # patches, the first normalisation, three embeddings


@pytest.mark.parametrize(
    "name, options, spared",
    [
        (
            "vit_tiny_patch16_224",
            {"depth": 4, "reg_tokens": 2, "img_size": 64},
            ["cls_token", "pos_embed", "reg_token"],
        ),
        (
            "swin_tiny_patch4_window7_224",
            {"embed_dim": 24, "depths": [1, 1, 1, 1], "img_size": 64},
            [f"layers.{i}.blocks.0.attn.relative_position_bias_table" for i in range(4)],
        ),
    ],
)
def test_embeddings_of_a_transformer_are_not_decayed(name, options, spared):
    encoder = nn.Sequential(ImageEncoder(name, options=options))  # a part of a larger module, as in a model
    groups = parameter_groups(encoder, weight_decay=0.05, everything=False)
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    matrices = {name: decays[id(p)] for name, p in encoder[0].network.named_parameters() if p.ndim > 1}
    found = {name for name, decay in matrices.items() if not decay}
    assert found == {*spared}
    (everything,) = parameter_groups(encoder, weight_decay=0.05, everything=True)
    assert len(everything["params"]) == len(list(encoder.parameters()))


def test_the_backbone_has_its_own_rate_and_less_of_it_the_deeper_below_the_heads():
    training = TrainingConfig(learning_rate=1e-3, final_learning_rate=0, backbone_learning_rate=1e-4, layer_decay=0.5)
    model = seeded_model(TINY_MODEL, pretrained=False, seed=0)
    optimizer = build_optimizer(model, training)
    set_rates(optimizer, 5, total=10, training=training)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    network, peak = model.image.network, learning_rate(5, total=10, training=training)
    expected = [(model.text_head[0].weight, 1), (network.layer4[1].conv2.weight, 0.1)]
    expected += [(network.layer4[0].conv1.weight, 0.05), (network.layer1[0].conv1.weight, 0.1 * 0.5**7)]
    expected += [(network.conv1.weight, 0.1 * 0.5**8), (network.layer4[1].bn2.bias, 0.1)]
    for weight, factor in expected:
        assert rates[id(weight)] == pytest.approx(peak * factor)
    assert optimizer.param_groups[0]["lr"] == peak and rates.keys() == {id(p) for p in model.parameters()}
    plain = build_optimizer(model, TrainingConfig(learning_rate=1e-3))
    assert [group["scale"] for group in plain.param_groups] == [1, 1]


@pytest.mark.parametrize("decay", [1, 0.5])
@pytest.mark.parametrize("rate", [3e-3, 1e-4, 5e-5])
def test_a_run_that_continues_at_another_rate_keeps_the_backbones_own(rate, decay):
    """Also where one of its rates is then that of the heads, whose group it must not join."""
    first, second = (
        TrainingConfig(learning_rate=each, backbone_learning_rate=1e-4, layer_decay=decay) for each in (1e-3, rate)
    )
    model = seeded_model(TINY_MODEL, pretrained=False, seed=0)
    before = build_optimizer(model, first)
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    before.step()
    after = build_optimizer(model, second)
    restore(after, before.state_dict(), second)
    set_rates(after, 0, total=10, training=second)
    rates = {id(p): group["lr"] for group in after.param_groups for p in group["params"]}
    assert rates[id(model.text_head[0].weight)] == after.param_groups[0]["lr"] == pytest.approx(rate)
    assert rates[id(model.image.network.layer4[1].conv2.weight)] == pytest.approx(1e-4)
    assert rates[id(model.image.network.conv1.weight)] == pytest.approx(1e-4 * decay**8)
    assert all(torch.equal(after.state[p]["exp_avg"], before.state[p]["exp_avg"]) for p in model.parameters())


@pytest.mark.parametrize(
    "backbone", [{}, {"backbone": "vit_tiny_patch16_224", "backbone_options": {"depth": 4, "embed_dim": 48}}]
)
def test_a_frozen_image_encoder_is_bit_identical_and_has_neither_gradients_nor_a_place_in_the_optimizer(backbone):
    model = seeded_model(TINY_MODEL.model_copy(update=backbone), pretrained=False, seed=0)
    optimizer = build_optimizer(model, TrainingConfig(freeze="image"))
    before = {name: value.clone() for name, value in model.image.state_dict().items()}
    model.train()
    features = model.image(torch.randn(4, 3, 32, 32))
    assert not any(each.requires_grad for each in (features.pooled, *features.levels))  # so that nothing is kept
    impression, findings = model.aggregate(features)
    (model.impression_head(impression).sum() + model.project_findings(findings).square().sum()).backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.image.state_dict().items())
    assert all(weight.grad is None for weight in model.image.parameters())
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    assert held.isdisjoint(map(id, model.image.parameters())) and id(model.text_head[0].weight) in held
    assert model.impression_head[0].weight.grad is not None and model.impression_head.training


def test_averaged_weights_follow_the_trained_ones_and_are_in_the_checkpoint():
    weight, expected = nn.Parameter(torch.ones(3)), torch.ones(3)
    module = nn.Module()
    module.weight, training = weight, TrainingConfig(learning_rate=0.1, ema_decay=0.9)
    optimizer = build_optimizer(module, training)
    for step in range(4):
        weight.grad = torch.tensor([1.0, -1.0, step])
        optimizer.step()
        expected = weight.detach().clone() if step == 0 else expected * 0.9 + weight.detach() * 0.1
    trained = weight.detach().clone()
    torch.testing.assert_close(optimizer.state[weight]["average"], expected)  # the name that is in checkpoints
    with averaged(optimizer):
        torch.testing.assert_close(weight.detach(), expected)
        assert not torch.equal(weight, trained)
    assert torch.equal(weight, trained)
    resumed = build_optimizer(module, training)
    resumed.load_state_dict(optimizer.state_dict())
    with averaged(resumed):
        torch.testing.assert_close(weight.detach(), expected)
    with averaged(build_optimizer(module, TrainingConfig())):
        assert torch.equal(weight, trained)


def test_the_cosine_has_exact_values_and_a_warm_up_of_the_whole_run_ends_at_the_peak(caplog):
    training = TrainingConfig(learning_rate=1.0, final_learning_rate=0.2, warmup_steps=2)
    rates = [learning_rate(step, total=6, training=training) for step in range(7)]
    half = 0.8 / 2
    expected = [0.5, 1.0, 1.0, 0.2 + half * (1 + 2**-0.5), 0.6, 0.2 + half * (1 - 2**-0.5), 0.2]
    assert rates == pytest.approx(expected, rel=1e-12) and not caplog.records
    whole = training.model_copy(update={"warmup_steps": 6})
    assert [learning_rate(step, total=6, training=whole) for step in (0, 5, 6)] == [1 / 6, 1.0, 1.0]
    assert "warmup_steps=6 of a run of 6 steps" in caplog.text
    longer = training.model_copy(update={"warmup_steps": 3})
    assert learning_rate(4, total=4, training=longer) == pytest.approx(0.2)


def test_one_of_both_factors_is_enough_for_rates_of_the_backbone():
    model = seeded_model(TINY_MODEL, pretrained=False, seed=0)
    assert backbone_rates(model, TrainingConfig()) == {}
    decayed = backbone_rates(model, TrainingConfig(layer_decay=0.5))
    assert decayed["image.network.conv1.weight"] == 0.5**8 and decayed["image.network.layer4.1.bn2.bias"] == 1
    slower = backbone_rates(model, TrainingConfig(learning_rate=1e-3, backbone_learning_rate=2e-4))
    assert all(rate == pytest.approx(0.2) for rate in slower.values()) and slower.keys() == decayed.keys()


def test_a_text_encoder_that_learns_has_a_rate_of_its_own():
    tower = TextTower.__new__(TextTower)
    nn.Module.__init__(tower)
    tower.weight, module = nn.Parameter(torch.zeros(2)), nn.Module()
    module.tower, module.head = tower, nn.Linear(2, 2)
    for factor in (2, 1, 0.5):
        training = TrainingConfig(learning_rate=1e-3, text_learning_rate=factor * 1e-3, text_layers=1)
        assert (
            text_rates(module, training) == {"tower.weight": factor} and text_rates(tower, training)["weight"] == factor
        )
    assert text_rates(module, TrainingConfig()) == {}


def test_a_group_without_a_factor_has_the_whole_rate():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    training = TrainingConfig(learning_rate=0.25)
    set_rates(optimizer, 0, total=9, training=training)
    assert optimizer.param_groups[0]["lr"] == learning_rate(0, total=9, training=training) == 0.25
