"""A corpus in which only the boxes and masks of some classes count."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd
from jaxtyping import Int, UInt8

from imitate.data.annotations import Box, RunLengths
from imitate.data.columns import Columns
from imitate.data.corpus import Corpus, merge
from imitate.data.folder import Folder
from imitate.data.marks import pixels_of, regions_of
from imitate.data.stacked import Stacked
from imitate.errors import UserError

SHARDS = 1024  # whose boxes and masks are held at once


class ChosenColumns(Columns):
    """As ``Columns``, without what is marked as another class."""

    def __init__(self, folder: Folder, places: Int[np.ndarray, " rows"], labels: Sequence[str]) -> None:
        super().__init__(folder, places)
        self.chosen = frozenset(labels)
        self._lists = lru_cache(SHARDS)(self._read_lists)  # masks are drawn in any order of the images

    def boxes(self, row: int) -> list[Box]:
        return [box for box in super().boxes(row) if box.label in self.chosen]

    def regions(self, row: int) -> list[RunLengths]:
        return [region for region in super().regions(row) if region.label in self.chosen]

    def box_counts(self) -> Int[np.ndarray, " rows"]:
        return np.array([len(self.boxes(row)) for row in range(len(self.places))], np.int64)

    def region_counts(self) -> Int[np.ndarray, " rows"]:
        return np.array([len(self.regions(row)) for row in range(len(self.places))], np.int64)


def only(data: Corpus, labels: Sequence[str]) -> Corpus:
    """The corpus with the marks of these classes alone: its masks are drawn from them when they are read.

    UserError: one of them is marked on no image.
    """
    there = sorted(_marked(data))
    if absent := [label for label in labels if label not in there]:
        marked = f"it marks {', '.join(there)}" if there else "it marks no class"
        raise UserError(f"{data.root} marks no {absent[0]!r}; {marked}: choose among them")
    return _only(data, labels)


def _marked(data: Corpus) -> set[str]:
    """The classes of all boxes and masks."""
    if data.parts:
        return set().union(*map(_marked, data.parts))
    if data.columns:
        return data.columns.marked()
    return {box.label for row in range(len(data)) for box in data.boxes(row)} - {""}


def _only(data: Corpus, labels: Sequence[str]) -> Corpus:
    if data.parts:
        return merge([_only(part, labels) for part in data.parts])
    if data.columns:
        kept = replace(data, columns=ChosenColumns(data.columns.folder, data.columns.places, labels))
    else:
        boxes = pd.Series([[box for box in some if box["label"] in labels] for some in data.table["boxes"]])
        kept = replace(data, table=data.table.assign(boxes=boxes.set_axis(data.table.index)))
    ends, side = np.array([len(kept)], np.int64), (kept.size, kept.size)
    return replace(kept, masks=Stacked(lambda _: _Masks(kept), ends, shape=side))


class _Masks:
    """Of each image, the union of its masks; of one without, of its boxes."""

    def __init__(self, data: Corpus) -> None:
        self.data = data

    def __getitem__(self, rows: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n size size"]:
        drawn = np.zeros((len(rows), self.data.size, self.data.size), np.uint8)
        for place, row in enumerate(rows.tolist()):
            drawn[place] = pixels_of(self.data, self.data.boxes(row), regions_of(self.data, row), row)
        return drawn
