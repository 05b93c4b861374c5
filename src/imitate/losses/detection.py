"""The YOLOv3 loss of the frozen-encoder protocol, for one class."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

IGNORE = 0.5  # IoU by width and height above which an anchor is not trained to be empty
BOX_WEIGHT = 2.5
EMPTY_WEIGHT = 0.5

Raw = Float[Tensor, "batch anchors 6 _ _"]
Boxes = Float[Tensor, "batch objects 4"]


class Assignment(NamedTuple):
    """What each anchor of each cell should say."""

    positive: Bool[Tensor, "batch anchors height width"]
    empty: Bool[Tensor, "batch anchors height width"]  # held to "no object"
    offsets: Float[Tensor, "batch anchors 4 height width"]  # x and y in the cell; ln(side / anchor)


def assign(boxes: Boxes, anchors: Float[Tensor, "anchors 2"], grid: tuple[int, int]) -> Assignment:
    """Boxes (corners) and anchors (sides) in units of the grid's cells; a box without area is padding.

    Each box goes to the cell of its centre and there to the anchor of the best IoU by width and height (sides plus
    one). Anchors of that cell with IoU > 0.5 are not ``empty``; the positive one stays ``empty`` where its IoU is not,
    as in the published protocol. A later box overwrites an earlier one.
    """
    height, width = grid
    positive = torch.zeros((len(boxes), len(anchors), height, width), dtype=torch.bool, device=boxes.device)
    empty = torch.ones_like(positive)
    offsets = boxes.new_zeros((len(boxes), height, width, len(anchors), 4))
    last = boxes.new_tensor([width - 1, height - 1])
    for corners in boxes.unbind(1):
        image = (corners[:, 2:] > corners[:, :2]).all(dim=1).nonzero().squeeze(1)
        low, high = corners[image].split(2, dim=1)
        centre, sides = (low + high) / 2, high - low
        cell = torch.minimum(centre.floor().clamp(min=0), last)
        column, row = cell.long().unbind(1)
        overlap = _overlap(sides, anchors)
        best = overlap.argmax(dim=1)
        which, anchor = (overlap > IGNORE).nonzero(as_tuple=True)
        empty[image[which], anchor, row[which], column[which]] = False
        positive[image, best, row, column] = True
        offsets[image, row, column, best] = torch.cat([centre - cell, (sides / anchors[best]).log()], dim=1)
    return Assignment(positive, empty, offsets.permute(0, 3, 4, 1, 2))


def _overlap(sides: Float[Tensor, "boxes 2"], anchors: Float[Tensor, "anchors 2"]) -> Float[Tensor, "boxes anchors"]:
    shared = (torch.minimum(sides[:, None], anchors) + 1).prod(dim=-1)
    return shared / ((sides + 1).prod(dim=-1)[:, None] + (anchors + 1).prod(dim=-1) - shared)


def scale_loss(raw: Raw, target: Assignment) -> Float[Tensor, ""]:
    """2.5 (BCE x + BCE y + MSE w + MSE h) + BCE(objectness) + 0.5 BCE(no object) + BCE(class).

    Each term is masked by its assignment and averaged over all anchors of all cells, not over the objects.
    """
    entropy = functional.binary_cross_entropy_with_logits
    place = entropy(raw[:, :, :2], target.offsets[:, :, :2], reduction="none").sum(dim=2)
    shape = (raw[:, :, 2:4] - target.offsets[:, :, 2:]).square().sum(dim=2)
    there = functional.softplus(-raw[:, :, 4:]).sum(dim=2)  # objectness and the one class
    absent = functional.softplus(raw[:, :, 4])
    return ((BOX_WEIGHT * (place + shape) + there) * target.positive + EMPTY_WEIGHT * absent * target.empty).mean()


def detection_loss(
    raw: list[Raw], boxes: Boxes, *, anchors: Float[Tensor, "scales anchors 2"], size: int
) -> Float[Tensor, ""]:
    """Sum over the scales; ``boxes`` (corners, padded with zeros) and ``anchors`` in pixels of an input of ``size``."""
    total = boxes.new_zeros(())
    for maps, sides in zip(raw, anchors, strict=True):
        height, width = maps.shape[-2:]
        cells = boxes.new_tensor([width / size, height / size])
        total = total + scale_loss(maps, assign(boxes * cells.repeat(2), sides * cells, (height, width)))
    return total
