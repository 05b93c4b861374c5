"""Where the right candidates stand among all candidates: exact ranks, a block of queries at a time."""

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
    ``patients``, sparse, has a column a patient, 1 for those whose row it is: what is of a query's patient without
    being a hit is no candidate. None: all are candidates.
    """

    vectors: Float[Tensor, "rows width"]
    text: Int[Tensor, " rows"]
    classes: Float[Tensor, "rows classes"]
    patients: Float[Tensor, "rows patients"] | None = None

    def taken(self, rows: Int[Tensor, " taken"]) -> "Side":
        """These rows, each with the vector of its own place."""
        patients = None if self.patients is None else self.patients.index_select(0, rows)
        return self._replace(text=self.text[rows], classes=self.classes[rows], patients=patients)

    def part(self, start: int, stop: int) -> "Side":
        rows = torch.arange(start, min(stop, len(self.text)), device=self.text.device)
        return self.taken(rows)._replace(vectors=self.vectors[start:stop])


class Ranks(NamedTuple):
    """For each query, how many of its candidates are ..."""

    gallery: int  # of all rows, also those that are no candidates
    pool: Column  # candidates
    hits: Column  # of its text
    above: Column  # more similar than the first hit
    tied: Column  # as similar as the first hit, itself included
    tied_hits: Column  # both
    relevant: Column  # of a class in common; NaN where the query's classes are unknown
    precision: dict[int, Column]  # k -> fraction of relevant ones among the first k

    def taken(self, order: np.ndarray) -> "Ranks":
        """Of the queries in this order."""
        gallery, *columns, precision = self
        taken = {k: each[order] for k, each in precision.items()}
        return Ranks._make([gallery, *(column[order] for column in columns), taken])


def rank(queries: Side, gallery: Side) -> Ranks:
    """Rank the gallery for each query by the product of the vectors. Every query needs a hit."""
    return rank_each([(queries, gallery)])[0]


def rank_each(sides: Sequence[tuple[Side, Side]]) -> list[Ranks]:
    """``rank`` of each pair of queries and gallery, in one pass: all have the vectors of the first pair."""
    queries, gallery = sides[0]
    total, size = len(gallery.text), max(LEAST, CELLS // len(gallery.text))
    ks = [k for k in PRECISION_AT if k <= total and gallery.classes.shape[1]]
    blocks: list[list[Tensor]] = [[] for _ in sides]
    for start in range(0, len(queries.text), size):
        similarity = (queries.vectors[start : start + size] @ gallery.vectors.T * GRID).round()
        top = similarity.topk(max(ks, default=0)).values if queries.patients is None else None
        for block, (asked, among) in zip(blocks, sides, strict=True):
            block.append(_block(similarity, top, asked.part(start, start + size), among, ks))
    found = []
    for block in blocks:
        pool, hits, above, tied, tied_hits, relevant, *precision = torch.cat(block, 1).cpu().numpy()
        ranks = Ranks(total, pool, hits, above, tied, tied_hits, relevant, dict(zip(ks, precision, strict=True)))
        found.append(ranks)
    return found


def at_random(ranks: Ranks) -> Ranks:
    """The same queries and gallery as a constant model ranks them: everything is tied."""
    pool = ranks.pool
    precision = {k: ranks.relevant / pool * (np.minimum(k, pool) / k) for k in ranks.precision}
    return ranks._replace(above=0 * pool, tied=pool, tied_hits=ranks.hits, precision=precision)


def query_metrics(ranks: Ranks) -> dict[str, Column]:
    """Each query's recall@k and precision@k where the gallery allows, and percentile: expectations over orders of ties.

    A query whose only candidates are hits has no percentile, NaN.
    """
    pool, above, tied, hits = ranks.pool, ranks.above, ranks.tied, ranks.tied_hits
    recall = {f"recall@{k}": hit_probability(hits, tied, (k - above).clip(0)) for k in RECALL_AT if k <= ranks.gallery}
    first = above + (tied + 1) / (hits + 1)
    precision = {f"precision@{k}": column for k, column in ranks.precision.items()}
    with np.errstate(invalid="ignore"):
        percentile = np.where(pool > 1, (pool - first) / (pool - 1), np.nan)
    return {**recall, "percentile": percentile, **precision}


def _block(
    similarity: Tensor, top: Tensor | None, queries: Side, gallery: Side, ks: list[int]
) -> Float[Tensor, "columns queries"]:
    hit = queries.text[:, None] == gallery.text
    common = queries.classes @ gallery.classes.T > 0
    pool = hit.new_full((len(hit),), hit.shape[1], dtype=torch.long)
    if queries.patients is not None and gallery.patients is not None:
        excluded = (gallery.patients @ queries.patients.to_dense().T).T.gt(0) & ~hit
        similarity, common, pool = similarity.masked_fill(excluded, -torch.inf), common & ~excluded, (~excluded).sum(1)
    if top is None:
        top = similarity.topk(max(ks, default=0)).values
    best = similarity.masked_fill(~hit, -torch.inf).amax(1, keepdim=True)
    tied = similarity == best
    unknown = torch.where(queries.classes.any(1), 0.0, torch.nan)
    columns = [pool, hit.sum(1), (similarity > best).sum(1), tied.sum(1), (tied & hit).sum(1), common.sum(1) + unknown]
    for k in ks:
        over, equal = similarity > top[:, k - 1 : k], similarity == top[:, k - 1 : k]
        among_equal = (common & equal).sum(1) / equal.sum(1)
        columns.append(((common & over).sum(1) + (k - over.sum(1)) * among_equal) / k + unknown)
    return torch.stack([column.double() for column in columns])
