"""Vectors of a branch, such that products are cosines, and what a query is compared with."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.base import BRANCHES, BaseEncoder, Seen, Vectors, of_branch
from imitate.inference.embeddings import embed_reports, texts_of
from imitate.names import Branch


class Gallery(NamedTuple):
    """Candidates: a row of ``table`` and of ``vectors`` each."""

    table: pd.DataFrame
    vectors: Float[np.ndarray, "rows width"]

    def nearest(self, query: Float[np.ndarray, " width"], k: int) -> pd.DataFrame:
        cosines = self.vectors @ query
        order = np.argsort(-cosines, kind="stable")[:k]
        found = self.table.iloc[order].reset_index(drop=True)
        found.insert(0, "similarity", cosines[order])
        return found


def image_vectors(seen: Seen, branch: Branch) -> Float[np.ndarray, "rows width"]:
    """Unit vectors; of ``both`` the two side by side, so that a product with a text's is the mean of two cosines."""
    sections = of_branch(seen, branch)
    joined: np.ndarray = np.concatenate(sections, 1) / np.float32(math.sqrt(len(sections)))
    return joined


def text_vectors(read: Vectors, branch: Branch) -> Float[np.ndarray, "rows width"]:
    """The same text put to each of the branches."""
    return image_vectors({"image": read}, branch)


def reports(encoder: BaseEncoder, data: Corpus, branch: Branch, device: str) -> Gallery:
    """The distinct reports of a prepared folder, with the number of images of each.

    The cosine of a report is the mean over those of the branch's sections that it has.
    """
    used = list(BRANCHES[branch])
    every = data.table[["image_id"]].assign(**data.reports(used)).reset_index(drop=True).dropna(how="all", subset=used)
    images = every.groupby(used, dropna=False)["image_id"].transform("size")
    table = every.assign(images=images)[~every.duplicated(used)]
    if table.empty:
        raise UserError(f"{data.root} has no {' or '.join(used)} to find: prepare a source with reports")
    texts = texts_of(encoder, BRANCHES[branch])
    sections = [embed_reports(encoder, data, text, table.index.to_numpy(), device) for text in texts]
    available = np.sum([section.any(1) for section in sections], axis=0).clip(min=1)
    weights = (math.sqrt(len(used)) / available[:, None]).astype(np.float32)
    return Gallery(table, np.concatenate(sections, 1) * weights)
