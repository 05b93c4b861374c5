"""Paired tests of every row of a study against its reference, from the predictions that the runner left in WORK.

    python experiments/compare.py --work WORK --out docs/results/open_i      (writes differences.json there)

Seeds and patients are drawn together, the same ones for both rows. All tests of a family (study.json says which row is
in which), over all tasks, share one Holm correction. About ten minutes for the whole Open-i study on one core.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from imitate.compare import compare
from imitate.statistics import holm

log = logging.getLogger("study")
RESAMPLES = 10_000  # with about fifty tests a family, p = 2 / 10,001 is still below .05 after Holm


def differences(results: Path, study: dict[str, Any], *, resamples: int) -> list[dict[str, Any]]:
    """One a row and task, on the task's main figure."""
    tasks: dict[tuple[str, float], dict[str, Path]] = {}
    for file, (row, measure, fraction) in study["results"].items():
        tasks.setdefault((measure, fraction), {})[row] = results / file
    found = []
    for (measure, fraction), files in tasks.items():
        reference = files.pop(study["reference"], None)
        if reference is None or not files:
            continue
        log.info("%s: %d rows", measure, len(files))
        where = {"measure": measure, "fraction": fraction}
        for row, each in zip(files, compare(reference, *_two(files), resamples=resamples), strict=True):
            found.append({"family": study["families"][row], **where, **each.model_dump(mode="json"), "b": row})
    return found


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
    found = corrected(differences(arguments.work / "results", study, resamples=arguments.resamples))
    (arguments.out / "differences.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
