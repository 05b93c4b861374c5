"""Rows of several pieces, such as the shards of a folder, read as one array along the first axis."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Int

KEPT = 2**15  # pieces at once: a system limits the memory maps of a process


def by_piece(rows: Int[np.ndarray, " n"], ends: Int[np.ndarray, " pieces"]) -> Iterator[tuple[int, Any, Any]]:
    """The pieces that hold any of these rows: number, positions in ``rows``, and the rows counted in the piece.

    ``ends`` is the first row after each piece.
    """
    piece = np.searchsorted(ends, rows, side="right")
    order = np.argsort(piece, kind="stable")
    for positions in np.split(order, np.flatnonzero(np.diff(piece[order])) + 1):
        if len(positions):
            number = int(piece[positions[0]])
            yield number, positions, rows[positions] - (ends[number - 1] if number else 0)


class Stacked:
    """An array in pieces: ``stacked[rows]`` is a copy, for an int, a slice or an array of rows.

    ``places`` selects and orders the rows; a piece is fetched when it is first read.
    """

    def __init__(
        self,
        fetch: Callable[[int], Any],
        ends: Int[np.ndarray, " pieces"],
        *,
        shape: tuple[int, ...],
        dtype: Any = np.uint8,
        places: Int[np.ndarray, " rows"] | None = None,
    ) -> None:
        """``shape`` is that of one row."""
        self._fetch, self._ends = fetch, ends
        self._pieces: dict[int, Any] = {}
        self._places = np.arange(ends[-1] if len(ends) else 0) if places is None else places
        self.shape, self.dtype = (len(self._places), *shape), np.dtype(dtype)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, rows: Any) -> np.ndarray:
        places = np.asarray(self._places[rows], dtype=np.int64)
        flat = places.reshape(-1)
        out = np.empty((len(flat), *self.shape[1:]), self.dtype)
        for number, positions, local in by_piece(flat, self._ends):
            out[positions] = self._piece(number)[local]
        return out.reshape(*places.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def _piece(self, number: int) -> Any:
        if number not in self._pieces:
            if len(self._pieces) >= KEPT:
                self._pieces.clear()
            self._pieces[number] = self._fetch(number)
        return self._pieces[number]
