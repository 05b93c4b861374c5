"""Attention over places, and pooled levels, against the same in plain torch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from imitate.config import ImitateConfig
from imitate.models.imitate import Imitate, seeded_model
from imitate.models.places import PooledAggregation, SpatialAggregation

CHANNELS = [16, 32, 64, 128]
SIZES = [28, 14, 7, 4]


def pyramid(batch: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(batch, c, s, s, dtype=torch.float64) for c, s in zip(CHANNELS, SIZES, strict=True)]


def spatial(**settings) -> SpatialAggregation:
    torch.manual_seed(0)
    config = ImitateConfig(aggregation="spatial", **{"grid": 5, "heads": 4, "token_width": 24, **settings})
    module = SpatialAggregation(config, CHANNELS).double()
    for name, parameter in module.named_parameters():
        if "embedding" in name or "bias" in name or name == "queries":
            nn.init.normal_(parameter, std=0.5)
    return module


def in_full(module: SpatialAggregation, levels: list[torch.Tensor]) -> torch.Tensor:
    """Keys and values of every token, by torch's own attention."""
    tokens = []
    for number, level in enumerate(module.levels):
        cells = F.adaptive_avg_pool2d(levels[level], module.grid)
        for i in range(module.grid):
            for j in range(module.grid):
                token = module.projections[number](module.norms[number](cells[:, :, i, j]))
                place = module.row_embedding[i, 0] + module.column_embedding[0, j]
                tokens.append(token + place + module.level_embedding[number, 0, 0])
    x = torch.stack(tokens, 1)
    queries = module.queries.expand(len(x), -1, -1)
    return module.norm(module.attention(queries, x, x)[0])


@pytest.mark.parametrize("levels", [(1, 2, 3, 4), (4,), (2, 4)])
def test_attention_over_places_equals_torchs_in_value_and_gradient(levels):
    module, maps = spatial(levels=levels), pyramid()
    weight = torch.randn(3, 2, 24, dtype=torch.float64)
    gradients = []
    for run in (lambda: torch.stack(module(maps)[:2], 1), lambda: in_full(module, maps)):
        module.zero_grad()
        inputs = [each.requires_grad_() for each in maps]
        out = run()
        (out * weight).sum().backward()
        gradients.append([out, *(p.grad.clone() for p in module.parameters())])
        gradients[-1] += [inputs[level - 1].grad.clone() for level in levels]
        for each in maps:
            each.grad = None
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_maps_are_the_weights_of_attention():
    module, maps = spatial(), pyramid()
    found = module.maps(maps)
    assert found.shape == (3, 2, 4, 5, 5)
    torch.testing.assert_close(found.flatten(2).sum(-1), torch.ones(3, 2, dtype=torch.float64))
    tokens = module.tokens(maps)
    queries = module.queries.expand(3, -1, -1)
    expected = module.attention(queries, tokens, tokens, need_weights=True)[1]
    torch.testing.assert_close(found.flatten(2), expected, rtol=0, atol=1e-12)


def test_pooled_levels_are_the_sum_of_their_projected_means():
    torch.manual_seed(0)
    module = PooledAggregation(ImitateConfig(aggregation="pooled", token_width=6, levels=(1, 3)), CHANNELS).double()
    maps = pyramid()
    expected = torch.zeros(3, 12, dtype=torch.float64)
    for number, level in enumerate((0, 2)):
        mean = maps[level].flatten(2).mean(2)
        normal = (mean - mean.mean(1, keepdim=True)) / (mean.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        expected += normal @ module.projections[number].weight.T
    torch.testing.assert_close(torch.cat(module(maps)[:2], 1), expected)


@pytest.mark.parametrize("aggregation", ["spatial", "pooled"])
@pytest.mark.parametrize("levels", [(1, 2, 3, 4), (4,)])
def test_a_model_of_places_is_saved_and_read_again(aggregation, levels, tmp_path):
    settings = dict(backbone="resnet18", backbone_options={"channels": [4, 8, 16, 32]}, prepared_size=36)
    settings |= dict(image_size=32, grid=4, joint_width=16, text_width=12, token_width=8, levels=levels)
    model = seeded_model(ImitateConfig(aggregation=aggregation, **settings), pretrained=False, seed=0).eval()
    model.save(tmp_path)
    again, images = Imitate.from_pretrained(tmp_path), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        ours, theirs = model.encode_image(images), again.encode_image(images)
    assert ours.findings.shape == ours.impression.shape == (2, 16)
    assert torch.equal(ours.findings, theirs.findings) and torch.equal(ours.impression, theirs.impression)
    assert not torch.allclose(ours.findings, ours.impression)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(aggregation="pooled", levels=()), "aggregation pooled has no effect without levels"),
        (dict(aggregation="spatial", token_width=30, heads=4), "heads 4 must divide token_width 30"),
        (dict(texts=[{"text": "report", "branch": "impression"}]), "levels have no effect if the findings branch"),
        (dict(texts=[{"text": "report", "branch": "findings"}] * 2), "texts lists a text twice for one branch"),
    ],
)
def test_what_has_no_effect_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ImitateConfig(**settings)
