"""What runs say of each metric: its mean, its interval over patients and seeds, and paired tests between methods."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from imitate.errors import UserError
from imitate.statistics.intervals import (
    LEAST,
    OF_SEVERAL,
    Runs,
    Support,
    angle,
    difference_interval,
    enough,
    fraction_interval,
    independent,
    interval,
    p_value,
    spread,
)
from imitate.statistics.resampling import Distribution, Resample, bootstrap
from imitate.tasks.base import Estimate, Predictions, Task
from imitate.tasks.comparable import same_truth


class Resampled(NamedTuple):
    """Of a method's runs on the same images."""

    per_seed: list[dict[str, float]]
    drawn: dict[str, Distribution]
    support: dict[str, Support]
    patients: int
    pretrained: tuple[int, ...]  # the pre-training of each run; empty: each its own
    unbounded: frozenset[str] = frozenset()  # metrics that are not between 0 and 1, whatever these values are
    inflated: frozenset[str] = frozenset()  # metrics that noise makes larger, in the data as in a bootstrap sample

    def value(self, metric: str) -> float:
        return float(np.mean(self.of_seeds(metric)))

    def of_seeds(self, metric: str) -> list[float]:
        return [values.get(metric, math.nan) for values in self.per_seed]

    def supporting(self, metric: str) -> Support:
        return self.support.get(metric, (self.patients,))

    def is_fraction(self, metric: str) -> bool:
        """Whether it is between 0 and 1, but for rounding."""
        values = self.drawn[metric]
        if metric.partition("/")[0] in self.unbounded:
            return False
        return bool((np.isnan(values) | (np.abs(values - 0.5) < 0.5 + 1e-9)).all())

    def runs(self, metric: str, *, angles: bool = False) -> Runs:
        drawn, values = self.drawn[metric], np.array(self.of_seeds(metric))
        return independent(*((angle(drawn), angle(values)) if angles else (drawn, values)), self.pretrained)

    def interval(self, metric: str) -> tuple[float, float] | None:
        """95%, over patients and seeds."""
        found, value = spread(self.runs(metric), support=self.supporting(metric)), self.value(metric)
        if metric.partition("/")[0] in self.inflated:
            ends = interval(2 * value - float(np.nanmean(self.drawn[metric])), found)
            return ends and (max(0.0, ends[0]), max(0.0, ends[1]))
        return (fraction_interval if self.is_fraction(metric) else interval)(value, found)


class Test(NamedTuple):
    difference: float
    low: float | None  # 95%
    high: float | None
    p: float  # two-sided; NaN where it cannot be known


def resampled_metrics(
    task: Task,
    runs: Sequence[Predictions],
    *,
    resamples: int,
    like: Predictions | None = None,
    pretrained: Sequence[int] = (),
) -> Resampled:
    """The bootstrap draws the same patients for all that are compared with ``like``, which may be in another order."""
    like = runs[0] if like is None else like
    order = positions(runs[0], like)
    drawn = bootstrap(
        [_reordered(partial(task.resample, run), order) for run in runs],
        like["patient"],
        strata=like.get("fold", like.get("part")),
        resamples=resamples,
    )
    per_seed = [task.measure(run) for run in runs]
    patients = len(np.unique(like["patient"]))
    each = [task.support(run) for run in runs]
    support = {name: min((one[name] for one in each if name in one), key=min) for name in each[0]}
    return Resampled(per_seed, drawn, support, patients, tuple(pretrained), frozenset(task.units), task.inflated)


def tested(a: Resampled, b: Resampled, metric: str) -> Test:
    """``b`` minus ``a``: paired by patient, and by seed where both have as many seeds."""
    support = min(a.supporting(metric), b.supporting(metric), key=min)
    first, second = b.value(metric), a.value(metric)
    angles = a.is_fraction(metric) and b.is_fraction(metric)
    each = [one.runs(metric, angles=angles) for one in (b, a)]
    if len(a.per_seed) == len(b.per_seed):
        origins = _origins(a, b)
        one, two = (each._replace(pretrained=()).runs(metric, angles=angles) for each in (b, a))
        each = [independent(one.drawn - two.drawn, one.values - two.values, origins)]
    found = spread(*each, support=support)
    if angles:
        change = float(np.subtract(*angle(np.array([first, second]))))
        ends = difference_interval(first, second, found)
    else:
        change, ends = first - second, interval(first - second, found)
    low, high = ends or (None, None)
    return Test(first - second, low, high, p_value(change, found))


def _origins(a: Resampled, b: Resampled) -> tuple[int, ...]:
    """Of the method with fewer pre-trainings, but of one that has several."""
    several = [each.pretrained for each in (a, b) if len(set(each.pretrained)) > 1]
    return min(several, key=lambda each: len(set(each)), default=())


def estimates(
    task: Task,
    runs: list[Predictions],
    per_seed: list[dict[str, float]],
    resamples: int,
    *,
    pretrained: Sequence[int] = (),
) -> dict[str, Estimate]:
    """The mean over the runs of every metric, its 95% interval over patients and seeds, and the levels beside it."""
    _check_alike(runs)
    measured = resampled_metrics(task, runs, resamples=resamples, pretrained=pretrained)._replace(per_seed=per_seed)
    chance, shuffled = ([level(run) for run in runs] for level in (task.chance, task.shuffled))
    own = task.intervals(runs, resamples)
    found = {}
    for name in per_seed[0]:
        value = measured.value(name)
        ends = own.get(name) if enough(measured.supporting(name)) else None
        low, high = ends or measured.interval(name) or (None, None)
        found[name] = Estimate(
            value=_defined(value),
            low=low,
            high=high,
            chance=_defined(np.mean([level.get(name, math.nan) for level in chance])),
            shuffled=_defined(np.mean([level.get(name, math.nan) for level in shuffled])),
            note=_note(name, per_seed, measured.supporting(name)),
        )
    return found


def positions(of: Predictions, among: Predictions) -> np.ndarray:
    """Where each image of the one stands in the other."""
    place = {image: i for i, image in enumerate(among["image_id"].tolist())}
    return np.array([place[image] for image in of["image_id"].tolist()])


def _reordered(resample: Resample, order: np.ndarray) -> Resample:
    return lambda counts: resample(counts[:, order])


def _defined(value: float | np.floating) -> float | None:
    return None if math.isnan(value) else float(value)


def _check_alike(runs: Sequence[Predictions]) -> None:
    """UserError where a mean over the runs would be one of different metrics."""
    for run in runs[1:]:
        same = all(np.array_equal(run[key], runs[0][key]) for key in ("image_id", "classes") if key in runs[0])
        if not same or not same_truth(run, runs[0]):
            raise UserError(
                "the models are not measured on the same images, classes or phrases, maybe since their text encoders "
                "do not know the same words: a mean over them would mean nothing, evaluate each by itself"
            )


def _note(name: str, per_seed: Sequence[dict[str, float]], support: Support) -> str:
    """Which classes a macro average excludes, in how many runs there is no value, and why there is no interval."""
    values = per_seed[0]
    absent = [key.split("/")[1] for key in values if key.startswith(f"{name}/") and math.isnan(values[key])]
    notes = [f"undefined and left out: {', '.join(absent)}"] if absent else []
    undefined = sum(math.isnan(each.get(name, math.nan)) for each in per_seed)
    if 0 < undefined < len(per_seed):
        notes.append(f"undefined in {undefined} of {len(per_seed)} seeds, so that there is no mean")
    if not enough(support) and not undefined:
        fewest = min(support)
        kind = " " if len(support) == 1 else " positive " if support.index(fewest) % 2 == 0 else " negative "
        least, of = (LEAST, "it") if len(support) <= 2 else (OF_SEVERAL, "its rarest class")
        patients = "patient" if fewest == 1 else "patients"
        notes.append(f"no interval: {of} rests on {fewest}{kind}{patients}, at least {least} are needed")
    return "; ".join(notes)
