"""Operating points: a threshold, and what it does to patients, over many bootstrap samples at once (see ``metrics``).

A row is called positive where its score is at least the threshold.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from imitate.names import Aim
from imitate.statistics.metrics import Counts, Metric, Rows, _known, _ratio


class Calls(NamedTuple):
    """How many rows are rightly and wrongly called positive and negative, in each sample."""

    true_positive: Metric
    false_positive: Metric
    false_negative: Metric
    true_negative: Metric

    @property
    def rows(self) -> Metric:
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative

    @property
    def sensitivity(self) -> Metric:
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> Metric:
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def ppv(self) -> Metric:
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def npv(self) -> Metric:
        return _ratio(self.true_negative, self.true_negative + self.false_negative)

    @property
    def prevalence(self) -> Metric:
        return _ratio(self.true_positive + self.false_negative, self.rows)


def calls(target: Rows, score: Rows, threshold: Metric | float, counts: Counts | None = None) -> Calls:
    """``threshold`` is one for all samples, or one for each."""
    target, score, counts = _known(target, score, counts)
    at = np.broadcast_to(np.asarray(threshold, float), (len(counts),))
    yes = score >= at[:, None]
    positive = target > 0
    hits, alarms = (counts * yes) @ positive, (counts * yes) @ ~positive
    return Calls(hits, alarms, counts @ positive - hits, counts @ ~positive - alarms)


def threshold(target: Rows, score: Rows, counts: Counts | None = None, *, aim: Aim, at: float = 0.0) -> Metric:
    """Of each sample the threshold, among its scores, that serves the aim best.

    ``sensitivity``: the highest with a sensitivity of at least ``at``. ``specificity``: the lowest with a specificity
    of at least ``at``, or infinity, which calls nothing. ``youden``: the largest sensitivity + specificity. ``cost``:
    the least cost where a missed positive costs ``at`` times as much as a false alarm. Of equal ones the highest.
    NaN where a sample lacks the labels that the aim needs.
    """
    target, score, counts = _known(target, score, counts)
    steps = np.unique(score)  # ascending
    place = np.searchsorted(steps, score)
    positive = target > 0
    hits, alarms = (_at_least(counts[:, rows], place[rows], len(steps)) for rows in (positive, ~positive))
    actual, others = hits[:, :1], alarms[:, :1]
    hits, alarms = (np.pad(each, ((0, 0), (0, 1))) for each in (hits, alarms))  # infinity calls nothing
    steps = np.append(steps, np.inf)
    sensitivity, specificity = _ratio(hits, actual), 1 - _ratio(alarms, others)
    if aim == "sensitivity":
        return _last(steps, sensitivity >= at - 1e-12)
    if aim == "specificity":
        return _first(steps, specificity >= at - 1e-12)
    merit = sensitivity + specificity if aim == "youden" else -(at * (actual - hits) + alarms)
    undefined = (actual[:, 0] == 0) | (others[:, 0] == 0)
    best = _last(steps, merit >= np.nanmax(np.where(np.isnan(merit), -np.inf, merit), axis=1, keepdims=True) - 1e-12)
    return np.where(undefined, np.nan, best)


def _at_least(counts: Counts, place: np.ndarray, steps: int) -> Float[np.ndarray, "samples steps"]:
    """How many of the drawn rows lie at each step or above."""
    per_step = np.zeros((len(counts), steps))
    np.add.at(per_step.T, place, counts.T)
    return per_step[:, ::-1].cumsum(1)[:, ::-1]


def _last(steps: np.ndarray, holds: np.ndarray) -> Metric:
    return np.where(holds.any(1), steps[len(steps) - 1 - holds[:, ::-1].argmax(1)], np.nan)


def _first(steps: np.ndarray, holds: np.ndarray) -> Metric:
    return np.where(holds.any(1), steps[holds.argmax(1)], np.nan)


def ppv_at(sensitivity: Metric, specificity: Metric, prevalence: float) -> Metric:
    """The positive predictive value where a fraction ``prevalence`` has the finding, by Bayes."""
    found = sensitivity * prevalence
    return _ratio(found, found + (1 - specificity) * (1 - prevalence))


def npv_at(sensitivity: Metric, specificity: Metric, prevalence: float) -> Metric:
    cleared = specificity * (1 - prevalence)
    return _ratio(cleared, cleared + (1 - sensitivity) * prevalence)


def wilson(hits: float, of: float, level: float = 0.95) -> tuple[float, float] | None:
    """The interval of a fraction of independent cases (Wilson, 1927); None of none."""
    if of <= 0:
        return None
    z = float(norm.ppf((1 + level) / 2))
    rate, spread = hits / of, z**2 / of
    middle = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * (rate * (1 - rate) / of + spread / (4 * of)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def net_benefit(
    target: Rows, probability: Rows, thresholds: Float[np.ndarray, " points"], counts: Counts | None = None
) -> Float[np.ndarray, "samples points"]:
    """TP/n - FP/n t/(1 - t) at each threshold t (Vickers and Elkin, 2006); of calling nobody it is 0."""
    return np.stack([_benefit(calls(target, probability, t, counts), t) for t in thresholds], axis=1)


def net_benefit_of_all(
    target: Rows, thresholds: Float[np.ndarray, " points"], counts: Counts | None = None
) -> Float[np.ndarray, "samples points"]:
    """Of calling everybody."""
    return net_benefit(target, np.ones(len(target)), thresholds, counts)


def _benefit(found: Calls, t: float) -> Metric:
    return _ratio(found.true_positive - found.false_positive * t / (1 - t), found.rows)
