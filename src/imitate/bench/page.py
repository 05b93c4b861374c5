"""The page and the table of numbers that a bench ends in."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imitate.bench import table
from imitate.bench.table import Found
from imitate.report import figures, tables
from imitate.report.build import section
from imitate.report.groups import Entry, group_entries
from imitate.report.numbers import METRIC, numbers, short, write_numbers
from imitate.report.page import Details, Figure, Table, render
from imitate.tasks.results import write_text

PAGE, NUMBERS = "bench.html", "results.csv"
TITLE = "Benchmark of chest radiograph encoders"
COLUMNS = ("model", "task", "recipe", "data", "split", "mode", "fraction", *METRIC)
TESTS = ("difference", "difference_low", "difference_high", "p", "p_holm")
HOW = (
    "Intervals are 95%, over patients and seeds; with one seed they do not include the variation between trainings, "
    "and with fewer than ten patients of a kind there is none. Macro averages are over the classes that a model can "
    "score; paired tests are over those that both models have. imitate report OUT/results/*.json makes a page with "
    "curves and examples from the same results."
)


def write_page(found: Found, folder: Path) -> Path:
    look = figures.styles([line.name for line in found.lines])
    entries = [Entry(cell.path, each.results) for cell, each in found.outcomes.items() if each.results]
    groups = group_entries(entries)
    shown = figures.styles(list(dict.fromkeys([*look, *(name for group in groups for name in group.methods)])))
    main, *more = table.main_tables(found, shown)
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    write_text(
        folder / PAGE,
        render(
            title=TITLE,
            written=f"Written {date} by imitate {version('imitate-cxr')}. Research software, not a medical device.",
            overview=main,
            opening=_opening(found, shown, more),
            sources=tables.sources(groups),
            sections=[section(group, shown, curved=False) for group in groups],
            how=HOW,
        ),
    )
    return folder / PAGE


def _opening(found: Found, look: figures.Styles, more: Sequence[Table]) -> dict[str, Any]:
    """What follows the main table: more of it, what it lacks, and the paired tests."""
    tested = bool(found.tested.differences)
    lists = {
        "Failed": table.reasons(found.outcomes, lambda outcome: [outcome.failed]),
        "Not measured (–)": table.reasons(found.outcomes, lambda outcome: [outcome.lacks]),
        "Not tested": [f"{cell.title}: {why}" for cell, why in found.tested.untested.items()],
    }
    return {
        "notes": _legend(found) if tested else [],
        "lists": {title: texts for title, texts in lists.items() if texts},
        "more": more,
        "tables": table.differences(found, look) if tested else [],
        "warnings": table.reasons(found.outcomes, lambda outcome: outcome.warnings),
        "folded": [Details(f"The same as plots: minus {found.reference}", _forests(found, look))] if tested else [],
    }


def _legend(found: Found) -> list[str]:
    number = len(found.tested.differences)
    return [
        f"Bold: better than {found.reference}; ↓: worse. Both by a paired test on the same patients with p < .05, "
        f"corrected by Holm over the {number} test{'s' if number > 1 else ''} of this page. Other differences may be "
        "chance."
    ]


def _forests(found: Found, look: figures.Styles) -> list[Figure]:
    drawn = []
    for task, lines in table.points(found).items():
        level = dict.fromkeys(lines, 0.0)
        image = figures.forest(lines, look, chance=level, dotted=f"as {found.reference}", unit="points")
        drawn.append(Figure(task, {f"Differences of {task} from {found.reference}; the table has the numbers": image}))
    return drawn


def write_csv(found: Found, folder: Path) -> Path:
    """Every metric; the tests are next to the main one of each cell."""
    lines: list[Mapping[str, Any]] = []
    for cell, outcome in found.outcomes.items():
        if outcome.results is None:
            continue
        results, column = outcome.results, cell.column
        where: dict[str, Any] = {
            "model": cell.line.name,
            "task": results.task,
            "recipe": "" if column.what == results.task else column.what.replace("\\", "/"),
            "data": column.name,
            "split": results.data["split"],
            "mode": results.mode,
            "fraction": f"{results.fraction:g}",
        }
        for number, each in enumerate(numbers(results)):
            lines.append({**where, **each, **({} if number else _tested(found, cell))})
    write_numbers(folder / NUMBERS, lines, [*COLUMNS, *TESTS])
    return folder / NUMBERS


def _tested(found: Found, cell: table.Cell) -> dict[str, str]:
    test = found.tested.differences.get(cell)
    if test is None:
        return {}
    values: Sequence[float | None] = (test.difference, test.low, test.high, test.p, test.p_holm)
    return dict(zip(TESTS, map(short, values), strict=True))
