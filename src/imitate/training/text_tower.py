"""An objective whose texts are word pieces: the text tower encodes them in each step."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from imitate.models.text_tower import TextTower

BRANCHES = ("findings", "impression")


class Reading(nn.Module):
    """The step of any objective behind a text tower, with the tower's vectors in the place of stored ones.

    A text that both branches learn from is encoded once. With ``chunk`` the tower sees at most so many texts at once,
    and what it keeps for backward is computed again.
    """

    def __init__(
        self, tower: TextTower, step: nn.Module, sources: tuple[str, str], *, chunk: int | None = None
    ) -> None:
        """``sources`` are the texts of the findings and of the impression branch."""
        super().__init__()
        self.tower, self.step = tower, step
        self._sources, self._chunk = sources, chunk

    def forward(self, batch: dict[str, Any], draw: Any) -> dict[str, Tensor]:
        encoded: dict[str, Tensor] = {}
        for branch, source in zip(BRANCHES, self._sources, strict=True):
            if source not in encoded:
                encoded[source] = self._encode(batch[branch])
        vectors = {branch: encoded[source] for branch, source in zip(BRANCHES, self._sources, strict=True)}
        terms: dict[str, Tensor] = self.step({**batch, **vectors}, draw)
        return terms

    def _encode(self, pieces: Tensor) -> Tensor:
        if self._chunk is None or self._chunk >= len(pieces):
            return self.tower(pieces)
        return torch.cat([checkpoint(self.tower, part, use_reentrant=False) for part in pieces.split(self._chunk)])
