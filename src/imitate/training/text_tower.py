"""An objective whose texts are word pieces: the text tower encodes them in each step."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from imitate.models.text_tower import TextTower
from imitate.names import REPORT, SECTIONS, SENTENCES


class Reading(nn.Module):
    """The step of any objective behind a text tower, with the tower's vectors in the place of stored ones.

    With ``chunk`` the tower sees at most so many texts at once, and what it keeps for backward is computed again.
    """

    def __init__(self, tower: TextTower, step: nn.Module, *, chunk: int | None = None) -> None:
        super().__init__()
        self.tower, self.step, self._chunk = tower, step, chunk

    def forward(self, batch: dict[str, Any], draw: Any) -> dict[str, Tensor]:
        vectors = {name: self._encode(batch[name]) for name in (*SECTIONS, REPORT, SENTENCES) if name in batch}
        terms: dict[str, Tensor] = self.step({**batch, **vectors}, draw)
        return terms

    def _encode(self, pieces: Tensor) -> Tensor:
        if self._chunk is None or self._chunk >= len(pieces):
            vectors: Tensor = self.tower(pieces)
            return vectors
        return torch.cat([checkpoint(self.tower, part, use_reentrant=False) for part in pieces.split(self._chunk)])
