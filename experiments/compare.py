"""Paired tests of every method of a study against its reference; adds them to study.json.

    python experiments/compare.py docs/results/open_i --work WORK    (from the predictions that the runner left in WORK)
    python experiments/compare.py docs/results/small                 (from the predictions.parquet that is committed)

The tests are those of ``imitate compare``. All tests of a family (study.json says which method is in which), over all
tasks, share one Holm correction.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from imitate.errors import UserError
from imitate.statistics.intervals import holm
from imitate.tasks.comparison import read_measured, tests
from imitate.tasks.results import file_digest, write_results
from layout import SCORES, Folder, Json, read_folder, read_scores, write_about
from study import Cell

log = logging.getLogger("study")
RESAMPLES = 10_000


def differences(paths: Mapping[Cell, Path], about: Json, *, resamples: int) -> list[Json]:
    """One a method and task, on the task's main metric: the method minus the reference."""
    found: list[Json] = []
    for task, fraction in dict.fromkeys(cell[1:] for cell in paths):
        files = {cell.method: path for cell, path in paths.items() if cell[1:] == (task, fraction)}
        reference = files.pop(about["reference"], None)
        if reference is None or not files or task in about.get("untested", ()):
            continue
        log.info("%s at %g%%: %d methods", task, 100 * fraction, len(files))
        others = [read_measured(path) for path in files.values()]
        for method, test in zip(files, tests(read_measured(reference), others, resamples=resamples), strict=True):
            values = test.model_dump(mode="json", include={"metric", "difference", "low", "high", "p", "p_delong"})
            found.append(
                {"family": about["families"][method], "method": method, "task": task, "fraction": fraction} | values
            )
    return corrected(found)


def corrected(found: list[Json]) -> list[Json]:
    """With ``p_holm`` over all tests of the family."""
    for family in {each["family"] for each in found}:
        mine = [each for each in found if each["family"] == family]
        for each, p in zip(mine, holm([each["p"] for each in mine]), strict=True):
            each["p_holm"] = p
    return found


def from_scores(study: Folder, folder: Path, *, resamples: int) -> list[Json]:
    """Repeated from predictions.parquet. UserError where the study has none."""
    kept = study.about["predictions"]
    if not kept or not kept["file"]:
        made = study.about["made_by"]["command"]
        raise UserError(f"{folder} has no {SCORES}: make the predictions with `{made}`, then give --work WORK")
    if file_digest(folder / SCORES) != kept["file_sha256"]:
        raise UserError(f"{folder / SCORES} is not the file that study.json names: restore it, or run the study again")
    with tempfile.TemporaryDirectory() as temporary:
        paths = {}
        for cell, runs in read_scores(folder / SCORES).items():
            paths[cell] = Path(temporary) / cell.file
            write_results(study.results[cell], runs, paths[cell])
        return differences(paths, study.about, resamples=resamples)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the study's results")
    parser.add_argument("--work", type=Path, help="the runner's work folder")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    study, resamples = read_folder(arguments.folder), arguments.resamples
    try:
        if arguments.work:
            paths = {cell: arguments.work / "results" / cell.file for cell in study.cells}
            found = differences(paths, study.about, resamples=resamples)
        else:
            found = from_scores(study, arguments.folder, resamples=resamples)
    except UserError as error:
        log.info("%s", error)
        return 2
    of = file_digest(arguments.folder / "results.csv")
    write_about(arguments.folder, {**study.about, "differences": {"of": of, "resamples": resamples, "tests": found}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
