"""Clinical-informed contrastive loss (CICL) and the total loss of two views (docs/method.md).

Matrices have the rows of one process's own samples, ``own`` of the batch, and a column for each sample of the batch. In
one process they are square.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from imitate.losses.similarities import Rows, similarities
from imitate.names import Kernel

Embedding = Float[Tensor, "batch width"]
Present = Bool[Tensor, " batch"]
Pairs = Bool[Tensor, "own batch"]
ALL = slice(0, None)


class Targets(NamedTuple):
    """How the target is made of k(P), for the ablation; as published by default."""

    weight: float | None = None  # factor of k(P); None: the temperature
    normalised: bool = False  # each row sums to one
    ignored: Pairs | None = None  # pairs that are neither positive nor negative: they leave the matrices
    positive: Pairs | None = None  # pairs that are as right as a sample's own: 1 in Y
    mass: float | None = None  # of each row on other samples, in proportion to k(P); its own pair has the rest


PUBLISHED = Targets()


class SoftTargets(NamedTuple):
    """Y and Y^T for the two directions of a term, built once a step for all terms that share them."""

    sides: tuple[Float[Tensor, "own batch"], Float[Tensor, "own batch"]]
    excluded: Bool[Tensor, "#own batch"]  # candidates that leave the softmax
    anchors: Float[Tensor, ""]  # the number of present rows of all processes, at least 1


def centre(text: Embedding, present: Present) -> Embedding:
    """Less the mean of the present texts: vectors that all point one way, as BERT's do, otherwise all correlate."""
    weight = present.to(text.dtype).unsqueeze(1)
    return (text - (text * weight).sum(0) / weight.sum().clamp(min=1)) * weight


def clinical_prior(text: Embedding, own: slice = ALL) -> Float[Tensor, "own batch"]:
    """P = relu(corrcoef(T)), diagonal 0, from un-projected text embeddings.

    A constant row has no correlation: 0, where corrcoef has NaN.
    """
    centred = text - text.mean(dim=1, keepdim=True)
    scale = centred.norm(dim=1, keepdim=True)
    centred = centred / scale.clamp(min=torch.finfo(text.dtype).tiny ** 0.5)
    with torch.autocast(text.device.type, enabled=False):  # which would round the correlations to three digits
        prior = (centred[own] @ centred.T).clamp(0, 1)
    prior.diagonal(own.start).zero_()
    return prior


def soften(prior: Float[Tensor, "own batch"], kernel: Kernel, *, kernel_lambda: float) -> Tensor:
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


def text_numbers(text: Embedding) -> Integer[Tensor, " batch"]:
    """The same number for the same text."""
    numbers: Tensor = text.unique(dim=0, return_inverse=True)[1]
    return numbers


def identical_texts(text: Embedding, own: slice = ALL) -> Pairs:
    """Pairs of different samples with one and the same text."""
    number = text_numbers(text)
    pairs = number[own].unsqueeze(1) == number.unsqueeze(0)
    pairs.diagonal(own.start).fill_(False)
    return pairs


def soft_targets(
    softened: Float[Tensor, "own batch"] | None,
    temperature: float,
    present: Present,
    targets: Targets = PUBLISHED,
    *,
    own: slice = ALL,
    dtype: torch.dtype = torch.float32,
) -> SoftTargets:
    """Y = I + tau k(P) over the present rows and columns; ``softened`` is k(P), or None for I alone in ``dtype``.

    With ``targets.mass`` m it is (1 - m) I + m k(P) / sum_j k(P_ij), in both directions; a row without any k(P) is I's.
    """
    candidates = present.unsqueeze(0) if targets.ignored is None else present.unsqueeze(0) & ~targets.ignored
    pair = present[own].unsqueeze(1) & candidates
    weight = temperature if targets.weight is None else targets.weight
    wanted = torch.zeros_like(pair, dtype=dtype) if softened is None else weight * softened
    if targets.positive is not None:
        wanted.masked_fill_(targets.positive, 1)
    wanted.mul_(pair)
    if targets.mass is not None:
        wanted.diagonal(own.start).zero_()
        others = wanted.sum(1, keepdim=True)
        wanted = torch.where(others > 0, targets.mass * wanted / others.clamp(min=torch.finfo(dtype).tiny), 0)
        wanted.diagonal(own.start).add_((1 - targets.mass * (others > 0).to(dtype).squeeze(1)) * present[own])
        return SoftTargets((wanted, wanted), ~candidates, present.sum().clamp(min=1))
    wanted.diagonal(own.start).add_(present[own].to(dtype))
    # P is symmetric but for rounding: own rows of Y^T are those of Y; where Y is whole it is transposed as published
    sides = (wanted, wanted.T if wanted.shape[0] == wanted.shape[1] else wanted)
    if targets.normalised:
        first, second = (side / side.sum(1, keepdim=True).clamp(min=1) for side in sides)  # of a present row: >= 1
        sides = (first, second)
    return SoftTargets(sides, ~candidates, present.sum().clamp(min=1))


def soft_cross_entropy(
    logits: tuple[Tensor, Tensor], targets: SoftTargets, weights: tuple[float, float] = (1, 1)
) -> Float[Tensor, ""]:
    """CE of both directions over own rows, divided by the count of all: the processes' parts sum to the loss."""
    least = torch.finfo(logits[0].dtype).min
    total = logits[0].new_zeros(())
    for side, wanted, weight in zip(logits, targets.sides, weights, strict=True):
        log_probability = side.masked_fill(targets.excluded, least).log_softmax(dim=1)
        total = total - weight * (log_probability * wanted).sum()
    return total / targets.anchors


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
    wanted = soft_targets(softened, temperature, present, targets, dtype=x.dtype)
    return soft_cross_entropy(similarities(Rows(x, x), Rows(y, y), temperature), wanted)
