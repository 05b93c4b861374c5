"""Clinical-informed contrastive loss (CICL) and the total loss of two views (REFERENCE sections 3 and 4)."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from imitate.names import Kernel

Embedding = Float[Tensor, "batch width"]
Present = Bool[Tensor, " batch"]
Pairs = Bool[Tensor, "batch batch"]


class Targets(NamedTuple):
    """How the target is made of k(P), for the ablation; as published by default."""

    weight: float | None = None  # factor of k(P); None: the temperature
    normalised: bool = False  # each row sums to one
    ignored: Pairs | None = None  # pairs that are neither: they leave the matrices


PUBLISHED = Targets()


def clinical_prior(text: Embedding) -> Float[Tensor, "batch batch"]:
    """P = relu(corrcoef(T)), diagonal 0, from un-projected text embeddings.

    A constant row has no correlation: 0, where corrcoef has NaN.
    """
    centred = text - text.mean(dim=1, keepdim=True)
    scale = centred.norm(dim=1, keepdim=True)
    centred = centred / scale.clamp(min=torch.finfo(text.dtype).tiny ** 0.5)
    with torch.autocast(text.device.type, enabled=False):  # which would round the correlations to three digits
        return (centred @ centred.T).clamp(0, 1).fill_diagonal_(0)


def soften(prior: Float[Tensor, "batch batch"], kernel: Kernel, *, kernel_lambda: float) -> Tensor:
    """k(P). ``exp``: 1 - exp(-lambda P); ``gaussian``: exp(-P^2/2)/sqrt(2 pi); ``laplacian``: exp(-|P|)/2; ``sigmoid``.

    As published, gaussian and laplacian give *more* weight to unrelated pairs, sigmoid gives them 0.5, and all three
    raise the diagonal; they are there for the ablation. ``none`` is 0: plain InfoNCE.
    """
    if kernel == "exp":
        return 1 - torch.exp(-kernel_lambda * prior)
    if kernel == "gaussian":
        return torch.exp(-prior.square() / 2) / math.sqrt(2 * math.pi)
    if kernel == "laplacian":
        return torch.exp(-prior.abs()) / 2
    return torch.sigmoid(prior) if kernel == "sigmoid" else torch.zeros_like(prior)


def identical_texts(text: Embedding) -> Pairs:
    """Pairs of different samples with one and the same text."""
    number = text.unique(dim=0, return_inverse=True)[1]
    return (number.unsqueeze(1) == number.unsqueeze(0)).fill_diagonal_(False)


def cicl(
    x: Embedding,
    y: Embedding,
    softened: Float[Tensor, "batch batch"] | None,
    temperature: float,
    present: Present,
    targets: Targets = PUBLISHED,
) -> Float[Tensor, ""]:
    """CE(x y^T / tau, Y) + CE(y x^T / tau, Y^T) with Y = I + tau k(P), averaged over the present rows.

    The targets are not normalised, unless ``targets`` says so. Rows that are not present leave the matrices: neither
    anchor nor candidate. With no present row the loss is 0. ``softened`` is k(P), or None for InfoNCE. x and y need not
    be normalised.
    """
    logits = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / temperature
    candidates = present.unsqueeze(0) if targets.ignored is None else present.unsqueeze(0) & ~targets.ignored
    pair = present.unsqueeze(1) & candidates
    weight = temperature if targets.weight is None else targets.weight
    target = torch.eye(len(x), dtype=logits.dtype, device=logits.device)
    target = (target if softened is None else target + weight * softened) * pair
    least = torch.finfo(logits.dtype).min
    total = logits.new_zeros(())
    for side, wanted in ((logits, target), (logits.T, target.T)):
        if targets.normalised:
            wanted = wanted / wanted.sum(1, keepdim=True).clamp(min=1)  # of a present row it is at least one
        log_probability = side.masked_fill(~candidates, least).log_softmax(dim=1)
        total = total - torch.where(pair, wanted * log_probability, 0.0).sum()
    return total / present.sum().clamp(min=1)
