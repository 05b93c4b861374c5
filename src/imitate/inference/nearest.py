"""The nearest vectors of a gallery of any size, a block of it at a time."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

CELLS = 2**24  # of the matrix of products, held at once
GALLERY = 2**16  # rows of a block


def nearest(
    queries: Float[Tensor, "queries width"], gallery: Float[Tensor, "rows width"], k: int
) -> Int[Tensor, "queries k"]:
    """Each query's ``k`` rows with the largest products, the largest first; of equal ones any order."""
    assert 1 <= k <= len(gallery)
    size = max(1, CELLS // min(GALLERY, len(gallery)))
    return torch.cat([_block(part, gallery, k) for part in queries.split(size)])


def _block(queries: Tensor, gallery: Tensor, k: int) -> Tensor:
    """The best of each block of the gallery compete with the best so far."""
    products = queries.new_full((len(queries), k), -torch.inf)
    rows = torch.zeros(len(queries), k, dtype=torch.long, device=queries.device)
    for start in range(0, len(gallery), GALLERY):
        part = gallery[start : start + GALLERY]
        found = (queries @ part.T).topk(min(k, len(part)))
        products, order = torch.cat([products, found.values], 1).topk(k)
        rows = torch.cat([rows, found.indices + start], 1).gather(1, order)
    return rows
