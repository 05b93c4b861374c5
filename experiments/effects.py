"""Main effects and interactions of a factorial study, from its folder alone.

Each effect is a contrast of cell means. Its error is the residual of the cells within seeds, pooled over all cells, as
in an analysis of variance with seeds as blocks: with 18 cells and three seeds it has 34 degrees of freedom. It is the
error over seeds; all cells are measured on the same patients, so an effect holds for these.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from imitate.report.markdown import markdown_table
from imitate.statistics.intervals import holm
from layout import Folder
from study import Cell

FACTORS: dict[str, tuple[str, ...]] = {  # in the names of methods; the first of each is the baseline
    "aggregation": ("channels", "spatial", "pooled"),
    "levels": ("deepest level", "all levels"),
    "texts": ("report", "sections", "both"),
}
ALPHA = 0.05


class Effect(NamedTuple):
    """In the metric's own unit."""

    name: str
    value: float
    low: float
    high: float
    p: float


def cells() -> list[tuple[str, ...]]:
    return list(product(*FACTORS.values()))


def effects(study: Folder, task: str, *, fraction: float = 1.0, metric: str | None = None) -> list[Effect]:
    """Main effects, then interactions; p is not corrected. Empty where a cell is missing."""
    every = [Cell(" ".join(cell), task, fraction) for cell in cells()]
    if any(cell not in study.results for cell in every):
        return []
    return contrasts(per_seed(study, every, metric), weights())


def per_seed(study: Folder, cells: Sequence[Cell], metric: str | None = None) -> Float[np.ndarray, "cells seeds"]:
    chosen = metric or study.main_metric(cells[0])
    return np.array([[run[chosen] for run in study.results[cell].per_seed] for cell in cells])


def contrasts(
    values: Float[np.ndarray, "cells seeds"], named: Sequence[tuple[str, Float[np.ndarray, " cells"]]]
) -> list[Effect]:
    """Of each name and weights of the cells, which sum to zero."""
    count, seeds = values.shape
    means = values.mean(1)
    residual = values - means[:, None] - values.mean(0) + values.mean()
    freedom = (count - 1) * (seeds - 1)
    variance = (residual**2).sum() / freedom
    found = []
    for name, weight in named:
        value, error = float(weight @ means), math.sqrt(variance * (weight**2).sum() / seeds)
        half = float(stats.t.ppf(1 - ALPHA / 2, freedom)) * error
        p = float(2 * stats.t.sf(abs(value) / error, freedom)) if error else float(value == 0)
        found.append(Effect(name, value, value - half, value + half, p))
    return found


def weights() -> list[tuple[str, Float[np.ndarray, " cells"]]]:
    """Of each contrast of the factors: differences of means, differences of these, and so on.

    Only with attention over channels do the two branches read different levels, as published, so the interaction of
    levels and texts is also that of these cells alone.
    """
    single = [
        (factor, f"{value} − {values[0]}", _difference(factor, value, values[0]))
        for factor, values in FACTORS.items()
        for value in values[1:]
    ]
    found = [(name, _over([sign])) for _, name, sign in single]
    for count in (2, 3):
        for several in combinations(single, count):
            factors, names, signs = zip(*several, strict=True)
            if len(set(factors)) == count:
                found.append((" × ".join(f"({name})" for name in names), _over(signs)))
    own = np.array([float(cell[0] == FACTORS["aggregation"][0]) for cell in cells()])
    for (first, one, sign), (second, other, another) in combinations(single, 2):
        if (first, second) == ("levels", "texts"):
            found.append((f"({one}) × ({other}), with channels", _over([sign * own, another])))
    return found


def _difference(factor: str, value: str, base: str) -> Float[np.ndarray, " cells"]:
    place = list(FACTORS).index(factor)
    return np.array([float(cell[place] == value) - float(cell[place] == base) for cell in cells()])


def _over(signs: Sequence[Float[np.ndarray, " cells"]]) -> Float[np.ndarray, " cells"]:
    """The product of the signs, as means over the cells of each combination of signs."""
    product_ = np.prod(signs, axis=0)
    return product_ / (np.abs(product_).sum() / 2 ** len(signs))


def table(study: Folder, tasks: Sequence[tuple[str, str, float]]) -> str:
    """Effects as lines, tasks (title, name, fraction) as columns, in points; Holm over the whole table."""
    columns = {title: effects(study, task, fraction=fraction) for title, task, fraction in tasks}
    return corrected(columns) if all(columns.values()) else ""


def corrected(columns: Mapping[str, Sequence[Effect]]) -> str:
    """The same effects on each task; Holm over the whole table."""
    adjusted = iter(holm([each.p for column in columns.values() for each in column]))
    shown = {title: [_shown(each, next(adjusted)) for each in column] for title, column in columns.items()}
    names = [each.name for each in next(iter(columns.values()))]
    return markdown_table(["", *shown], [[name, *row] for name, *row in zip(names, *shown.values(), strict=True)])


def _shown(effect: Effect, p: float) -> str:
    written = f"{100 * effect.value:+.1f} ({100 * effect.low:+.1f} to {100 * effect.high:+.1f}), p {p:.2g}"
    return f"**{written}**" if p < ALPHA else written


def cell_means(study: Folder, tasks: Sequence[tuple[str, str, float]]) -> str:
    """The 18 cells, means over seeds in percent with the standard deviation between seeds."""
    lines = []
    for cell in cells():
        keys = [Cell(" ".join(cell), task, fraction) for _, task, fraction in tasks]
        if all(key in study.results for key in keys):
            lines.append([*cell, *(_mean(study, key) for key in keys)])
    return markdown_table([*FACTORS, *(title for title, *_ in tasks)], lines)


def _mean(study: Folder, cell: Cell) -> str:
    values = 100 * np.array([run[study.main_metric(cell)] for run in study.results[cell].per_seed])
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}" if len(values) > 1 else f"{values.mean():.1f}"
