"""Paired tests of every line of a bench against one of them, corrected together; those of the same results are kept."""

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from imitate.bench.cells import Cell, Outcome
from imitate.config import validate
from imitate.errors import UserError
from imitate.tasks.comparison import Difference, Measured, adjusted, read_measured, tests
from imitate.tasks.results import digest_of, file_digest, write_text

log = logging.getLogger(__name__)


class Tested(NamedTuple):
    """``untested`` says of a cell why it has no test."""

    differences: dict[Cell, Difference]
    untested: dict[Cell, str]


def against(reference: str, found: Mapping[Cell, Outcome], *, kept: Path, resamples: int) -> Tested:
    """In the main metric of each column; ``p_holm`` is over all of them. ``kept`` is the file of those made before."""
    known: dict[str, Any] = {}
    with suppress(OSError, ValueError):  # absent or damaged: they are made again
        known = json.loads(kept.read_text(encoding="utf-8"))
    made: dict[str, Difference] = {}
    differences: dict[Cell, Difference] = {}
    untested: dict[Cell, str] = {}
    measured = [cell for cell, each in found.items() if each.results]
    first = {cell.column: cell for cell in measured if cell.line.name == reference}
    read: dict[Path, Measured] = {}
    for cell in measured:
        if cell.line.name == reference:
            continue
        if (other := first.get(cell.column)) is None:
            untested[cell] = f"the reference {reference} was not measured on it"
            continue
        key = digest_of(file_digest(other.path), file_digest(cell.path), resamples)
        try:
            test = _kept(known, key, kept) or _test(other, cell, read, resamples)
        except UserError as error:
            untested[cell] = str(error)
            continue
        made[key] = differences[cell] = test
    write_text(kept, json.dumps({key: each.model_dump(mode="json") for key, each in made.items()}, indent=1))
    corrected = adjusted(list(differences.values()))
    return Tested(dict(zip(differences, corrected, strict=True)), untested)


def _kept(known: Mapping[str, Any], key: str, where: Path) -> Difference | None:
    return validate(Difference, known[key], where=str(where)) if key in known else None


def _test(reference: Cell, cell: Cell, read: dict[Path, Measured], resamples: int) -> Difference:
    """``read`` keeps the predictions of the reference in this column."""
    if reference.path not in read:
        read.clear()
        read[reference.path] = read_measured(reference.path)
    (found,) = tests(read[reference.path], [read_measured(cell.path)], resamples=resamples)
    return found
