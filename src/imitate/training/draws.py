"""The randomness of a pre-training step, drawn on the CPU from (seed, step) alone."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from imitate.config import Recipe
from imitate.data.augment import ViewDraw, draw_views
from imitate.models.aggregation import draw_channels
from imitate.models.imitate import Imitate


class StepDraw(NamedTuple):
    """All randomness of one step, drawn beforehand so that it can be recorded and replayed."""

    views: list[ViewDraw]
    channels_text: list[list[Tensor]]  # m1 of each view: channels for image with text
    channels_views: list[list[Tensor]]  # m2 of each view: channels for view with view
    side: int | None = None  # of the views; None: the model's


def draw_step(
    model: Imitate, recipe: Recipe, *, step: int, part: slice = slice(None), side: int | None = None
) -> StepDraw:
    """A step's randomness, from (seed, step) alone; views are drawn for the global batch, ``part`` is this rank's."""
    generator = torch.Generator().manual_seed(recipe.training.seed * 1_000_003 + step)
    count, batch = recipe.objective.views, recipe.training.batch_size
    views = [draw_views(batch, recipe.augment, recipe.model, generator, part) for _ in range(count)]

    def channels() -> list[list[Tensor]]:
        if not model.config.draws_channels:
            return [[] for _ in range(count)]
        sizes = (model.aggregation.channels, model.aggregation.keep)
        drawn = [draw_channels(*sizes, generator, model.config.channel_draw, batch) for _ in range(count)]
        return [[index[part] if index.ndim == 2 else index for index in view] for view in drawn]

    return StepDraw(views, channels(), channels(), side)


def side_at(sides: Sequence[int], step: int, total: int) -> int | None:
    """Of the views at a step: each of ``sides`` has an equal part of the steps, the last one what is left."""
    return sides[min(step * len(sides) // total, len(sides) - 1)] if sides else None


def move(draw: StepDraw, device: torch.device) -> StepDraw:
    """The draw on the model's device, in one copy that is not waited for."""
    channels = draw.channels_text, draw.channels_views
    flat = [value for view in draw.views for value in view]
    flat += [index for each in channels for levels in each for index in levels]
    sent = iter(_in_one_copy(flat, device))
    views = [ViewDraw(*(next(sent) for _ in view)) for view in draw.views]
    text, pairs = ([[next(sent) for _ in levels] for levels in each] for each in channels)
    return StepDraw(views, text, pairs, draw.side)


def _in_one_copy(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    order = sorted(range(len(tensors)), key=lambda i: -tensors[i].itemsize)  # so that each begins at a multiple of it
    packed = torch.cat([tensors[i].flatten().view(torch.uint8) for i in order])
    packed = (packed.pin_memory() if device.type == "cuda" else packed).to(device, non_blocking=True)
    parts = packed.split([tensors[i].nbytes for i in order])
    found = {i: part.view(tensors[i].dtype).view(tensors[i].shape) for i, part in zip(order, parts, strict=True)}
    return [found[i] for i in range(len(tensors))]
