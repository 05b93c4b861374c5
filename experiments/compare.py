"""Paired tests of every row of a study against its reference, from the predictions that the runner left in WORK.

    python experiments/compare.py --work WORK --out docs/results/open_i      (writes differences.json there)

Seeds and patients are drawn together, the same ones for both rows. All tests of a family (study.json says which row is
in which), over all tasks, share one Holm correction. A row is compared once: again only where its results or the
reference's are others.
"""

import argparse
import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

from imitate.commands.compare import compare
from imitate.statistics.resampling import holm

log = logging.getLogger("study")
RESAMPLES = 10_000  # with about fifty tests a family, p = 2 / 10,001 is still below .05 after Holm


def differences(
    results: Path, study: dict[str, Any], known: list[dict[str, Any]], *, resamples: int
) -> list[dict[str, Any]]:
    """One a row and task, on the task's main figure; from ``known`` where it is of the same results."""
    tasks: dict[tuple[str, float], dict[str, Path]] = {}
    for file, (row, measure, fraction) in study["results"].items():
        tasks.setdefault((measure, fraction), {})[row] = results / file
    answers = {each["of"]: each for each in known}
    found = []
    for (measure, fraction), files in tasks.items():
        reference = files.pop(study["reference"], None)
        if reference is None:
            continue
        of = {row: digest(reference, path, resamples) for row, path in files.items()}
        new = {row: path for row, path in files.items() if of[row] not in answers}
        log.info("%s at %g%%: %d rows", measure, 100 * fraction, len(new))
        for row, each in zip(new, compare(reference, *_two(new), resamples=resamples) if new else (), strict=True):
            answers[of[row]] = each.model_dump(mode="json")
        for row in files:
            where = {"family": study["families"][row], "measure": measure, "fraction": fraction}
            found.append({**answers[of[row]], **where, "b": row, "of": of[row]})
    return found


def digest(reference: Path, other: Path, resamples: int) -> str:
    """Of everything that a difference is made from."""
    content = reference.read_bytes() + other.read_bytes() + str(resamples).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _two(files: dict[str, Path]) -> tuple[Path, tuple[Path, ...]]:
    first, *more = files.values()
    return first, tuple(more)


def corrected(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With ``p_holm`` over all tests of the family."""
    for family in {each["family"] for each in found}:
        mine = [each for each in found if each["family"] == family]
        for each, p in zip(mine, holm([each["p"] for each in mine]), strict=True):
            each["p_holm"] = p
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    study = json.loads((arguments.out / "study.json").read_text(encoding="utf-8"))
    path = arguments.out / "differences.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    found = corrected(differences(arguments.work / "results", study, known, resamples=arguments.resamples))
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
