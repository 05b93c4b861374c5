"""What is marked on an image, by what the marks are said to show: phrases, or classes, with their pixels."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from imitate.data.annotations import Box, RunLengths, boxes_mask, runs_mask
from imitate.data.corpus import Corpus
from imitate.errors import UserError


class Mark(NamedTuple):
    """One phrase of an image, or one class where there is no phrase, with all of its pixels in the prepared square."""

    label: str
    phrase: str
    mask: Bool[np.ndarray, "size size"]


def marked(data: Corpus) -> Bool[np.ndarray, " rows"]:
    """Which images have a box, or a mask with a label or a phrase."""
    if data.parts:
        return np.concatenate([marked(part) for part in data.parts])
    return (data.box_counts() + (data.columns.region_counts() if data.columns else 0)) > 0


def marks(data: Corpus, row: int) -> list[Mark]:
    """Of one image, in the order of their first annotation; whoever read the image counts alike.

    A mark is the union of its masks, or where there is none, of its boxes. UserError: a mask is damaged.
    """
    boxes, regions = data.boxes(row), regions_of(data, row)
    every: list[Box | RunLengths] = [*boxes, *regions]
    found = []
    for label, phrase in dict.fromkeys((each.label, each.phrase) for each in every):
        key = (label, phrase)
        same_boxes = [each for each in boxes if (each.label, each.phrase) == key]
        same_regions = [each for each in regions if (each.label, each.phrase) == key]
        found.append(Mark(label, phrase, pixels_of(data, same_boxes, same_regions, row)))
    return found


def pixels_of(data: Corpus, boxes: list[Box], regions: list[RunLengths], row: int) -> Bool[np.ndarray, "size size"]:
    """The union of masks of an image, or where there is none, of boxes. UserError: a mask is damaged."""
    if not regions:
        return filled(boxes, data.size)
    try:
        return runs_mask(data.size, data.size, runs=[each.runs for each in regions], frame=(data.size, data.size))
    except ValueError as error:
        raise UserError(f"{data.root}: {error}, of a mask of image {row + 1}: prepare it again") from error


def filled(boxes: list[Box], size: int) -> Bool[np.ndarray, "size size"]:
    """The pixels whose middle lies in a box; a box that holds no such middle has the pixel under its own."""
    whole = np.zeros((size, size), bool)
    for box in boxes:
        mask = boxes_mask(size, size, boxes=[box])
        if not mask.any():
            middle = [int(start + extent / 2) for start, extent in ((box.y, box.height), (box.x, box.width))]
            down, across = (min(max(each, 0), size - 1) for each in middle)
            mask[down, across] = True
        whole |= mask
    return whole


def regions_of(data: Corpus, row: int) -> list[RunLengths]:
    """The masks of one image that have a class or a phrase."""
    for part in data.parts:
        if row < len(part):
            return regions_of(part, row)
        row -= len(part)
    return data.columns.regions(row) if data.columns else []
