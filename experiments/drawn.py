"""A method's main metric with the patients drawn again: all that paired tests need of its predictions.

The bootstrap draws the same patients for every method. Tests of methods that were measured in several work folders, or
whose predictions are gone, are therefore the tests of the predictions themselves. A file holds of each cell an array
(seeds, resamples), and how many patients of each kind the metric rests on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from imitate.statistics.resampling import Distribution
from imitate.tasks.base import Results
from imitate.tasks.comparable import task_of
from imitate.tasks.comparison import read_measured
from imitate.tasks.estimating import Resampled, Test, resampled_metrics, tested

FILE = "resamples.npz"


class Drawn(NamedTuple):
    values: Distribution
    support: Int[np.ndarray, " kinds"]


def draw(path: Path, resamples: int) -> Drawn:
    """From a results file and its predictions."""
    measured = read_measured(path)
    metric = next(iter(measured.results.metrics))
    found = resampled_metrics(measured.task, measured.runs, resamples=resamples)
    return Drawn(found.drawn[metric].astype(np.float32), np.array(found.supporting(metric)))


def write(path: Path, drawn: Mapping[str, Drawn]) -> None:
    arrays = {f"{name} {part}": array for name, each in drawn.items() for part, array in each._asdict().items()}
    np.savez_compressed(path, **arrays)


def read(path: Path) -> dict[str, Drawn]:
    with np.load(path, allow_pickle=False) as arrays:
        names = dict.fromkeys(name.rpartition(" ")[0] for name in arrays)
        return {name: Drawn(*(arrays[f"{name} {part}"] for part in Drawn._fields)) for name in names}


def test(a: Results, b: Results, drawn: tuple[Drawn, Drawn]) -> Test:
    """``b`` minus ``a`` in the main metric, paired by patient and seed."""
    first, second = (_resampled(each, of) for each, of in zip((a, b), drawn, strict=True))
    return tested(first, second, next(iter(a.metrics)))


def _resampled(results: Results, drawn: Drawn) -> Resampled:
    metric, task = next(iter(results.metrics)), task_of(results, Path(results.model))
    values: Float[np.ndarray, "seeds resamples"] = drawn.values.astype(np.float64)
    support = tuple(map(int, drawn.support))
    return Resampled(
        results.per_seed, {metric: values}, {metric: support}, max(support), (), frozenset(task.units), task.inflated
    )
