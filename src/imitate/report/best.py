"""Which method is the best of a table: by paired tests on the same images, as ``imitate compare`` makes them."""

from collections.abc import Mapping

import numpy as np

from imitate.errors import UserError
from imitate.report.groups import Entry, Group
from imitate.tasks.base import Estimate, Predictions
from imitate.tasks.comparable import task_of
from imitate.tasks.comparison import p_above
from imitate.tasks.estimating import Resampled, resampled_metrics

LEVEL = 0.05


def with_best(group: Group, *, resamples: int | None = None) -> Group:
    """The group with its ``best``: where a method is above all others and above chance, both with p below .05.

    Nowhere where a metric is a mean over other classes for each method.
    """
    best = {}
    resamples = resamples or (200 if group.task == "calibration" else 1000)  # it has a dozen metrics a class, twice
    for fraction in group.fractions:
        entries = group.at(fraction)
        drawn = _drawn(entries, resamples) if len(entries) > 1 else {}
        for metric in group.metrics:
            if name := _best(group, metric, fraction, drawn):
                best[fraction, metric] = name
    return group._replace(best=best)


def _drawn(entries: Mapping[str, Entry], resamples: int) -> dict[str, Resampled]:
    """Bootstrap samples of each method; none where predictions are lost or not all are of the same images."""
    runs: dict[str, list[Predictions]] = {name: entry.predictions() for name, entry in entries.items()}
    if not all(runs.values()):
        return {}
    like = next(iter(runs.values()))[0]
    if any(not np.array_equal(np.sort(each[0]["image_id"]), np.sort(like["image_id"])) for each in runs.values()):
        return {}
    found: dict[str, Resampled] = {}
    for name, (path, results) in entries.items():
        try:
            task = task_of(results, path)
        except UserError:  # of another version
            return {}
        found[name] = resampled_metrics(task, runs[name], like=like, resamples=resamples, pretrained=results.pretrained)
    return found


def _best(group: Group, metric: str, fraction: float, drawn: Mapping[str, Resampled]) -> str | None:
    estimates = group.estimates(metric, fraction)
    values = {name: each.value for name, each in estimates.items() if each.value is not None}
    if len(values) < 2 or any(name not in drawn or metric not in drawn[name].drawn for name in values):
        return None
    if len(set(group.averaged(metric, fraction).values())) > 1:
        return None
    larger = group.kind.larger_is_better.get(metric.partition("/")[0], True)
    if larger is None:
        return None
    sign = 1 if larger else -1
    first, *others = sorted(values, key=lambda name: -sign * values[name])
    if not _above_chance(estimates[first], sign):
        return None
    tests = p_above(drawn[first], [drawn[name] for name in others], metric)
    return first if all(p < LEVEL for p in tests) else None


def _above_chance(estimate: Estimate, sign: int) -> bool:
    """By its interval; true where chance is not known. Of shuffled images, too, where there are any."""
    end = estimate.low if sign > 0 else estimate.high
    levels = [level for level in (estimate.chance, estimate.shuffled) if level is not None]
    return not levels or (end is not None and all(sign * (end - level) > 0 for level in levels))
