"""The gaps of an audit: between the worst and the best group of each column, class and metric."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from imitate.data.groups import JOIN, UNKNOWN
from imitate.statistics import subgroups
from imitate.statistics.intervals import Runs, independent, interval, spread
from imitate.statistics.resampling import bootstrap
from imitate.statistics.subgroups import Scored
from imitate.tasks.audit_inputs import Inputs
from imitate.tasks.audit_model import AuditOptions, Gap
from imitate.tasks.base import Estimate

ALPHA = 0.05
FEWER = 200  # resamples of what takes long


class Division(NamedTuple):
    """The test images by one column."""

    by: str
    names: list[str]  # of the groups, ``unknown`` last
    codes: np.ndarray

    def rows(self, group: str) -> np.ndarray:
        return np.flatnonzero(self.codes == self.names.index(group))


class Compared(NamedTuple):
    """What a gap is computed from."""

    label: str
    fits: Sequence[Scored]
    division: Division
    drawn: Mapping[str, np.ndarray]  # by ``key``: (fits, resamples)
    inputs: Inputs
    options: AuditOptions

    def value(self, metric: str, group: str) -> np.ndarray:
        """Of each fit."""
        rows = self.division.rows(group)
        return np.array([subgroups.METRICS[metric](fit.at(rows), None)[0] for fit in self.fits])

    def few(self, metric: str, group: str) -> int:
        rows = self.division.rows(group)
        return subgroups.few(self.fits[0].target[rows], self.inputs.patients[rows], metric)

    def runs(self, drawn: np.ndarray, values: np.ndarray) -> Runs:
        """Several heads of one pre-training are not independent."""
        return independent(drawn, values, self.inputs.results.pretrained)


def key(by: str, group: str, metric: str) -> str:
    return "\0".join((by, group, metric))


def gaps_of(it: Compared) -> list[Gap]:
    """Of each metric that is tested, where two groups have enough patients."""
    found = []
    for metric in subgroups.measured(it.fits[0], names=subgroups.TESTED):
        known = [name for name in it.division.names if name != UNKNOWN]
        enough = [name for name in known if it.few(metric, name) >= it.options.least]
        if len(enough) > 1:
            found.append(_gap(it, metric, enough))
    return found


def _gap(it: Compared, metric: str, names: Sequence[str]) -> Gap:
    by, codes, target = it.division.by, it.division.codes, it.fits[0].target
    values = {name: it.value(metric, name) for name in names}
    means = {name: float(each.mean()) for name, each in values.items()}
    worst, best = subgroups.worst_and_best(means, metric)
    sign = 1 if subgroups.HIGHER_IS_WORSE[metric] else -1
    kinds = ("fnr", "fpr") if metric == "auroc" else (metric,)
    support = tuple(it.few(kind, name) for name in (worst, best) for kind in kinds)
    runs = it.runs(
        sign * (it.drawn[key(by, worst, metric)] - it.drawn[key(by, best, metric)]),
        sign * (values[worst] - values[best]),
    )
    gap, level = sign * (means[worst] - means[best]), 1 - ALPHA / subgroups.pairs(len(names))
    low, high = interval(gap, spread(runs, support=support), level) or (None, None)
    compared = [it.division.names.index(name) for name in names]
    rows = np.flatnonzero(np.isin(codes, compared) & ~np.isnan(target))
    tested = subgroups.shuffled_gap(
        [fit.at(rows) for fit in it.fits],
        metric,
        np.searchsorted(compared, codes[rows]),
        it.inputs.patients[rows],
        shuffles=it.options.shuffles,
    )
    balanced, kept = _balanced(it, metric, (worst, best), compared, support)
    return Gap(
        by=by, label=it.label, metric=metric, groups=len(names), worst=worst, best=best,
        values=(means[worst], means[best]), gap=gap, low=low, high=high, shuffled=tested.gap,
        p=None if np.isnan(tested.p) else tested.p, balanced=balanced, kept=kept,
    )  # fmt: skip


def _balanced(
    it: Compared, metric: str, pair: tuple[str, str], compared: Sequence[int], support: tuple[int, ...]
) -> tuple[Estimate | None, float | None]:
    """The gap of the same two groups, at the same fractions of positives and of the columns of ``balance``."""
    by, _, codes = it.division
    target = it.fits[0].target
    words = [it.inputs.groups[name] for name in it.inputs.balance if name not in by.split(JOIN)]
    kinds = np.array([np.nan_to_num(target, nan=-1).astype(np.str_), *words])
    strata = np.unique(kinds, axis=1, return_inverse=True)[1].reshape(-1)
    known = np.where(np.isnan(target), -1, codes)
    first, second = (it.division.rows(name) for name in pair)
    sign = 1 if subgroups.HIGHER_IS_WORSE[metric] else -1
    whole = np.ones((1, len(target)))
    _, kept = subgroups.balancing(whole, known, strata, compared=compared)

    def of(fit: Scored, counts: np.ndarray) -> dict[str, np.ndarray]:
        weighted, _ = subgroups.balancing(counts, known, strata, compared=compared)
        worst, best = (subgroups.METRICS[metric](fit.at(rows), weighted[:, rows]) for rows in (first, second))
        return {"gap": sign * (worst - best)}

    values = np.array([of(fit, whole)["gap"][0] for fit in it.fits])
    if np.isnan(values).any():
        return None, kept
    runs = [lambda counts, fit=fit: of(fit, counts) for fit in it.fits]
    drawn = bootstrap(runs, it.inputs.patients, resamples=min(FEWER, it.options.resamples))["gap"]
    value = float(values.mean())
    low, high = interval(value, spread(it.runs(drawn, values), support=support)) or (None, None)
    return Estimate(value=value, low=low, high=high), kept
