"""k-nearest-neighbour classification on frozen features: a probe without anything to fit."""

import logging
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from imitate.inference.encoder import Encoder
from imitate.names import Mode
from imitate.statistics import metrics
from imitate.tasks.base import Budget
from imitate.tasks.classification import Logits, Probe, Problem
from imitate.tasks.features import pooled_features
from imitate.tasks.options import NearestOptions

log = logging.getLogger(__name__)
CELLS = 2**24  # of the matrix of cosines, held at once
CERTAIN = 1e-9  # how far a probability stays from 0 and 1, so that its logit is finite


class NearestClassification(NearestOptions, Probe):
    """The labels of the nearest training images by cosine, each with the weight exp(cosine / temperature).

    The probability of a class is its part of the weights, among the nearest images whose label of it is known. Of
    ``neighbours``, the number with the best AUROC on the validation images counts for all classes: by the mean over the
    classes that have both labels there, of equal ones the largest. All images count where there are fewer. Weights and
    temperature are those of Wu et al. (2018), which DINO's evaluation uses too.
    """

    name: ClassVar[str] = "knn-classification"
    modes: ClassVar[tuple[Mode, ...]] = ("clean",)
    title: ClassVar[str] = "k-nearest-neighbour classification"

    def logits(self, encoder: Encoder, problem: Problem, budget: Budget) -> Logits:
        train, validation, test = (
            normalize(pooled_features(encoder, problem.data, rows, budget).to(budget.device), dim=1)
            for rows in problem.rows
        )
        target = problem.target[problem.rows.train].to(budget.device)
        ks = sorted(self.neighbours, reverse=True)
        if len(ks) > 1 or budget.validated is not None:
            held = problem.target[problem.rows.validation].numpy()
            quality = []
            for fractions in nearest_fractions(validation, train, target, ks, self.temperature).cpu().numpy():
                found = metrics.per_class("auroc", metrics.auroc, held, fractions, problem.classes)
                quality.append(float(found["auroc"][0]))
                log.info("%d neighbours: validation AUROC %.4f", ks[len(quality) - 1], quality[-1])
            best = int(np.nan_to_num(quality, nan=-1).argmax())
            ks = [ks[best]]
            if budget.validated is not None:
                budget.validated.append(-quality[best])
        both = (nearest_fractions(part, train, target, ks, self.temperature)[0] for part in (validation, test))
        certain = [fractions.clamp(CERTAIN, 1 - CERTAIN) for fractions in both]
        return Logits(*(fractions.log() if problem.exclusive else fractions.logit() for fractions in certain))


def nearest_fractions(
    queries: Float[Tensor, "queries width"],
    train: Float[Tensor, "images width"],
    target: Float[Tensor, "images classes"],
    ks: Sequence[int],
    temperature: float,
) -> Float[Tensor, "ks queries classes"]:
    """The fraction of a class among the weights of each query's ``k`` nearest images, of unit vectors, in float64.

    An image with an unknown label of a class is none of its neighbours; .5 where every label is unknown.
    """
    fractions = torch.full((len(ks), len(queries), target.shape[1]), 0.5, dtype=torch.float64, device=queries.device)
    patterns, number = (~target.isnan()).unique(dim=1, return_inverse=True)
    for i, known in enumerate(patterns.T):
        columns = (number == i).nonzero()[:, 0]
        among, labels = train[known], target[known][:, columns].double()
        if not len(among):
            continue
        for rows in torch.arange(len(queries), device=queries.device).split(max(1, CELLS // len(among))):
            cosine, place = (queries[rows] @ among.T).topk(min(max(ks), len(among)))
            weight = ((cosine - cosine[:, :1]).double() / temperature).exp()
            for j, k in enumerate(ks):
                votes = torch.einsum("qk,qkc->qc", weight[:, :k], labels[place[:, :k]])
                fractions[j, rows[:, None], columns] = votes / weight[:, :k].sum(1, keepdim=True)
    return fractions
