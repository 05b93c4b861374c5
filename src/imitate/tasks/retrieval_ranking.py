"""Where the right answers stand among all candidates: exact ranks, a block of queries at a time."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from imitate.statistics.metrics import hit_probability

RECALL_AT = (1, 5, 10)
PRECISION_AT = (1, 5, 10, 50, 100)
CELLS = 2**22  # of the similarity matrix, held at once
LEAST = 32  # queries at once: what a million candidates take to read is then shared, what they take to hold is not
GRID = 2**20  # cosines that agree to a millionth are tied: float32 sums of equal terms differ by less
Column = Float[np.ndarray, " queries"]


class Side(NamedTuple):
    """Queries or gallery: vectors to multiply, the text that each row belongs to, and its classes, 0 or 1.

    The last class says that there is no other; a row of zeros is unknown; without labels there are no columns.
    """

    vectors: Float[Tensor, "rows width"]
    text: Int[Tensor, " rows"]
    classes: Float[Tensor, "rows classes"]


class Ranks(NamedTuple):
    """For each query, how many of the ``pool`` candidates are ..."""

    pool: int
    hits: Column  # of its text
    above: Column  # more similar than the first hit
    tied: Column  # as similar as the first hit, itself included
    tied_hits: Column  # both
    relevant: Column  # of a class in common; NaN where the query's classes are unknown
    precision: dict[int, Column]  # k -> share of relevant ones among the first k

    def taken(self, order: np.ndarray) -> "Ranks":
        """Of the queries in this order."""
        pool, *columns, precision = self
        taken = {k: each[order] for k, each in precision.items()}
        return Ranks._make([pool, *(column[order] for column in columns), taken])


def rank(queries: Side, gallery: Side) -> Ranks:
    """Rank the gallery for each query by the product of the vectors. Every query needs a hit."""
    return rank_each([(queries, gallery)])[0]


def rank_each(sides: Sequence[tuple[Side, Side]]) -> list[Ranks]:
    """``rank`` of each pair of queries and gallery, in one pass: all have the vectors of the first pair."""
    queries, gallery = sides[0]
    pool, size = len(gallery.text), max(LEAST, CELLS // len(gallery.text))
    ks = [k for k in PRECISION_AT if k <= pool and gallery.classes.shape[1]]
    blocks: list[list[Tensor]] = [[] for _ in sides]
    for start in range(0, len(queries.text), size):
        similarity = (queries.vectors[start : start + size] @ gallery.vectors.T * GRID).round()
        top = similarity.topk(max(ks, default=0)).values
        for block, (asked, among) in zip(blocks, sides, strict=True):
            block.append(_block(similarity, top, Side(*(part[start : start + size] for part in asked)), among, ks))
    found = []
    for block in blocks:
        hits, above, tied, tied_hits, relevant, *precision = torch.cat(block, 1).cpu().numpy()
        found.append(Ranks(pool, hits, above, tied, tied_hits, relevant, dict(zip(ks, precision, strict=True))))
    return found


def at_random(ranks: Ranks) -> Ranks:
    """The same queries and gallery as a constant model ranks them: everything is tied."""
    pool = np.full_like(ranks.hits, ranks.pool)
    share = ranks.relevant / ranks.pool
    return ranks._replace(
        above=0 * pool, tied=pool, tied_hits=ranks.hits, precision=dict.fromkeys(ranks.precision, share)
    )


def figures(ranks: Ranks) -> dict[str, Column]:
    """Each query's recall@k and precision@k where the pool allows, and percentile: expectations over orders of ties."""
    pool, above, tied, hits = ranks.pool, ranks.above, ranks.tied, ranks.tied_hits
    recall = {f"recall@{k}": hit_probability(hits, tied, (k - above).clip(0)) for k in RECALL_AT if k <= pool}
    first = above + (tied + 1) / (hits + 1)
    precision = {f"precision@{k}": column for k, column in ranks.precision.items()}
    return {**recall, "percentile": (pool - first) / (pool - 1), **precision}


def _block(
    similarity: Tensor, top: Tensor, queries: Side, gallery: Side, ks: list[int]
) -> Float[Tensor, "columns queries"]:
    hit = queries.text[:, None] == gallery.text
    best = similarity.masked_fill(~hit, -torch.inf).amax(1, keepdim=True)
    tied = similarity == best
    common = queries.classes @ gallery.classes.T > 0
    unknown = torch.where(queries.classes.any(1), 0.0, torch.nan)
    columns = [hit.sum(1), (similarity > best).sum(1), tied.sum(1), (tied & hit).sum(1), common.sum(1) + unknown]
    for k in ks:
        over, equal = similarity > top[:, k - 1 : k], similarity == top[:, k - 1 : k]
        among_equal = (common & equal).sum(1) / equal.sum(1)
        columns.append(((common & over).sum(1) + (k - over.sum(1)) * among_equal) / k + unknown)
    return torch.stack([column.double() for column in columns])
