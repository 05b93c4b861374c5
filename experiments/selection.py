"""Tables to select from: means over seeds or folds with the standard deviation between these, and no tests.

What is selected here is confirmed on other images. A study on folds is a folder of folders, a fold each, of one seed.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from imitate.report.markdown import markdown_table
from layout import Folder, read_folder
from study import Cell

Values = Mapping[tuple[str, str, float], Float[np.ndarray, " units"]]
"""Of a method, task and fraction: the main metric of each seed or fold."""
TEMPERATURES = ("0.05", "0.07", "0.1", "0.15", "0.2", "learned")
AT = re.compile(r"^(?P<objective>.+?) (?:at (?P<value>[\d.]+)|(?P<learned>learned))$")


class Column(NamedTuple):
    title: str
    task: str
    fraction: float = 1.0

    def of(self, method: str) -> Cell:
        return Cell(method, self.task, self.fraction)


def of_seeds(study: Folder) -> dict[tuple[str, str, float], Float[np.ndarray, " units"]]:
    return {
        cell: np.array([run[study.main_metric(cell)] for run in study.results[cell].per_seed]) for cell in study.cells
    }


def of_folds(folder: Path, first: int | None = None) -> dict[tuple[str, str, float], Float[np.ndarray, " units"]]:
    """Of the methods that every fold has, or each of the ``first``."""
    folds = [of_seeds(read_folder(path.parent)) for path in sorted(folder.glob("fold-*/study.json"))[:first]]
    every = [cell for cell in folds[0] if all(cell in fold for fold in folds)] if folds else []
    return {cell: np.concatenate([fold[cell] for fold in folds]) for cell in every}


def table(values: Values, columns: Sequence[Column]) -> str:
    """Methods as lines, but for those at another temperature."""
    methods = [name for name in dict.fromkeys(key[0] for key in values) if not AT.match(name)]
    lines = [[name, *(_shown(values.get(each.of(name))) for each in columns)] for name in methods]
    return markdown_table(["", *(each.title for each in columns)], lines)


def temperatures(values: Values, own: Mapping[str, tuple[str, str]], columns: Sequence[Column]) -> str:
    """A line for each objective and task, a column for each temperature; the best of each line is bold.

    ``own`` names the method that is an objective at the temperature of the other table, and that temperature.
    """
    lines = []
    for objective, (method, temperature) in own.items():
        names = {each: f"{objective} {each if each == 'learned' else f'at {each}'}" for each in TEMPERATURES}
        names[temperature] = method
        for column in columns:
            found = [values.get(column.of(names[each])) for each in TEMPERATURES]
            means = [float(each.mean()) for each in found if each is not None]
            best = max(means) if len(means) > 1 else None
            cells = [_shown(each, bold=each is not None and float(each.mean()) == best) for each in found]
            if any(cells):
                lines.append([f"{objective}, {column.title}", *cells])
    return markdown_table(["", *TEMPERATURES], lines)


def _shown(values: Float[np.ndarray, " units"] | None, *, bold: bool = False) -> str:
    if values is None:
        return ""
    spread = f" ± {100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""
    written = f"{100 * values.mean():.1f}{spread}"
    return f"**{written}**" if bold else written
