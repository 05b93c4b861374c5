"""Vectors of a branch, such that products are cosines, and what a query is compared with."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.embeddings import embed_reports, texts_of
from imitate.inference.encoder import BRANCHES, Encoder, Named, Vectors, of_branch
from imitate.names import Branch


class Gallery(NamedTuple):
    """Candidates: a row of ``table`` and of ``vectors`` each."""

    table: pd.DataFrame
    vectors: Float[Tensor, "rows width"]

    def nearest(self, query: Float[Tensor, " width"], k: int) -> pd.DataFrame:
        cosines = (self.vectors @ query).cpu().numpy()
        order = np.argsort(-cosines, kind="stable")[:k]
        found = self.table.iloc[order].reset_index(drop=True)
        found.insert(0, "similarity", cosines[order])
        return found


def image_vectors(seen: Named, branch: Branch) -> Float[Tensor, "rows width"]:
    """Unit vectors; of ``both`` the two side by side, so that a product with a text's is the mean of two cosines."""
    sections = of_branch(seen, branch)
    return torch.cat(sections, 1) / math.sqrt(len(sections))


def text_vectors(read: Vectors, branch: Branch) -> Float[Tensor, "rows width"]:
    """The same text put to each of the branches."""
    return image_vectors({"image": read}, branch)


def reports(encoder: Encoder, data: Corpus, branch: Branch, device: str) -> Gallery:
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
    available = torch.stack([section.any(1) for section in sections]).sum(0)
    return Gallery(table, torch.cat(sections, 1) * (math.sqrt(len(used)) / available[:, None].clamp(min=1)))
