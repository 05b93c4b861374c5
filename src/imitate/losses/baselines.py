"""The objectives that IMITATE is compared with, from their papers' equations. Embeddings need not be normalised."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from imitate.losses.similarities import Rows, similarities

Embedding = Float[Tensor, "batch width"]
Present = Bool[Tensor, " batch"]
CONVIRT_WEIGHT = 0.75  # lambda of ConVIRT's equation 4
MFLAG_WEIGHT = 0.0051  # of M-FLAG's off-diagonal terms, in the released code


def info_nce(
    x: Embedding, y: Embedding, temperature: float, present: Present, weight: float = 0.5
) -> Float[Tensor, ""]:
    """w CE(x y^T / tau, I) + (1 - w) CE(y x^T / tau, I), averaged over the present rows; the others are no candidates.

    w = 1/2 is CLIP's symmetric loss (Radford et al., ICML 2021, figure 3; tau fixed here). w = 0.75 with images as x
    is ConVIRT's (Zhang et al., MLHC 2022, equations 2 to 4).
    """
    return info_nce_part(Rows(x, x), Rows(y, y), temperature, present, weight)


def info_nce_part(
    x: Rows, y: Rows, temperature: Tensor | float, present: Present, weight: float, own: slice = slice(0, None)
) -> Float[Tensor, ""]:
    """What own rows, ``own`` of the batch, contribute to ``info_nce``; ``present`` is of the batch."""
    logits = similarities(x, y, temperature)
    least = torch.finfo(logits[0].dtype).min
    total = logits[0].new_zeros(())
    for side, fraction in zip(logits, (weight, 1 - weight), strict=True):
        paired = side.masked_fill(~present.unsqueeze(0), least).log_softmax(dim=1).diagonal(own.start)
        total = total - fraction * torch.where(present[own], paired, 0.0).sum()
    return total / present.sum().clamp(min=1)


def nt_xent(a: Embedding, b: Embedding, temperature: float) -> Float[Tensor, ""]:
    """SimCLR's loss (Chen et al., ICML 2020, equation 1): each of 2N views finds its other among the 2N - 1."""
    return nt_xent_part(Rows(a, a), Rows(b, b), temperature)


def nt_xent_part(a: Rows, b: Rows, temperature: float, own: slice = slice(0, None)) -> Float[Tensor, ""]:
    """What own rows, ``own`` of the batch, contribute to ``nt_xent``."""
    every, batch = torch.cat([a.every, b.every]), len(a.every)
    if a.alone:
        mine = every = F.normalize(every, dim=1)
    else:
        mine = torch.cat([a.own, b.own])
    itself = torch.arange(len(a.own), device=every.device) + own.start
    itself = torch.cat([itself, itself + batch])
    logits = (mine @ every.T / temperature).scatter(1, itself.unsqueeze(1), torch.finfo(every.dtype).min)
    return F.cross_entropy(logits, (itself + batch) % (2 * batch), reduction="sum") / (2 * batch)


def alignment(x: Embedding, y: Embedding, present: Present, count: Tensor | None = None) -> Float[Tensor, ""]:
    """M-FLAG's L_align (Liu et al., MICCAI 2023), both directions: the mean of 2 (2 - 2 cos(x, y)); no negatives.

    ``count`` is that of all present rows, where these are a process's part of them.
    """
    cosine = (F.normalize(x, dim=1) * F.normalize(y, dim=1)).sum(1)
    return ((4 - 4 * cosine) * present).sum() / (present.sum() if count is None else count).clamp(min=1)


def orthogonality(
    features: Embedding, processes: int = 1, total: Callable[[Tensor], Tensor] = lambda products: products
) -> Float[Tensor, ""]:
    """M-FLAG's L_orth on the image features V, before any projection: C = V^T V / N should be the identity.

    1/2 [sum_i (1 - C_ii)^2 + w sum_{i != j} C_ij^2]; w as released (the paper's equation has none). ``features`` are
    one process's part of N, and ``total`` sums over the processes.
    """
    c = total(features.T @ features) / (len(features) * processes)
    diagonal = c.diagonal()
    between = c.square().sum() - diagonal.square().sum()
    return ((1 - diagonal).square().sum() + MFLAG_WEIGHT * between) / 2
