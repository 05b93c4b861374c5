"""The objectives that IMITATE is compared with, from their papers' equations. Embeddings need not be normalised."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

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
    logits = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / temperature
    least = torch.finfo(logits.dtype).min
    total = logits.new_zeros(())
    for side, share in ((logits, weight), (logits.T, 1 - weight)):
        own = side.masked_fill(~present.unsqueeze(0), least).log_softmax(dim=1).diagonal()
        total = total - share * torch.where(present, own, 0.0).sum()
    return total / present.sum().clamp(min=1)


def nt_xent(a: Embedding, b: Embedding, temperature: float) -> Float[Tensor, ""]:
    """SimCLR's loss (Chen et al., ICML 2020, equation 1): each of 2N views finds its other among the 2N - 1."""
    views = F.normalize(torch.cat([a, b]), dim=1)
    logits = (views @ views.T / temperature).fill_diagonal_(torch.finfo(views.dtype).min)
    other = torch.arange(len(views), device=views.device).roll(len(a))
    return F.cross_entropy(logits, other)


def alignment(x: Embedding, y: Embedding, present: Present) -> Float[Tensor, ""]:
    """M-FLAG's L_align (Liu et al., MICCAI 2023), both directions: the mean of 2 (2 - 2 cos(x, y)); no negatives."""
    cosine = (F.normalize(x, dim=1) * F.normalize(y, dim=1)).sum(1)
    return ((4 - 4 * cosine) * present).sum() / present.sum().clamp(min=1)


def orthogonality(features: Embedding) -> Float[Tensor, ""]:
    """M-FLAG's L_orth on the image features V, before any projection: C = V^T V / N should be the identity.

    1/2 [sum_i (1 - C_ii)^2 + w sum_{i != j} C_ij^2]; w as released (the paper's equation has none).
    """
    c = features.T @ features / len(features)
    diagonal = c.diagonal()
    between = c.square().sum() - diagonal.square().sum()
    return ((1 - diagonal).square().sum() + MFLAG_WEIGHT * between) / 2
