"""Metrics of groups of patients, and a test of whether the groups differ. docs/audit.md says why they are these.

A block is a patient's rows in one group. Labels of groups are shuffled between blocks, so that what belongs together
stays together.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.stats import gamma

from imitate.statistics import calibration
from imitate.statistics.metrics import Counts, Metric, Rows, _cumulative, _ratio, auroc, mean

CHUNK = 2**22  # cells of a matrix held at once
LARGEST_EXACT = 0.1  # p values from here on are those of the shuffles, without a fitted tail
Codes = Int[np.ndarray, " rows"]


class Scored(NamedTuple):
    """Rows of one class, of one fit. ``target`` is 1, 0 or NaN."""

    target: Rows
    score: Rows | None  # None: there are calls only
    called: Rows | None = None  # whether the score reaches the threshold; None: there is no threshold
    probability: Rows | None = None

    def at(self, rows: np.ndarray) -> "Scored":
        score, called, probability = (None if each is None else each[rows] for each in self[1:])
        return Scored(self.target[rows], score, called, probability)


def fnr(it: Scored, counts: Counts | None = None) -> Metric:
    """The fraction of the positives that are not called."""
    return mean(_missed(it), counts)


def fpr(it: Scored, counts: Counts | None = None) -> Metric:
    """The fraction of the negatives that are called."""
    return mean(_alarmed(it), counts)


def ppv(it: Scored, counts: Counts | None = None) -> Metric:
    """The fraction of the called that are positive."""
    assert it.called is not None
    return mean(np.where(it.called > 0, it.target, np.nan), counts)


def _missed(it: Scored) -> Rows:
    assert it.called is not None
    return np.where(it.target > 0, 1.0 - it.called, np.nan)


def _alarmed(it: Scored) -> Rows:
    assert it.called is not None
    return np.where(it.target == 0, np.asarray(it.called, float), np.nan)


def ranking(it: Scored, counts: Counts | None = None) -> Metric:
    assert it.score is not None
    return auroc(it.target, it.score, counts)


def _of_probabilities(name: str) -> Callable[[Scored, Counts | None], Metric]:
    def measure(it: Scored, counts: Counts | None = None) -> Metric:
        assert it.probability is not None
        return calibration.MEASURES[name](it.target, it.probability, counts)

    return measure


OF_CALLS, OF_PROBABILITIES = ("fnr", "fpr", "ppv"), ("brier", "smooth-ece", "slope")
METRICS: dict[str, Callable[[Scored, Counts | None], Metric]] = {
    "auroc": ranking,
    "fnr": fnr,
    "fpr": fpr,
    "ppv": ppv,
    **{name: _of_probabilities(name) for name in OF_PROBABILITIES},
}
TESTED = ("auroc", "fnr", "fpr")
HIGHER_IS_WORSE = {"auroc": False, "fnr": True, "fpr": True}


def measured(it: Scored, counts: Counts | None = None, *, names: Sequence[str] = tuple(METRICS)) -> dict[str, Metric]:
    """Those of ``names`` that the rows can have: without a threshold no rates, without probabilities no calibration."""
    lacking = (
        *(("auroc",) if it.score is None else ()),
        *(OF_CALLS if it.called is None else ()),
        *(OF_PROBABILITIES if it.probability is None else ()),
    )
    return {name: METRICS[name](it, counts) for name in names if name not in lacking}


def balancing(
    counts: Counts, groups: Codes, strata: Codes, *, compared: Sequence[int]
) -> tuple[Float[np.ndarray, "samples rows"], float]:
    """Counts under which each of the ``compared`` groups has the strata in the proportions of all of them together.

    A row of stratum k counts N(k) / n(k) times, with n(k) the rows of its group and N(k) those of all compared groups.
    Strata that one of the groups lacks take no part; with them comes the fraction of the rows that is left.
    """
    member = np.stack([groups == code for code in compared])
    kinds = np.unique(strata[member.any(0)])
    held = np.array([[(mine & (strata == kind)).any() for kind in kinds] for mine in member])
    shared = kinds[held.all(0)]
    weighted = np.zeros(counts.shape)
    pool = member.any(0)
    for kind in shared:
        within = strata == kind
        total = (counts[:, within & pool]).sum(1)
        for mine in member:
            rows = within & mine
            weighted[:, rows] = counts[:, rows] * np.nan_to_num(_ratio(total, counts[:, rows].sum(1)))[:, None]
    left = float((np.isin(strata, shared) & pool).sum() / max(1, pool.sum()))
    return weighted, left


class Shuffled(NamedTuple):
    """A test that groups do not differ, against shuffled labels of groups."""

    p: float
    gap: float  # the mean difference of the largest and the smallest value under shuffled labels


def shuffled_gap(
    fits: Sequence[Scored],
    metric: str,
    groups: Codes,
    patients: Shaped[np.ndarray, " rows"],
    *,
    shuffles: int = 999,
    seed: int = 0,
) -> Shuffled:
    """Whether ``groups`` (0, 1, ...) differ in auroc, fnr or fpr, the means over fits of the same rows.

    The statistic is Q = sum over groups of (m(g) - m)^2 / v(g), with v(g) the variance of m(g) over blocks and m the
    mean weighted by 1 / v. Labels are shuffled among the blocks that have the same kinds of rows (positive, negative,
    both), so that prevalence stays what it is in each group; dividing by the variance keeps the test valid where groups
    differ in the spread of their scores alone (Chung and Romano, 2013). Small p values come from a gamma distribution
    with the mean and variance of the shuffles (Winkler et al., 2016), which for large samples is the chi square that Q
    then has.
    """
    block = np.unique(np.stack([np.unique(patients, return_inverse=True)[1], groups]), axis=1, return_inverse=True)
    owner = block[1].reshape(-1)
    labels = block[0][1]
    kinds = _kinds(fits[0].target, owner, len(labels), metric)
    generator = np.random.default_rng(seed)
    statistics, gaps = [], []
    size = max(1, CHUNK // max(1, len(groups)))
    for start in range(0, shuffles + 1, size):
        number = min(size, shuffles + 1 - start)
        drawn = np.tile(labels, (number, 1))
        for kind in np.unique(kinds):
            some = np.flatnonzero(kinds == kind)
            drawn[:, some] = generator.permuted(drawn[:, some], axis=1)
        if start == 0:
            drawn[0] = labels
        values, variances = _of_groups(fits, metric, drawn, owner)
        statistics.append(_q(values, variances))
        gaps.append(values.max(1) - values.min(1))
    q, gap = np.concatenate(statistics), np.concatenate(gaps)
    return Shuffled(_tail(q[0], q[1:]), float(np.nanmean(gap[1:])))


def _kinds(target: Rows, owner: Codes, blocks: int, metric: str) -> Int[np.ndarray, " blocks"]:
    """Which kinds of rows a block has, of those that the metric looks at."""
    positive, negative = (np.bincount(owner[target == value], minlength=blocks) > 0 for value in (1, 0))
    found = {"fnr": positive * 1, "fpr": negative * 1}.get(metric, positive * 1 + negative * 2)
    return np.asarray(found)


def _q(values: Float[np.ndarray, "samples groups"], variances: Float[np.ndarray, "samples groups"]) -> Metric:
    weights = 1 / variances
    middle = (weights * values).sum(1) / weights.sum(1)
    return (weights * (values - middle[:, None]) ** 2).sum(1)


def _tail(observed: float, drawn: Metric) -> float:
    drawn = drawn[~np.isnan(drawn)]
    if math.isnan(observed) or not len(drawn):
        return math.nan
    exact = (1 + (drawn >= observed - 1e-9).sum()) / (1 + len(drawn))
    variance = float(drawn.var())
    if exact >= LARGEST_EXACT or variance <= 0:
        return float(exact)
    scale = variance / float(drawn.mean())
    return float(min(LARGEST_EXACT, max(1e-12, gamma.sf(observed, drawn.mean() / scale, scale=scale))))


def _of_groups(
    fits: Sequence[Scored], metric: str, labels: Int[np.ndarray, "samples blocks"], owner: Codes
) -> tuple[Float[np.ndarray, "samples groups"], Float[np.ndarray, "samples groups"]]:
    """The metric of each group, and its variance over blocks."""
    of_one = _area if metric == "auroc" else _rate
    found = [of_one(fits, metric, labels == group, owner) for group in range(int(labels.max()) + 1)]
    values, variances = (np.stack(each, axis=1) for each in zip(*found, strict=True))
    return values, variances


def _rate(
    fits: Sequence[Scored], metric: str, member: Bool[np.ndarray, "samples blocks"], owner: Codes
) -> tuple[Metric, Metric]:
    """Of the member blocks: the sum of a rate's zeros and ones over their number, and its variance as a ratio's."""
    each = np.mean([_missed(fit) if metric == "fnr" else _alarmed(fit) for fit in fits], axis=0)
    counted = ~np.isnan(each)
    rows = np.bincount(owner, counted, member.shape[1])
    hits = np.bincount(owner, np.nan_to_num(each), member.shape[1])
    drawn = member.astype(float)
    total = drawn @ rows
    rate = _ratio(drawn @ hits, total)
    squares = drawn @ hits**2 - 2 * rate * (drawn @ (hits * rows)) + rate**2 * (drawn @ rows**2)
    return rate, _variance(squares / np.maximum(total, 1) ** 2, drawn @ (rows > 0), total)


def _area(
    fits: Sequence[Scored], metric: str, member: Bool[np.ndarray, "samples blocks"], owner: Codes
) -> tuple[Metric, Metric]:
    """The AUROC among the member blocks, and its variance from the influence of each row (DeLong et al., 1988)."""
    rows = member[:, owner].astype(float)
    parts = [_influence(fit, rows) for fit in fits]
    influence = np.mean([part[1] for part in parts], axis=0)
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
    blocks = np.add.reduceat(influence[:, order], starts, axis=1)
    rarer = np.minimum(*(rows @ (fits[0].target == kind) for kind in (1, 0)))
    value: Metric = np.mean([part[0] for part in parts], axis=0)
    return value, _variance((blocks**2).sum(1), member.sum(1).astype(float), rarer)


def _variance(squares: Metric, blocks: Metric, rows: Metric) -> Metric:
    """No variance is known better than to half a case."""
    return squares * blocks / np.maximum(blocks - 1, 1) + (0.5 / np.maximum(rows, 1)) ** 2


def _influence(
    it: Scored, member: Float[np.ndarray, "samples rows"]
) -> tuple[Metric, Float[np.ndarray, "samples rows"]]:
    """The AUROC among the members, and how much each row moves it."""
    assert it.score is not None
    positive, negative = np.flatnonzero(it.target > 0), np.flatnonzero(it.target == 0)
    above = _beaten(it.score[positive], it.score[negative], member[:, negative])
    below = _beaten(-it.score[negative], -it.score[positive], member[:, positive])
    wins, losses = member[:, positive].sum(1), member[:, negative].sum(1)
    area = _ratio((member[:, positive] * above).sum(1), wins)
    influence = np.zeros(member.shape)
    influence[:, positive] = member[:, positive] * _moved(above - area[:, None], wins)
    influence[:, negative] = member[:, negative] * _moved(below - area[:, None], losses)
    return area, influence


def _moved(apart: Float[np.ndarray, "samples n"], total: Metric) -> Float[np.ndarray, "samples n"]:
    return np.nan_to_num(apart / np.maximum(total, 1)[:, None])


def _beaten(
    score: Float[np.ndarray, " n"], others: Float[np.ndarray, " m"], member: Float[np.ndarray, "samples m"]
) -> Float[np.ndarray, "samples n"]:
    """For each score, the fraction of the member ``others`` below it; equal ones count half."""
    order = np.argsort(others, kind="stable")
    summed = _cumulative(member[:, order])
    left, right = (np.searchsorted(others[order], score, side) for side in ("left", "right"))
    return _moved((summed[:, left] + summed[:, right]) / 2, summed[:, -1])


def worst_and_best(values: Mapping[str, float], metric: str) -> tuple[str, str]:
    """The groups with the worst and the best value."""
    order = sorted(values, key=lambda name: values[name], reverse=HIGHER_IS_WORSE[metric])
    return order[0], order[-1]


def pairs(groups: int) -> int:
    """Among how many pairs the worst and the best group were found."""
    return groups * (groups - 1) // 2


def few(target: Rows, patients: Shaped[np.ndarray, " rows"], metric: str) -> int:
    """How many patients of the rarer of the kinds that the metric looks at there are."""
    kinds: dict[str, tuple[Bool[np.ndarray, " rows"], ...]] = {
        "fnr": (target > 0,),
        "fpr": (target == 0,),
        "auroc": (target > 0, target == 0),
    }
    return min(len(np.unique(patients[rows])) for rows in kinds[metric])
