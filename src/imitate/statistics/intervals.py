"""Intervals and tests of a metric, the mean over runs, which varies over patients and over seeds.

With other patients it would be another, and with other seeds too. The bootstrap shows how these very runs vary over
patients. What they have in common is one part of the variance; the other is that of the runs among each other, which
holds what each of them makes of the patients by itself. Each part has degrees of freedom of its own: the critical value
is the mean of those of the parts, weighted by their variances (Cochran and Cox, 1950). With Satterthwaite's degrees of
freedom a test at 5% would reject up to 12% where two or three seeds vary much.

A metric between 0 and 1 is skewed near these bounds. Its interval is symmetric as a logit; two of them are compared as
angles, arcsin(sqrt(x)), which vary alike wherever they lie.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import expit, logit, stdtrit

from imitate.statistics.resampling import Distribution

LEAST = 10  # patients of each kind, below which resamples say too little of the population
OF_SEVERAL = 5  # the same for a mean over classes, where the others make up for a rare one
ROUNDING = 1e-24  # smaller variances are not distinguished from none
FLOOR = 1e-12  # smaller p values are not distinguished

Support = tuple[int, ...]
"""How many patients of each kind a metric compares: (positive, negative) for an AUROC, (all,) for a mean; for a mean
over classes those of each class, one after another."""


class Part(NamedTuple):
    """Of the variance of a metric."""

    variance: float
    freedom: float  # degrees of freedom that the variance is known with


class Spread(NamedTuple):
    """How a metric varies; what it rests on."""

    parts: tuple[Part, ...]
    support: Support

    @property
    def error(self) -> float:
        return math.sqrt(sum(part.variance for part in self.parts))

    def scaled(self, factor: float) -> "Spread":
        return self._replace(parts=tuple(part._replace(variance=part.variance * factor**2) for part in self.parts))

    def critical(self, p: float) -> float:
        """How many errors from zero a difference is that has this p, two-sided."""
        variances = [part.variance for part in self.parts]
        values = [-stdtrit(part.freedom, p / 2) for part in self.parts]
        return float(np.average(values, weights=variances))


class Runs(NamedTuple):
    """What shows how a metric varies."""

    drawn: Distribution
    values: Float[np.ndarray, " runs"]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Between runs; nothing where there is one."""
        number = len(self.values)
        return (Part(_variance(self.values.var(ddof=1)) / number, number - 1),) if number > 1 else ()

    @property
    def own(self) -> float:
        """Of the variance of the mean over patients, what the runs do not have in common."""
        number = len(self.values)
        centred = self.drawn - self.drawn.mean(1, keepdims=True)
        return float(centred.var(axis=0, ddof=1).mean()) / number if number > 1 else 0.0


def independent(drawn: Distribution, values: Float[np.ndarray, " runs"], origins: Sequence[Hashable] = ()) -> Runs:
    """Of the runs, or, where they are of several pre-trainings (``origins``), of the mean of each of these.

    Several heads of one pre-training say nothing of another one.
    """
    names = list(dict.fromkeys(origins))
    if len(names) < 2:
        return Runs(drawn, values)
    rows = [[i for i, origin in enumerate(origins) if origin == name] for name in names]
    return Runs(np.stack([drawn[of].mean(0) for of in rows]), np.array([values[of].mean() for of in rows]))


def spread(*methods: Runs, support: Support) -> Spread | None:
    """Of a method's mean over runs; of two, that of their difference, paired by patient only.

    None where too few patients support the metric, where half of the resamples lack it, and where a run does.
    """
    defined = ~np.any([np.isnan(runs.drawn).any(0) for runs in methods], axis=0)
    lacking = any(np.isnan(runs.values).any() for runs in methods)
    if not enough(support) or 2 * defined.sum() < len(defined) or lacking:
        return None
    methods = tuple(runs._replace(drawn=runs.drawn[:, defined]) for runs in methods)
    first, *other = (runs.drawn.mean(0) for runs in methods)
    freedom = _freedom(support)
    over_patients = float((first - sum(other)).var(ddof=1)) - sum(runs.own for runs in methods)
    parts = [Part(_variance(over_patients) * (1 + 1 / freedom), freedom)]
    return Spread((*parts, *(part for runs in methods for part in runs.parts)), support)


def enough(support: Support) -> bool:
    """Whether a metric can have an interval."""
    least = LEAST if len(support) <= 2 else OF_SEVERAL
    return min(support) >= least and _freedom(support) >= LEAST - 1


def _variance(computed: float | np.floating) -> float:
    """Zero where it is negative or rounding."""
    return float(computed) if computed > ROUNDING else 0.0


def _freedom(support: Support) -> float:
    """By Satterthwaite, as if the variance of each kind of patient were in proportion to 1 / its number."""
    fractions = np.array([1 / number for number in support])
    fractions /= fractions.sum()
    return float(1 / sum(fraction**2 / (number - 1) for fraction, number in zip(fractions, support, strict=True)))


def angle(fraction: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Without what is rounding: near 0 and 1 it would count."""
    return np.arcsin(np.sqrt(fraction.clip(0, 1).round(12)))


def interval(estimate: float, spread: Spread | None, level: float = 0.95) -> tuple[float, float] | None:
    """Symmetric. None where there is no spread, or no variance."""
    if spread is None or math.isnan(estimate) or not spread.error:
        return None
    reach = spread.critical(1 - level) * spread.error
    return estimate - reach, estimate + reach


def fraction_interval(fraction: float, spread: Spread | None, level: float = 0.95) -> tuple[float, float] | None:
    """Of a metric between 0 and 1: symmetric as a logit.

    At 0 or 1 it is Wilson's, of as many patients as the rarest kind has. None where there is no spread, or no variance.
    """
    if spread is None or math.isnan(fraction):
        return None
    fraction = round(fraction, 12)
    if fraction in (0, 1):
        number = min(spread.support)
        nearest = number / (number + float(stdtrit(number - 1, (1 - level) / 2)) ** 2)
        return (nearest, 1.0) if fraction == 1 else (0.0, 1 - nearest)
    ends = interval(float(logit(fraction)), spread.scaled(1 / (fraction * (1 - fraction))), level)
    return ends and (float(expit(ends[0])), float(expit(ends[1])))


def difference_interval(
    first: float, second: float, spread: Spread | None, level: float = 0.95
) -> tuple[float, float] | None:
    """Of ``first`` minus ``second``, both between 0 and 1, with the spread of the difference of their angles.

    It goes as far as other angles with the same middle would differ, so that it holds 0 where the angles' does. None
    where there is no spread, or no variance.
    """
    one, two = angle(np.array([first, second])).tolist()
    ends = interval(one - two, spread, level)
    return ends and (
        math.sin(one + two) * math.sin(max(-math.pi / 2, ends[0])),
        math.sin(one + two) * math.sin(min(math.pi / 2, ends[1])),
    )


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
