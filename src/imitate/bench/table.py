"""What a bench found, as tables in the form of the published ones: models down, data sets x tasks across."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from imitate.bench.cells import Cell, Outcome
from imitate.bench.columns import Column
from imitate.bench.lines import Line
from imitate.bench.testing import Tested
from imitate.report import page, tables
from imitate.report.figures import Point, Styles
from imitate.report.page import Heading, Table
from imitate.tasks.base import Estimate
from imitate.tasks.comparison import Difference

ALPHA = 0.05
WIDEST = 9  # columns of a table


class Found(NamedTuple):
    """``outcomes`` has every cell; ``reference`` is the line that the others are tested against."""

    lines: list[Line]
    columns: list[Column]
    outcomes: Mapping[Cell, Outcome]
    tested: Tested
    reference: str

    def at(self, line: Line, column: Column) -> Cell:
        return next(cell for cell in self.outcomes if cell.line is line and cell.column is column)

    def metric(self, column: Column) -> str:
        """The main one."""
        every = (each.results for cell, each in self.outcomes.items() if cell.column is column)
        return next((next(iter(each.metrics)) for each in every if each), column.task.main_metric(column.plan.mode))

    def estimate(self, line: Line, column: Column) -> Estimate | None:
        results = self.outcomes[self.at(line, column)].results
        return None if results is None else next(iter(results.metrics.values()))

    def scale(self, column: Column) -> int:
        """100 for percent, 1 for a metric with a unit of its own."""
        return 100 if column.task.units.get(self.metric(column).partition("/")[0], "%") == "%" else 1

    def better(self, cell: Cell) -> bool | None:
        """Whether the paired test says that it is better than the reference, or worse; None: it says neither."""
        test = self.tested.differences.get(cell)
        if test is None or math.isnan(test.p_holm) or test.p_holm >= ALPHA:
            return None
        larger = cell.column.task.larger_is_better.get(self.metric(cell.column).partition("/")[0], True)
        return (test.difference > 0) == larger


def main_tables(found: Found, look: Styles) -> list[Table]:
    """Values with their intervals; bold is better than the reference by the paired test, ↓ worse."""

    def cell(line: Line, column: Column) -> page.Cell:
        where = found.at(line, column)
        if found.outcomes[where].failed:
            return page.Cell("failed")
        shown = tables.cell(found.estimate(line, column), scale=found.scale(column), bold=bool(found.better(where)))
        return shown._replace(value=f"{shown.value} ↓") if found.better(where) is False else shown

    first, *more = _narrow(found)
    title, again = "Main metrics, % with 95% intervals over patients and seeds", "Main metrics, continued"
    return [
        _table(first, look, cell, title, chance=True),
        *(_table(some, look, cell, again, chance=True) for some in more),
    ]


def differences(found: Found, look: Styles) -> list[Table]:
    """In points, with intervals and corrected p values; bold below .05."""

    def cell(line: Line, column: Column) -> page.Cell:
        test = found.tested.differences.get(found.at(line, column))
        if test is None:
            return page.Cell("–")
        value, *ends = _signed(test, found.scale(column))
        between = " to ".join(each for each in ends if each)
        chance = "" if math.isnan(test.p_holm) else "p < .001" if test.p_holm < 0.001 else f"p {test.p_holm:.2g}"
        small = "; ".join(each for each in (between, chance) if each)
        return page.Cell(value, small, bold=found.better(found.at(line, column)) is not None)

    others = found._replace(lines=[line for line in found.lines if line.name != found.reference])
    caption = f"Minus {found.reference}, in points with 95% intervals, p corrected by Holm over all columns"
    return [_table(some, look, cell, caption) for some in _narrow(others)]


def points(found: Found) -> dict[str, dict[str, dict[str, Point]]]:
    """By task: the differences from the reference, by column, then by model; for forest plots."""
    drawn: dict[str, dict[str, dict[str, Point]]] = {}
    for cell, test in found.tested.differences.items():
        scale, heading = found.scale(cell.column), _heading(found, cell.column)
        ends = [test.difference if each is None else each for each in (test.low, test.high)]
        point = Point(*(scale * each for each in (test.difference, *ends)))
        drawn.setdefault(heading, {}).setdefault(_part(found, cell.column), {})[cell.line.name] = point
    return drawn


def reasons(outcomes: Mapping[Cell, Outcome], why: Callable[[Outcome], Sequence[str]]) -> list[str]:
    """A sentence for each reason, with the cells that it is of."""
    by_reason: dict[str, list[Cell]] = {}
    for cell, outcome in outcomes.items():
        for reason in filter(None, why(outcome)):
            by_reason.setdefault(reason, []).append(cell)
    return [f"{_concerned(cells, outcomes)}: {reason}" for reason, cells in by_reason.items()]


def _concerned(cells: Sequence[Cell], outcomes: Mapping[Cell, Outcome]) -> str:
    """A whole line or column by its name alone."""
    names = list(dict.fromkeys(cell.line.name for cell in cells))
    titles = list(dict.fromkeys(cell.column.title for cell in cells))
    every = {cell.line.name for cell in outcomes}
    shown = "every model" if set(names) == every and len(every) > 1 else ", ".join(names)
    whole = {cell.column.title for cell in outcomes} == set(titles)
    return shown if whole else f"{shown}, {', '.join(titles)}"


def _heading(found: Found, column: Column) -> str:
    same = [each for each in found.columns if each.task.name == column.task.name]
    recipe = "" if len({each.what for each in same}) == 1 else f" ({column.what.rpartition('/')[2]})"
    return f"{column.task.title}{recipe}, {tables.label(found.metric(column))}"


def _part(found: Found, column: Column) -> str:
    fractions = {each.fraction for each in found.columns if each.what == column.what}
    return f"{column.name}, {100 * column.fraction:g}%" if len(fractions) > 1 else column.name


def _narrow(found: Found) -> list[Found]:
    """Parts of whole tasks that fit a page side by side."""
    parts: list[list[Column]] = [[]]
    for _, task in groupby(found.columns, lambda column: _heading(found, column)):
        some = list(task)
        if parts[-1] and len(parts[-1]) + len(some) > WIDEST:
            parts.append([])
        parts[-1] += some
    return [found._replace(columns=part) for part in parts]


def _table(
    found: Found, look: Styles, cell: Callable[[Line, Column], page.Cell], caption: str, *, chance: bool = False
) -> Table:
    """A heading a task with its metric; below it a data set each, and a fraction where there are several."""
    parts: dict[str, list[str]] = {}
    for column in found.columns:
        parts.setdefault(_heading(found, column), []).append(_part(found, column))
    lines = [
        page.Line(
            line.name,
            [cell(line, column) for column in found.columns],
            colour=look[line.name].colour,
            small=_about(found, line),
        )
        for line in found.lines
    ]
    if chance:
        lines.append(page.Line("chance", [page.Cell(_chance(found, column)) for column in found.columns], kind="level"))
    return Table(caption, [Heading(text, below) for text, below in parts.items()], lines, corner="model")


def _about(found: Found, line: Line) -> str:
    seeds = f"{len(line.models)} seeds" if len(line.models) > 1 else ""
    reference = "reference" if line.name == found.reference else ""
    return ", ".join(each for each in (reference, seeds) if each)


def _chance(found: Found, column: Column) -> str:
    levels = (found.estimate(line, column) for line in found.lines)
    level = next((each.chance for each in levels if each and each.chance is not None), None)
    return "–" if level is None else f"{found.scale(column) * level:.1f}"


def _signed(test: Difference, scale: int) -> list[str]:
    """A difference that is rounded to nothing has no sign."""
    shown = ["" if each is None else f"{scale * each:+.1f}" for each in (test.difference, test.low, test.high)]
    return ["0.0" if each in ("+0.0", "-0.0") else each for each in shown]
