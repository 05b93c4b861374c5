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
    boxes, regions = data.boxes(row), _regions(data, row)
    every: list[Box | RunLengths] = [*boxes, *regions]
    found = []
    for label, phrase in dict.fromkeys((each.label, each.phrase) for each in every):
        runs = [each.runs for each in regions if (each.label, each.phrase) == (label, phrase)]
        if runs:
            try:
                mask = runs_mask(data.size, data.size, runs=runs, frame=(data.size, data.size))
            except ValueError as error:
                raise UserError(f"{data.root}: {error}, of a mask of image {row + 1}: prepare it again") from error
        else:
            mask = filled([each for each in boxes if (each.label, each.phrase) == (label, phrase)], data.size)
        found.append(Mark(label, phrase, mask))
    return found


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


def _regions(data: Corpus, row: int) -> list[RunLengths]:
    for part in data.parts:
        if row < len(part):
            return _regions(part, row)
        row -= len(part)
    return data.columns.regions(row) if data.columns else []
