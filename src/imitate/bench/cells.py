"""Measure what is missing of a bench, cell after cell: no cell that fails ends the others."""

import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from imitate.bench import stamps
from imitate.bench.columns import Column
from imitate.bench.lines import Line
from imitate.errors import Lacking, UserError
from imitate.report.markdown import percent
from imitate.tasks.base import Budget, Results
from imitate.tasks.measuring import results_of
from imitate.tasks.record import Data, Job, Method
from imitate.tasks.results import read_results

log = logging.getLogger(__name__)
detail = logging.getLogger("imitate.details")  # for the log file alone


@dataclass(frozen=True, eq=False)
class Cell:
    """``path`` is that of its results, ``job`` what they are of."""

    line: Line
    column: Column
    job: Job
    path: Path

    @property
    def title(self) -> str:
        return f"{self.line.name}, {self.column.title}"


class Outcome(NamedTuple):
    """``lacks``: why it cannot be measured; ``failed``: why it was not; ``warnings`` that were given meanwhile."""

    results: Results | None = None
    lacks: str = ""
    failed: str = ""
    warnings: tuple[str, ...] = ()


def cells(
    lines: Sequence[Line], columns: Sequence[Column], folder: Path, *, seeds: int, resamples: int, device: str
) -> list[Cell]:
    """Column after column. UserError where two would have one file."""
    found = []
    for column in columns:
        budget = Budget(column.fraction, mode=column.plan.mode, device=device, cache=folder / "cache")
        for line in lines:
            path = folder / "results" / f"{_slug(line.name)}--{_slug(column.title)}.json"
            models = tuple(model for model in line.models for _ in range(seeds))
            method = Method(models, line.like, line.name, path)
            job = Job(column.plan, column.task, Data(column.data, None), method, budget, resamples)
            found.append(Cell(line, column, job, path))
    paths = [cell.path for cell in found]
    if twice := next((cell for cell in found if paths.count(cell.path) > 1), None):
        raise UserError(f"two cells would be written to {twice.path}: give names (NAME=MODEL), or rename a folder")
    return found


def carry_out(every: Sequence[Cell]) -> dict[Cell, Outcome]:
    """Of each cell what is there, was measured, is lacking, or why it failed; a line each on the log."""
    found = {cell: known for cell in every if (known := _known(cell))}
    missing = [cell for cell in every if cell not in found]
    dashes = sum(bool(each.lacks) for each in found.values())
    log.info(
        "%d cells: %d to measure, %d already measured, %d not applicable (the model or the folder lacks something)",
        *(len(every), len(missing), len(found) - dashes, dashes),
    )
    spent = {cell: each.results.seconds for cell, each in found.items() if each.results}
    for number, cell in enumerate(missing, 1):
        started = time.perf_counter()
        found[cell] = _attempt(cell)
        spent[cell] = time.perf_counter() - started
        left = remaining(missing[number:], spent)
        place = f"{number:{len(str(len(missing)))}}/{len(missing)}"
        log.info("[%s] %s: %s, %.0f s%s", place, cell.title, _shown(found[cell]), spent[cell], left)
    return {cell: found[cell] for cell in every}


def remaining(missing: Sequence[Cell], spent: Mapping[Cell, float]) -> str:
    """About how long the missing cells take: as those of their model and task did, or of their column, task, or all."""
    if not missing:
        return ""

    def like(cell: Cell) -> float:
        task = [each for each in spent if each.column.what == cell.column.what]
        alike = (
            [each for each in task if each.line is cell.line],
            [each for each in task if each.column is cell.column],
            task,
            spent,
        )
        return next((mean(spent[each] for each in some) for some in alike if some), 0.0)

    seconds = sum(map(like, missing))
    return f"; about {seconds / 60:.0f} min left" if seconds >= 90 else f"; about {seconds:.0f} s left"


def _known(cell: Cell) -> Outcome | None:
    """Of a cell that needs no work."""
    if cell.column.lacks:
        return Outcome(lacks=cell.column.lacks)
    try:
        kept = stamps.read(cell.path, stamps.stamp(cell.job))
        if kept is None:
            return None
        return Outcome(None if kept.lacks else read_results(cell.path), kept.lacks, warnings=kept.warnings)
    except UserError:  # such as a model that cannot be fetched: measuring says so
        return None


def _attempt(cell: Cell) -> Outcome:
    with _warnings() as given:
        try:
            stamp = stamps.stamp(cell.job)
            outcome = Outcome(results_of(cell.job, cell.path))
        except Lacking as error:
            outcome = Outcome(lacks=str(error))
        except UserError as error:
            return Outcome(failed=str(error))
        except Exception as error:  # of one cell among many, hours into the work
            detail.error("%s", cell.title, exc_info=error)
            first = (str(error).strip() or "no message").splitlines()[0][:200]
            return Outcome(failed=f"{type(error).__name__}: {first} (bench.log has the details)")
    outcome = outcome._replace(warnings=tuple(dict.fromkeys(given)))
    stamps.write(cell.path, stamp, lacks=outcome.lacks, warnings=outcome.warnings)
    return outcome


def _shown(outcome: Outcome) -> str:
    if outcome.results is None:
        return f"failed: {outcome.failed}" if outcome.failed else f"excluded: {outcome.lacks}"
    metric, estimate = next(iter(outcome.results.metrics.items()))
    return f"{metric} {percent(estimate)}"


@contextmanager
def details(path: Path) -> Iterator[None]:
    """Everything goes to the file, and elsewhere only our own lines."""
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ours, root = logging.Filter(__name__.rpartition(".")[0]), logging.getLogger()
    others = list(root.handlers)
    for handler in others:
        handler.addFilter(ours)
    root.addHandler(file)
    try:
        yield
    finally:
        root.removeHandler(file)
        file.close()
        for handler in others:
            handler.removeFilter(ours)


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.given: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.given.append(record.getMessage())


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Those that are given inside."""
    handler = _Warnings()
    logging.getLogger().addHandler(handler)
    try:
        yield handler.given
    finally:
        logging.getLogger().removeHandler(handler)


def _slug(name: str) -> str:
    return re.sub(r"([^\w.]|_)+", "-", name.lower()).strip("-.")
