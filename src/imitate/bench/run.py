"""``imitate bench``: measure what is missing, test, and write the page."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from imitate.bench.cells import carry_out, cells, details
from imitate.bench.columns import columns
from imitate.bench.lines import lines
from imitate.bench.page import write_csv, write_page
from imitate.bench.table import Found
from imitate.bench.testing import against
from imitate.data.files import locked
from imitate.errors import UserError
from imitate.inference.encoder import choose_device

log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """The arguments of ``imitate bench``, which has the details."""

    models: Sequence[str]
    data: Sequence[Path]
    tasks: Sequence[str]
    fractions: Sequence[float]
    seeds: int
    like: str | None
    settings: Sequence[str]
    reference: str | None
    resamples: int
    device: str


def run(asked: Asked, out: Path) -> Path:
    """The page. UserError at the end where a cell failed."""
    if min(asked.seeds, asked.resamples) < 1:
        raise UserError(f"seeds {asked.seeds}, resamples {asked.resamples}: each must be at least 1")
    rows = lines(asked.models, like=asked.like)
    names = [line.name for line in rows]
    reference = asked.reference or names[0]
    if reference not in names:
        raise UserError(f"--reference {reference} is not one of the models {', '.join(names)}")
    across = columns(asked.tasks, asked.data, fractions=asked.fractions, settings=asked.settings)
    if out.is_file():
        raise UserError(f"out {out} is a file: give the path of a folder")
    device = choose_device(asked.device)
    try:
        (out / "results").mkdir(parents=True, exist_ok=True)
    except OSError as error:  # below a file, or where nothing may be written
        raise UserError(f"out {out}: cannot make {out / 'results'} ({error.strerror}): give another folder") from error
    every = cells(rows, across, out, seeds=asked.seeds, resamples=asked.resamples, device=device)
    with locked(out / "lock", timeout=0), details(out / "bench.log"):
        outcomes = carry_out(every)
        log.info("paired tests against %s", reference)
        tested = against(reference, outcomes, kept=out / "tests.json", resamples=asked.resamples)
        found = Found(rows, across, outcomes, tested, reference)
        page, numbers = write_page(found, out), write_csv(found, out)
        log.info("%s, %s", page, numbers)
    failed = [f"{cell.title}: {each.failed}" for cell, each in outcomes.items() if each.failed]
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise UserError(f"{len(failed)} of {len(every)} cells failed; {page} lists them: {failed[0]}{more}")
    return page
