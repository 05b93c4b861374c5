"""How far probabilities are from what happens, each metric over many bootstrap samples at once (see ``metrics``).

``target`` is 1, 0 or NaN (unknown, which takes no part), ``probability`` that of 1. Probabilities of 0 and 1 are taken
as ``CERTAIN`` away from these wherever their logarithm is needed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.fft import dct, idct
from scipy.special import expit, logit

from imitate.statistics.metrics import Counts, Metric, Rows, _known, _ratio, mean

CERTAIN = 1e-7
BINS = 15
CELLS = 512  # of the axis of probabilities that residuals are smoothed over
HALVINGS = 30
FINE = 9  # steps of the Illinois method, to six digits
STEPS = 50  # of Newton's method
CONVERGED = 1e-9
SINGULAR = 1e-12  # of the curvature, below which the inputs do not distinguish coefficients
SETTLED, FAR = 1e-4, 1e3  # of the last step, and of coefficients: beyond these the maximum lies at infinity

Sums = Float[np.ndarray, "samples bins"]


class Bins(NamedTuple):
    """Sums over the rows of each bin: how many, their targets, their probabilities."""

    rows: Sums
    observed: Sums
    predicted: Sums


def brier(target: Rows, probability: Rows, counts: Counts | None = None) -> Metric:
    """The mean of (p - y)^2 (Brier, 1950): 0 is perfect; always saying the prevalence q gives q (1 - q)."""
    return mean((np.asarray(probability, float) - target) ** 2, counts)


def brier_skill(target: Rows, probability: Rows, counts: Counts | None = None) -> Metric:
    """1 - Brier / (q (1 - q)), with the prevalence q of each sample; NaN where there is one label only."""
    prevalence = mean(np.asarray(target, float), counts)
    return 1 - _ratio(brier(target, probability, counts), prevalence * (1 - prevalence))


def log_loss(target: Rows, probability: Rows, counts: Counts | None = None) -> Metric:
    """In nats."""
    sure = np.clip(np.asarray(probability, float), CERTAIN, 1 - CERTAIN)
    each = np.asarray(target, float)
    return mean(-each * np.log(sure) - (1 - each) * np.log1p(-sure), counts)


def observed_to_expected(target: Rows, probability: Rows, counts: Counts | None = None) -> Metric:
    """How many positives there are over how many the probabilities announce."""
    target, probability, counts = _known(target, probability, counts)
    return _ratio(counts @ target, counts @ probability)


def binned(target: Rows, probability: Rows, counts: Counts | None = None, *, bins: int = BINS) -> Bins:
    """Of equal widths; the last one includes 1."""
    target, probability, counts = _known(target, probability, counts)
    place = np.minimum((probability * bins).astype(int), bins - 1)
    member = np.eye(bins)[place]
    return Bins(counts @ member, counts @ (member * target[:, None]), counts @ (member * probability[:, None]))


def ece(target: Rows, probability: Rows, counts: Counts | None = None, *, bins: int = BINS) -> Metric:
    """The mean distance between observed and predicted over bins of equal widths, each weighted by its rows.

    Biased upwards where bins hold few rows, and it depends on their number (Naeini et al., 2015): see ``smooth_ece``.
    """
    found = binned(target, probability, counts, bins=bins)
    return _ratio(np.abs(found.observed - found.predicted).sum(1), found.rows.sum(1))


class Murphy(NamedTuple):
    """Brier = reliability - resolution + uncertainty (Murphy, 1973), but for the spread within bins."""

    reliability: Metric
    resolution: Metric
    uncertainty: Metric


def murphy(target: Rows, probability: Rows, counts: Counts | None = None, *, bins: int = BINS) -> Murphy:
    """Over bins of equal widths, each represented by its mean probability."""
    found = binned(target, probability, counts, bins=bins)
    total = found.rows.sum(1)
    prevalence = _ratio(found.observed.sum(1), total)
    rate = np.nan_to_num(_ratio(found.observed, found.rows))
    said = np.nan_to_num(_ratio(found.predicted, found.rows))
    reliability = _ratio((found.rows * (said - rate) ** 2).sum(1), total)
    resolution = _ratio((found.rows * (rate - prevalence[:, None]) ** 2).sum(1), total)
    return Murphy(reliability, resolution, prevalence * (1 - prevalence))


def smooth_ece(target: Rows, probability: Rows, counts: Counts | None = None) -> Metric:
    r"""The calibration error without bins of Blasiok and Nakkiran (2024).

    .. math:: \mathrm{smECE}_s = \int_0^1 \Big|\frac1n\sum_i (y_i - p_i)\,K_s(t, p_i)\Big|\,dt

    with a Gaussian of width s that is reflected at 0 and 1, at the s where smECE_s = s. On a grid of ``CELLS`` cells;
    such a reflected Gaussian is diagonal in the cosine transform, with factors exp(-(pi k s)^2 / 2).
    """
    target, probability, counts = _known(target, probability, counts)
    total = counts.sum(1)
    residual = np.zeros((len(counts), CELLS))
    place = np.minimum((probability * CELLS).astype(int), CELLS - 1)
    for cell in np.unique(place):
        rows = place == cell
        residual[:, cell] = counts[:, rows] @ (target[rows] - probability[rows])
    waves = dct(residual / np.maximum(total, 1)[:, None], norm="ortho")
    return np.where(total > 0, fixed_point(waves), np.nan)


def fixed_point(waves: Float[np.ndarray, "samples cells"]) -> Metric:
    """The smooth error at the width that is as large, of residuals as cosine waves."""
    low, high = np.zeros(len(waves)), np.ones(len(waves))
    over, under = _smoothed(waves, low), _smoothed(waves, high) - 1  # by how much the error is above the width
    before = np.zeros(len(waves))
    for _ in range(FINE):
        width = np.clip((low * under - high * over) / np.minimum(under - over, -1e-300), low, high)
        excess = _smoothed(waves, width) - width
        above = excess > 0
        over = np.where(above, excess, np.where(before < 0, over / 2, over))  # Illinois: an end that stays counts half
        under = np.where(above, np.where(before > 0, under / 2, under), excess)
        low, high = np.where(above, width, low), np.where(above, high, width)
        before = np.where(above, 1.0, -1.0)
    return _smoothed(waves, width)


def _smoothed(waves: Float[np.ndarray, "samples cells"], width: Metric) -> Metric:
    factors = np.exp(-((np.pi * np.arange(CELLS) * width[:, None]) ** 2) / 2)
    return np.abs(idct(waves * factors, norm="ortho")).sum(1)


def slope(target: Rows, probability: Rows, counts: Counts | None = None) -> Metric:
    """b of logit P(y) = a + b logit p: 1 is ideal, below it probabilities are too extreme. NaN where there is none."""
    return _regressed(target, probability, counts)[:, 1]


def intercept(target: Rows, probability: Rows, counts: Counts | None = None) -> Metric:
    """a of logit P(y) = a + logit p, calibration in the large: 0 is ideal, above it probabilities are too low."""
    target, probability, counts = _known(target, probability, counts)
    given = logit(np.clip(probability, CERTAIN, 1 - CERTAIN))
    return logistic(np.ones((len(given), 1)), target, counts, offset=given)[:, 0]


def _regressed(target: Rows, probability: Rows, counts: Counts | None) -> Float[np.ndarray, "samples 2"]:
    target, probability, counts = _known(target, probability, counts)
    given = logit(np.clip(probability, CERTAIN, 1 - CERTAIN))
    return logistic(np.stack([np.ones_like(given), given], axis=1), target, counts)


def logistic(
    inputs: Float[np.ndarray, "rows inputs"],
    target: Float[np.ndarray, " rows"],
    counts: Counts,
    *,
    offset: Float[np.ndarray, " rows"] | float = 0.0,
) -> Float[np.ndarray, "samples inputs"]:
    """The maximum of the likelihood of logit P(y) = offset + x b, by Newton's method with halved steps.

    A target between 0 and 1 counts as that fraction of a positive. NaN where the maximum lies at infinity: where the
    inputs separate the labels, or there is one label only; and where the inputs are collinear.
    """
    found = np.zeros((len(counts), inputs.shape[1]))
    value = _likelihood(found, inputs, target, counts, offset)
    for _ in range(STEPS):
        expected = expit(offset + found @ inputs.T)
        gradient = (counts * (target - expected)) @ inputs
        weight = counts * expected * (1 - expected)
        hessian = np.einsum("sn,ni,nj->sij", weight, inputs, inputs)
        largest = np.trace(hessian, axis1=1, axis2=2)[:, None, None]
        ridge = (SINGULAR * largest + 1e-300) * np.eye(inputs.shape[1])
        step = np.linalg.solve(hessian + ridge, gradient[:, :, None])[:, :, 0]
        scale = np.ones(len(counts))
        for _ in range(HALVINGS):
            better = _likelihood(found + scale[:, None] * step, inputs, target, counts, offset) >= value - CONVERGED
            if better.all():
                break
            scale = np.where(better, scale, scale / 2)
        found = found + scale[:, None] * step
        value = _likelihood(found, inputs, target, counts, offset)
        if np.abs(step).max(initial=0) < CONVERGED:
            break
    both = (counts @ target > 0) & (counts @ (1 - target) > 0)
    settled = (np.abs(step).max(1) < SETTLED) & (np.abs(found).max(1) < FAR)
    unique = np.linalg.eigvalsh(hessian)[:, 0] > 10 * SINGULAR * largest[:, 0, 0]
    return np.where((both & settled & unique)[:, None], found, np.nan)


def _likelihood(
    found: Float[np.ndarray, "samples inputs"],
    inputs: Float[np.ndarray, "rows inputs"],
    target: Float[np.ndarray, " rows"],
    counts: Counts,
    offset: Float[np.ndarray, " rows"] | float,
) -> Metric:
    said = offset + found @ inputs.T
    return (counts * (target * said - np.logaddexp(0, said))).sum(1)


MEASURES: dict[str, Callable[..., Metric]] = {
    "brier": brier,
    "brier-skill": brier_skill,
    "log-loss": log_loss,
    "smooth-ece": smooth_ece,
    "ece": ece,
    "slope": slope,
    "intercept": intercept,
    "observed-to-expected": observed_to_expected,
}
