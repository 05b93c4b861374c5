"""The columns of a prepared folder that stay on disk: texts, labels, boxes, regions."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from imitate.data.annotations import Box, RunLengths
from imitate.data.folder import LIGHT, Folder
from imitate.data.stacked import Stacked, by_piece
from imitate.errors import UserError

BOX = ("label", "x", "y", "width", "height", "phrase", "reader")


class Columns:
    """``places`` are the folder's rows that a corpus has, ascending."""

    def __init__(self, folder: Folder, places: Int[np.ndarray, " rows"]) -> None:
        self.folder, self.places = folder, places
        self._ends = folder.ends
        self._lists = lru_cache(16)(self._read_lists)  # whoever asks for one image asks for its neighbours

    def holds(self, name: str) -> bool:
        """Whether the folder has this column; those of version 0.1 lack some."""
        return bool(self.folder.shards) and self.folder.holds(0, name)

    def take(self, name: str, rows: Int[np.ndarray, " n"]) -> pa.ChunkedArray:
        """A column at these rows of the corpus, in any order; only their shards are read."""
        pieces, order = [], []
        for number, positions, local in by_piece(self.places[rows], self._ends):
            pieces.append(self.folder.read(number, [name])[name].take(pa.array(local)))
            order.append(positions)
        if not pieces:
            return pa.chunked_array([], pa.null())
        joined = pa.chunked_array([chunk for piece in pieces for chunk in piece.chunks])
        return joined.take(pa.array(np.argsort(np.concatenate(order))))

    def stream(self, name: str) -> Iterator[pa.ChunkedArray]:
        """The whole column, a shard at a time."""
        for number, _, local in by_piece(self.places, self._ends):
            yield self.folder.read(number, [name])[name].take(pa.array(local))

    def boxes(self, row: int) -> list[Box]:
        found = self._marks("boxes", row)
        return [Box(**{name: box[name] for name in BOX if box.get(name) is not None}) for box in found]

    def regions(self, row: int) -> list[RunLengths]:
        size = (self.folder.meta["size"],) * 2
        found = self._marks("regions", row)
        return [RunLengths(each["label"], each["runs"], size, each["phrase"], each["reader"]) for each in found]

    def box_counts(self) -> Int[np.ndarray, " rows"]:
        return self._counts("boxes")

    def region_counts(self) -> Int[np.ndarray, " rows"]:
        return self._counts("regions")

    def marked(self) -> set[str]:
        """The classes of boxes and regions, wherever they are."""
        found: set[str] = set()
        for number, _, local in by_piece(self.places, self._ends):
            for column in ("boxes", "regions"):
                if (lists := self._lists(column, number)) is not None:
                    found.update(pc.struct_field(lists.take(pa.array(local)).flatten(), "label").to_pylist())
        return found - {"", None}

    def labels(self, classes: Sequence[str]) -> Float[np.ndarray, "rows classes"]:
        parts = [self._matrix(piece, len(classes)) for piece in self.stream("labels")]
        return np.concatenate([np.zeros((0, len(classes)), np.float32), *parts])

    def _matrix(self, column: pa.ChunkedArray, width: int) -> Float[np.ndarray, "rows classes"]:
        lists = column.combine_chunks()
        known = lists.is_valid().to_numpy(zero_copy_only=False)
        if not (pc.list_value_length(lists).fill_null(width).to_numpy() == width).all():
            raise UserError(f"{self.folder.root}: not every row has {width} label values: prepare it again")
        out = np.full((len(lists), width), np.nan, np.float32)
        values = lists.flatten().cast(pa.float32()).fill_null(np.nan)
        out[known] = values.to_numpy(zero_copy_only=False).reshape(-1, width)
        return out

    def _counts(self, column: str) -> Int[np.ndarray, " rows"]:
        counts = [np.zeros(0, np.int64)]
        for number, _, local in by_piece(self.places, self._ends):
            lists = self._lists(column, number)
            counts.append(
                np.zeros(len(local), np.int64)
                if lists is None
                else pc.list_value_length(lists.take(pa.array(local))).fill_null(0).to_numpy()
            )
        return np.concatenate(counts).astype(np.int64)

    def _marks(self, column: str, row: int) -> list[dict[str, Any]]:
        place = int(self.places[row])
        number = int(np.searchsorted(self._ends, place, side="right"))
        lists = self._lists(column, number)
        start = int(self._ends[number - 1]) if number else 0
        return [] if lists is None else lists[place - start].as_py() or []

    def _read_lists(self, column: str, number: int) -> pa.Array | None:
        """None where the shard has no regions; boxes are in all of them."""
        if column == "regions" and not self.folder.holds(number, column):
            return None
        return self.folder.read(number, [column])[column].combine_chunks()


def light_columns(folder: Folder) -> pa.Table:
    """The light columns of every shard."""
    with ThreadPoolExecutor() as pool:
        tables = list(pool.map(folder.light, range(len(folder.shards))))
    return pa.concat_tables([LIGHT.empty_table(), *tables])


def on_disk(folder: Folder, places: Int[np.ndarray, " rows"]) -> dict[str, Any]:
    """What of a corpus stays on disk."""
    side = folder.meta["size"]

    def pixels(*, masks: bool) -> Stacked:
        return Stacked(partial(folder.pixels, masks=masks), folder.ends, shape=(side, side), places=places)

    masked = bool(folder.shards) and all(shard.masks for shard in folder.shards)
    return {
        "images": pixels(masks=False),
        "masks": pixels(masks=True) if masked else None,
        "columns": Columns(folder, places),
    }
