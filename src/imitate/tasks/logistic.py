"""Logistic regression on cached features: full batch, preconditioned L-BFGS, from strong to weak weight decay."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import solve_triangular

log = logging.getLogger(__name__)
PIECE = 1024  # rows of features at a time, so that both products of a step find them in the processor's cache
GRAM_ROWS = 8  # images a column that estimate the curvature
ROUNDING = 1e-6  # of the curvature's trace, lest float32 makes an eigenvalue negative
ITERATIONS = 500
TOLERANCE = 3e-4  # of the largest entry of the preconditioned gradient


class LinearScores(NamedTuple):
    """One logit a class."""

    weight: Float[Tensor, "classes width"]
    bias: Float[Tensor, " classes"]

    def __call__(self, features: Float[Tensor, "rows width"]) -> Float[Tensor, "rows classes"]:
        return torch.nn.functional.linear(features, self.weight, self.bias)


def standardise(reference: Float[Tensor, "rows width"], *others: Float[Tensor, "_ width"]) -> None:
    """Give each column of ``reference`` mean 0 and deviation 1, and shift and scale ``others`` alike, all in place.

    A column that is constant in the reference becomes 0 in all of them.
    """
    deviation, mean = torch.std_mean(reference, dim=0, correction=0)
    scale = torch.where(deviation > 1e-6 * (1 + mean.abs()), 1 / deviation, 0.0)
    for features in (reference, *others):
        features.sub_(mean).mul_(scale)


def logistic_path(
    features: Float[Tensor, "rows width"],
    target: Float[Tensor, "rows classes"],
    *,
    decays: Sequence[float],
    exclusive: bool,
) -> Iterator[tuple[float, LinearScores]]:
    """The minimum for each weight decay on standardised features, the strongest first, each from the one before.

    Minimises (sum over classes of the mean cross-entropy over images whose label is known) + decay / 2 |weight|^2;
    with ``exclusive`` classes, the mean softmax cross-entropy instead. The bias is free. This is scikit-learn's
    penalty C = 1 / (decay * images). NaN is an unknown label; an image of exclusive classes must have all of them.
    """
    width = features.shape[1]
    target = target.T.contiguous()
    known = (~target.isnan()).to(features.dtype)
    fraction = known / known.sum(1, keepdim=True).clamp(min=1)
    target = target.nan_to_num(0)
    rate = (fraction * target).sum(1)
    drawn = features[:: max(1, len(features) // (GRAM_ROWS * width))]
    curvature = (rate * (1 - rate)).mean() * (drawn.T @ drawn) / len(drawn)
    weight, bias = features.new_zeros(len(target), width), rate.logit(1e-4)[:, None]
    data_term = partial(_cross_entropy, features, target, fraction, exclusive)
    for decay in sorted(decays, reverse=True):
        ridge = decay + ROUNDING * curvature.trace()
        root = torch.linalg.cholesky(curvature + ridge * torch.eye(width).to(features))
        weight, bias = _minimise(data_term, weight, bias, root=root, decay=decay)
        yield decay, LinearScores(weight, bias[:, 0])


def _minimise(
    data_term: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]],
    weight: Tensor,
    bias: Tensor,
    *,
    root: Tensor,
    decay: float,
) -> tuple[Tensor, Tensor]:
    """L-BFGS over ``weight @ root``, in which the objective is nearly a sphere."""
    whitened, bias = weight @ root, bias.clone()
    optimizer = torch.optim.LBFGS(
        [whitened, bias],
        max_iter=ITERATIONS,
        max_eval=2 * ITERATIONS,
        tolerance_grad=TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        weight = solve_triangular(root, whitened, upper=False, left=False)
        loss, by_weight, bias.grad = data_term(weight, bias)
        by_whitened = solve_triangular(root.T, by_weight + decay * weight, upper=True, left=False)
        whitened.grad = by_whitened.contiguous()
        return loss + 0.5 * decay * weight.square().sum()

    with torch.no_grad():
        optimizer.step(objective)
    done = next(iter(optimizer.state.values()))
    if done["n_iter"] >= ITERATIONS or done["func_evals"] >= 2 * ITERATIONS:
        log.warning(
            "weight decay %g: not converged after %d iterations; the last weights are used", decay, done["n_iter"]
        )
    return solve_triangular(root, whitened, upper=False, left=False), bias


def _cross_entropy(
    features: Tensor, target: Tensor, fraction: Tensor, exclusive: bool, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and its derivatives by weight and bias; ``target`` and ``fraction`` are (classes, rows)."""
    loss, by_weight, by_bias = bias.new_zeros(()), torch.zeros_like(weight), torch.zeros_like(bias)
    for start in range(0, len(features), PIECE):
        piece = slice(start, start + PIECE)
        logits = weight @ features[piece].T + bias
        if exclusive:
            likelihood = logits.log_softmax(0)
            each, expected = -target[:, piece] * likelihood, likelihood.exp()
        else:
            each, expected = torch.nn.functional.softplus(logits) - target[:, piece] * logits, logits.sigmoid()
        residual = fraction[:, piece] * (expected - target[:, piece])
        loss += (fraction[:, piece] * each).sum()
        by_weight += residual @ features[piece]
        by_bias += residual.sum(1, keepdim=True)
    return loss, by_weight, by_bias
