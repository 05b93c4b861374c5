"""Intervals and tests of a figure, the mean over runs, which varies over patients and over seeds.

With other patients it would be another, and with other seeds too. The bootstrap tells the variance over patients of
these very runs, the runs tell the variance between seeds, and both count. Each part has its own degrees of freedom: the
critical value is the mean of those of the parts, weighted by their variances (Cochran and Cox, 1950). Satterthwaite's
degrees of freedom would reject up to 12% instead of 5% where the variance of two or three seeds dominates.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from imitate.statistics.resampling import Distribution

LEAST = 10  # patients of each kind, below which resamples say too little of the population
FLOOR = 1e-12  # p values are not told apart below

Support = tuple[int, ...]
"""How many patients of each kind a figure compares: (positive, negative) for an AUROC, (all,) for a mean."""


class Part(NamedTuple):
    """Of the variance of a figure."""

    variance: float
    freedom: float  # degrees of freedom that the variance is known with


class Spread(NamedTuple):
    """How a figure varies; what it rests on."""

    parts: tuple[Part, ...]
    support: Support

    @property
    def error(self) -> float:
        return math.sqrt(sum(part.variance for part in self.parts))

    def critical(self, p: float) -> float:
        """How many errors from zero a difference is that has this p, two-sided."""
        variances = [part.variance for part in self.parts]
        values = [-stdtrit(part.freedom, p / 2) for part in self.parts]
        return float(np.average(values, weights=variances))


def spread(
    drawn: Distribution,
    per_seed: Sequence[float],
    *,
    support: Support,
    origins: Sequence[Hashable] | None = None,
) -> Spread | None:
    """Of a figure, or of a difference: ``drawn`` over patients and ``per_seed`` of each run.

    ``origins`` names the pre-training of each run: where there are several, their means are what varies between seeds,
    since heads of one pre-training say nothing of another one. None where fewer than ten patients of a kind support
    the figure, where half of the resamples lack it, and where a run does.
    """
    defined = drawn[~np.isnan(drawn)]
    if min(support) < LEAST or 2 * len(defined) < len(drawn) or np.isnan(per_seed).any():
        return None
    freedom = _freedom(support)
    parts = [Part(float(defined.var(ddof=1)) * (1 + 1 / freedom), freedom)]
    independent = _of_origins(np.asarray(per_seed, dtype=np.float64), origins)
    if len(independent) > 1:
        parts.append(Part(float(independent.var(ddof=1)) / len(independent), len(independent) - 1))
    return Spread(tuple(parts), support)


def _freedom(support: Support) -> float:
    """By Satterthwaite, as if the variance of each kind of patient were in proportion to 1 / its number."""
    shares = np.array([1 / number for number in support])
    shares /= shares.sum()
    return float(1 / sum(share**2 / (number - 1) for share, number in zip(shares, support, strict=True)))


def _of_origins(per_seed: np.ndarray, origins: Sequence[Hashable] | None) -> np.ndarray:
    names = list(dict.fromkeys(origins or ()))
    if len(names) < 2:
        return per_seed
    assert origins is not None
    return np.array([per_seed[[origin == name for origin in origins]].mean() for name in names])


def interval(estimate: float, spread: Spread | None, level: float = 0.95) -> tuple[float, float] | None:
    """Symmetric about a difference. None where there is no spread, or no variance."""
    if spread is None or math.isnan(estimate) or not spread.error:
        return None
    reach = spread.critical(1 - level) * spread.error
    return estimate - reach, estimate + reach


def share_interval(estimate: float, spread: Spread | None, level: float = 0.95) -> tuple[float, float] | None:
    """Of a figure between 0 and 1: symmetric on the logit scale.

    At 0 or 1 it is Wilson's, of as many patients as the rarest kind has. None where there is no spread, or no variance.
    """
    if spread is None or math.isnan(estimate):
        return None
    if estimate in (0, 1):
        number = min(spread.support)
        nearest = number / (number + float(stdtrit(number - 1, (1 - level) / 2)) ** 2)
        return (nearest, 1.0) if estimate == 1 else (0.0, 1 - nearest)
    if not spread.error:
        return None
    logit = math.log(estimate / (1 - estimate))
    reach = spread.critical(1 - level) * spread.error / (estimate * (1 - estimate))
    low, high = (1 / (1 + math.exp(-end)) for end in (logit - reach, logit + reach))
    return low, high


def p_value(difference: float, spread: Spread | None) -> float:
    """Two-sided, that there is no difference: at least 1e-12. NaN where there is no spread, or no variance."""
    if spread is None or math.isnan(difference):
        return math.nan
    if not spread.error:
        return 1.0 if difference == 0 else math.nan
    errors = abs(difference) / spread.error
    if spread.critical(FLOOR) <= errors:
        return FLOOR
    return float(math.exp(brentq(lambda log: spread.critical(math.exp(log)) - errors, math.log(FLOOR), 0.0)))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm, 1979): reject those below alpha, and at most alpha of all such families err."""
    adjusted, highest = [math.nan] * len(p), 0.0
    tested = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    for rank, (value, i) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * value))
        adjusted[i] = highest
    return adjusted
