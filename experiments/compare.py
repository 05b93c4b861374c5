"""Paired tests of every method of a study against its reference; adds them to study.json.

    python experiments/compare.py docs/results/open_i --work WORK    (from the predictions that the runner left in WORK)
    python experiments/compare.py docs/results/small                 (from the predictions or resamples that are kept)
    python experiments/compare.py docs/results/confirm_open_i docs/results/confirm_synthetic

The tests are those of ``imitate compare``. All tests of a family (study.json says which method is in which) share one
Holm correction, over all tasks and over all studies that are given together.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import drawn
from imitate.errors import UserError
from imitate.statistics.intervals import holm
from imitate.tasks.base import Results
from imitate.tasks.comparison import read_measured, tests
from imitate.tasks.results import file_digest, write_results
from layout import SCORES, Folder, Json, read_folder, read_scores, write_about
from study import Cell

log = logging.getLogger("study")
RESAMPLES = 10_000
RESULTS = "results.csv"
ALIKE = 1e-6  # values of the same predictions differ by less: results.csv has eight digits


Tests = Callable[[Cell, Sequence[Cell]], list[Json]]
"""Of a task: the differences of the other cells from the first."""


def differences(paths: Mapping[Cell, Path], about: Json, *, resamples: int) -> list[Json]:
    """From predictions; one a method and task, on the task's main metric: the method minus its family's reference."""

    def tested(reference: Cell, others: Sequence[Cell]) -> list[Json]:
        measured = read_measured(paths[reference]), [read_measured(paths[other]) for other in others]
        kept = {"metric", "difference", "low", "high", "p", "p_delong"}
        return [test.model_dump(mode="json", include=kept) for test in tests(*measured, resamples=resamples)]

    return _differences(list(paths), about, tested)


def from_resamples(study: Folder, folder: Path) -> list[Json]:
    """From the main metrics with their patients drawn again. UserError where two cells differ in what is averaged."""
    known = drawn.read(folder / drawn.FILE)

    def tested(reference: Cell, others: Sequence[Cell]) -> list[Json]:
        a, metric = study.results[reference], study.main_metric(reference)
        found = []
        for other in others:
            b = study.results[other]
            if _defined(a) != _defined(b):
                raise UserError(f"{reference} and {other} have values of other classes: measure them again")
            test = drawn.test(a, b, (known[reference.file], known[other.file]))
            found.append({"metric": metric, **test._asdict(), "p_delong": None})
        return found

    return _differences(study.cells, study.about, tested)


def _defined(results: Results) -> set[str]:
    return {name for name, each in results.metrics.items() if each.value is not None}


def _differences(cells: Sequence[Cell], about: Json, tested: Tests) -> list[Json]:
    found: list[Json] = []
    for task, fraction in dict.fromkeys(cell[1:] for cell in cells):
        if task in about.get("untested", ()):
            continue
        for family, names in _comparisons(about).items():
            reference, *others = (Cell(name, task, fraction) for name in names)
            others = [cell for cell in others if cell in cells]
            if reference not in cells or not others:
                continue
            log.info("%s at %g%%: %d methods", task, 100 * fraction, len(others))
            where = [{"family": family, "method": cell.method, "reference": reference.method} for cell in others]
            at = {"task": task, "fraction": fraction}
            found += [each | at | test for each, test in zip(where, tested(reference, others), strict=True)]
    return found


def _comparisons(about: Json) -> dict[str, list[str]]:
    """Of each family, its reference and the methods that are tested against it."""
    if known := about.get("comparisons"):
        return {family: list(names) for family, names in known.items()}
    found: dict[str, list[str]] = {}
    for name, family in about["families"].items():
        names = found.setdefault(family, [about["reference"]])
        names += [name] if name not in names else []
    return found


def corrected(found: Sequence[Json]) -> None:
    """Writes ``p_holm`` over all tests of a family into them."""
    for family in {each["family"] for each in found}:
        mine = [each for each in found if each["family"] == family]
        for each, p in zip(mine, holm([each["p"] for each in mine]), strict=True):
            each["p_holm"] = p


def check_differences(study: Folder, found: Sequence[Json]) -> None:
    """UserError where a test is not of the results of this folder, such as one of another study's predictions."""
    for each in found:
        names: list[str] = [each["method"], each.get("reference") or study.about["reference"]]  # once one for all
        method, reference = (Cell(name, each["task"], each["fraction"]) for name in names)
        ours, theirs = (_value(study, cell, each["metric"]) for cell in (method, reference))
        if ours is None or theirs is None or _defined(study.results[method]) != _defined(study.results[reference]):
            continue  # the test is over the classes that both have
        if abs(ours - theirs - each["difference"]) > ALIKE:
            raise UserError(
                f"{each['task']}: the predictions of {' or '.join(names)} are not those of "
                "results.csv: give the work folder of this study"
            )


def _value(study: Folder, cell: Cell, metric: str) -> float | None:
    found = study.estimate(cell, metric)
    return found.value if found else None


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


def compared(folder: Path, work: Path | None, resamples: int) -> Json:
    """What study.json keeps of the study's tests, each with its own p."""
    study = read_folder(folder)
    if work:
        paths = {cell: work / "results" / cell.file for cell in study.cells}
        found = differences(paths, study.about, resamples=resamples)
    elif (folder / drawn.FILE).is_file():
        found = from_resamples(study, folder)
        resamples = next(iter(drawn.read(folder / drawn.FILE).values())).values.shape[1]
    else:
        found = from_scores(study, folder, resamples=resamples)
    check_differences(study, found)
    return {"of": file_digest(folder / RESULTS), "resamples": resamples, "tests": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="folder", help="of a study's results")
    parser.add_argument("--work", type=Path, help="the runner's work folder")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        made = {each: compared(each, arguments.work, arguments.resamples) for each in arguments.folders}
    except UserError as error:
        log.info("%s", error)
        return 2
    corrected([test for each in made.values() for test in each["tests"]])
    digests = {folder.resolve().name: each["of"] for folder, each in made.items()}
    for folder, each in made.items():
        others = {name: digest for name, digest in digests.items() if name != folder.resolve().name}
        tested = {**each, "corrected_with": others} if others else each
        write_about(folder, {**read_folder(folder).about, "differences": tested})
    return 0


if __name__ == "__main__":
    sys.exit(main())
