"""Measure a method of a study on one task, as ``imitate bench`` measures its cells: only what is missing.

Its argument is what ``Wanted`` holds, as JSON. Results have the names of the study's cells, and beside them the stamps
that say whether they are still of these weights, data, settings and code.
"""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import drawn
from imitate.bench import stamps
from imitate.bench.cells import Cell, carry_out, cells
from imitate.bench.columns import columns
from imitate.bench.lines import Line
from imitate.errors import UserError
from imitate.inference.encoder import choose_device

log = logging.getLogger("study")
RESAMPLES = 1000


class Wanted(NamedTuple):
    """``models`` are the runs of a method, or random or pixels, each fitted ``seeds`` times; ``paths`` is that of the
    results at each fraction, and ``work`` a folder of its own. ``resamples`` of the main metric are kept; 0: none.
    """

    name: str
    models: list[str]
    like: str | None
    seeds: int
    task: str
    data: str
    settings: dict[str, Any]
    paths: dict[str, str]
    work: str
    resamples: int = 0


def cells_of(wanted: Wanted) -> list[Cell]:
    line = Line(wanted.name, tuple(wanted.models), wanted.like)
    settings = [f"{key}={json.dumps(value)}" for key, value in wanted.settings.items()]
    fractions = [float(fraction) for fraction in wanted.paths]
    across = columns([wanted.task], [Path(wanted.data)], fractions=fractions, settings=settings)
    given = {"seeds": wanted.seeds, "resamples": RESAMPLES, "device": choose_device("auto")}
    found = []
    for cell in cells([line], across, Path(wanted.work), **given):  # type: ignore[arg-type]  # each of its own type
        path = Path(wanted.paths[f"{cell.column.fraction:g}"])
        found.append(replace(cell, path=path, job=cell.job._replace(measured=cell.job.measured._replace(out=path))))
    return found


def measured(wanted: Wanted) -> bool:
    """Whether all results are there, and of these models, this data and code."""
    paths = [Path(path) for path in wanted.paths.values()]
    if not all(path.is_file() and (not wanted.resamples or kept(path, wanted.resamples).is_file()) for path in paths):
        return False
    return all(stamps.read(cell.path, stamps.stamp(cell.job)) for cell in cells_of(wanted))


def kept(path: Path, resamples: int) -> Path:
    """Where the resamples of these results are."""
    return path.with_suffix(f".resamples-{resamples}.npz")


def main(argument: str) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    wanted = Wanted(**json.loads(argument))
    if not measured(wanted):  # resamples of earlier results must not survive those
        for path in wanted.paths.values():
            kept(Path(path), wanted.resamples).unlink(missing_ok=True)
    try:
        outcomes = carry_out(cells_of(wanted))
    except UserError as error:
        log.info("%s", error)
        return 2
    for cell, outcome in outcomes.items():
        if outcome.results is None:
            log.info("%s: %s", cell.title, outcome.failed or outcome.lacks)
        elif wanted.resamples:
            drawn.write(kept(cell.path, wanted.resamples), {"": drawn.draw(cell.path, wanted.resamples)})
    return int(any(outcome.results is None for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
