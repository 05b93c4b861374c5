"""CLS-only attention against the published module, which computes all of it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from imitate.config import ImitateConfig
from imitate.errors import UserError
from imitate.models.aggregation import HierarchicalAggregation, draw_channels, pool

CHANNELS = [16, 32, 64, 128]
SIZES = [28, 14, 7, 4]


def build(**settings) -> HierarchicalAggregation:
    torch.manual_seed(0)
    config = ImitateConfig(**{"grid": 4, "slots": 48, "heads": 4, **settings})
    module = HierarchicalAggregation(config, CHANNELS).double()
    nn.init.normal_(module.positional_embedding, std=0.5)
    nn.init.normal_(module.attention.in_proj_bias)
    return module


def pyramid(batch: int = 3) -> list[torch.Tensor]:
    return [torch.randn(batch, c, s, s, dtype=torch.float64) for c, s in zip(CHANNELS, SIZES, strict=True)]


def published(module: HierarchicalAggregation, levels, draw) -> torch.Tensor:
    """The published module to the letter: pad to all slots, CLS last with position 0, full self-attention, residual."""
    tokens = torch.cat(
        [F.adaptive_avg_pool2d(x[:, i], module.grid).flatten(2) for x, i in zip(levels, draw, strict=True)], 1
    )
    slots = module.positional_embedding.shape[1] - 1
    tokens = F.pad(tokens, (0, 0, 0, slots - tokens.shape[1])) + module.positional_embedding[:, 1:]
    cls = (module.cls_token + module.positional_embedding[:, :1]).expand(len(tokens), -1, -1)
    sequence = torch.cat([tokens, cls], dim=1)
    out, _ = module.attention(sequence, sequence, sequence)
    return (out + sequence)[:, -1]


def test_equals_the_published_attention_in_value_and_gradient():
    module, levels = build(), pyramid()
    draw = draw_channels(CHANNELS, module.keep, torch.Generator().manual_seed(1))
    weight = torch.randn(3, 16, dtype=torch.float64)
    gradients = []
    for run in (lambda: module(levels, draw), lambda: published(module, levels, draw)):
        module.zero_grad()
        inputs = [level.requires_grad_() for level in levels]
        out = run()
        (out * weight).sum().backward()
        gradients.append([out, *(p.grad.clone() for p in module.parameters()), *(x.grad.clone() for x in inputs)])
        for level in levels:
            level.grad = None
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(56, 56), (16, 16), (7, 9), (2, 2), (3, 50), (17, 1)])
@pytest.mark.parametrize("grid", [16, 5])
def test_pooling_equals_torchs_and_loses_nothing_where_it_only_repeats(size, grid):
    maps = torch.randn(2, 3, *size, dtype=torch.float64)

    def pooled(maps, grid):
        return pool(maps.movedim(1, -1), grid).movedim(-1, 1)

    torch.testing.assert_close(pooled(maps, grid), F.adaptive_avg_pool2d(maps, grid), rtol=0, atol=1e-12)
    if max(size) <= 2:
        assert torch.equal(pooled(maps.bfloat16(), 16), F.adaptive_avg_pool2d(maps.bfloat16(), 16))


def test_the_published_network_keeps_446_of_512_slots():
    module = HierarchicalAggregation(ImitateConfig(), [256, 512, 1024, 2048])
    assert module.keep == [64, 76, 102, 204]
    assert module.positional_embedding.shape == (1, 513, 256)


def test_draws_are_with_replacement_in_range_and_replayable():
    first, second = (draw_channels(CHANNELS, [8, 8, 8, 100], torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(int(index.max()) < c for index, c in zip(first, CHANNELS, strict=True))
    assert len(first[3].unique()) < 100


@pytest.mark.parametrize("keep", [(0.25, 0.15, 0.10, 0.10), (0.8, 0.6, 0.4, 0.2)])
def test_inference_is_the_expectation_of_the_draws(keep):
    """2,000 draws average to what all channels give, but for a 25th of what one draw differs by.

    The levels differ, so that one that took the fraction of the softmax of another would show.
    """
    torch.manual_seed(0)
    module, levels = build(keep=keep, slots=256).eval(), pyramid(2)
    levels = [level * 0.3 + shift for level, shift in zip(levels, (2.0, -2.0, -1.0, 1.0), strict=True)]
    module.positional_embedding.data *= 0.1
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        whole = module(levels)
        draws = torch.stack([module(levels, draw_channels(CHANNELS, module.keep, generator)) for _ in range(2000)])
    assert float((draws.mean(0) - whole).norm() / draws.std(0).norm()) < 0.04
    assert torch.equal(module(levels), whole)


def test_the_cls_token_starts_at_zero_as_published_and_no_other_weight_depends_on_it():
    zeros, normal = build(cls_token="zeros"), build()
    assert zeros.cls_token.eq(0).all() and normal.cls_token.std() > 0.1
    assert torch.equal(zeros.attention.in_proj_weight, normal.attention.in_proj_weight)


def test_a_channel_at_least_is_kept_and_the_slots_may_all_be_taken():
    module = build(keep=(0.01, 0.1, 0.5, 0.25), slots=1 + 3 + 32 + 32)
    assert module.keep == [1, 3, 32, 32]
    torch.manual_seed(0)
    start = torch.randn(1, 1, 16) / 4
    torch.testing.assert_close(build().cls_token.float(), start)
    assert [len(index) for index in draw_channels(CHANNELS, [2] * 4, torch.Generator(), "sample")] == [1] * 4
    assert [index.shape for index in draw_channels(CHANNELS, [2] * 4, torch.Generator(), batch=3)] == [(2,)] * 4
    assert build(feed_forward=True).feed_forward.block[0].out_features == 4 * 16


def test_fewer_levels_read_only_those():
    module, levels = build(levels=(3, 4), keep=(0.1, 0.1)), pyramid()
    before = module(levels)
    levels[0] += 1
    levels[1] += 1
    assert torch.equal(module(levels), before)


def test_too_many_channels_for_the_slots_is_reported():
    with pytest.raises(UserError, match="slots is 8"):
        build(slots=8)


def test_distinct_channels_are_drawn_without_replacement():
    drawn = draw_channels(CHANNELS, [8, 8, 8, 100], torch.Generator().manual_seed(5), "distinct")
    assert [len(index.unique()) for index in drawn] == [8, 8, 8, 100]
    assert all(int(index.max()) < c for index, c in zip(drawn, CHANNELS, strict=True))


def test_each_sample_attends_to_a_draw_of_its_own():
    module, levels = build(), pyramid(3)
    drawn = draw_channels(CHANNELS, module.keep, torch.Generator().manual_seed(5), "sample", 3)
    whole = module(levels, drawn)
    for i in range(3):
        alone = module([level[i : i + 1] for level in levels], [index[i] for index in drawn])
        torch.testing.assert_close(whole[i : i + 1], alone, rtol=0, atol=1e-12)
    assert not torch.equal(drawn[3][0], drawn[3][1])


def test_the_feed_forward_block_follows_the_attention():
    plain, module, levels = build(), build(feed_forward=True), pyramid()
    module.load_state_dict(plain.state_dict(), strict=False)
    block = module.feed_forward
    x = F.layer_norm(plain(levels), (16,))
    first, last = block.block[0], block.block[2]
    hidden = F.gelu(x @ first.weight.T + first.bias)
    torch.testing.assert_close(module(levels), F.layer_norm(x + hidden @ last.weight.T + last.bias, (16,)))
