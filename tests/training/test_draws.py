"""A step's randomness, and its way to the device."""

import pytest
import torch
from recipes import tiny_recipe

from imitate.models.imitate import seeded_model
from imitate.training.draws import draw_step, move, side_at


def test_each_side_has_its_part_of_the_steps_and_the_last_one_what_is_left():
    assert [side_at((32, 48, 64), step, 8) for step in range(9)] == [32, 32, 32, 48, 48, 48, 64, 64, 64]
    assert side_at((), 3, 8) is None


def test_seeds_and_steps_draw_apart():
    def drawn(seed: int, step: int) -> torch.Tensor:
        recipe = tiny_recipe(seed=seed)
        return draw_step(model, recipe, step=step).views[0][0]

    model = seeded_model(tiny_recipe().model, pretrained=False, seed=0)
    draws = [drawn(seed, step) for seed, step in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0))]
    assert len({tuple(each.flatten().tolist()) for each in draws}) == 5
    generator = torch.Generator().manual_seed(2 * 1_000_003 + 5)
    assert torch.equal(generator.get_state(), _state(model, tiny_recipe(seed=2), 5))


def _state(model, recipe, step):
    """Of the generator before it has drawn anything."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imitate.training.draws.draw_views", lambda *given: seen.append(given[3].get_state()))
        draw_step(model, recipe, step=step)
    return seen[0]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_draw_is_copied_at_once_from_pinned_memory_where_there_is_a_gpu(monkeypatch, device):
    recipe = tiny_recipe()
    draw = draw_step(seeded_model(recipe.model, pretrained=False, seed=0), recipe, step=1)
    pinned, sent = [], []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self.dtype) or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *where, **how: sent.append((*where, how)) or self)
    found = move(draw, torch.device(device))
    monkeypatch.undo()
    assert sent == [(torch.device(device), {"non_blocking": True})] and pinned == [torch.uint8] * (device == "cuda")
    for ours, theirs in zip(found.views, draw.views, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
