"""The nearest vectors of a gallery of any size, a block of it at a time."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from imitate.errors import UserError
from imitate.names import Search

CELLS = 2**24  # of the matrix of products, held at once
GALLERY = 2**16  # rows of a block


def nearest(
    queries: Float[Tensor, "queries width"], gallery: Float[Tensor, "rows width"], k: int, *, engine: Search = "exact"
) -> Int[Tensor, "queries k"]:
    """Each query's ``k`` rows with the largest products, the largest first; of equal ones any order.

    ``faiss`` asks FAISS's flat inner-product index, which is exact as well; it needs the extra [faiss].
    """
    assert 1 <= k <= len(gallery)
    if engine == "faiss":
        return _by_faiss(queries, gallery, k)
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


def _by_faiss(queries: Tensor, gallery: Tensor, k: int) -> Tensor:
    try:
        import faiss
    except ImportError as error:
        raise UserError("FAISS is not installed: pip install 'imitate-cxr[faiss]', or search exactly") from error
    index = faiss.IndexFlatIP(gallery.shape[1])
    for part in gallery.split(GALLERY):
        index.add(np.ascontiguousarray(part.float().cpu().numpy()))
    found = index.search(np.ascontiguousarray(queries.float().cpu().numpy()), k)[1]
    return torch.from_numpy(found).to(queries.device)
